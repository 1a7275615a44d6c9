"""A node in this process, so that a bar may choose what configuration does not offer."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from emberkeep.domain.microvms import MicroVM
from emberkeep.domain.requests import ExecRequest, LaunchRequest
from emberkeep.domain.units import Memory, Size
from emberkeep.node.node import Node
from emberkeep.node.shapes import Shapes
from emberkeep.vmm.shape import Shape
from tests.bars.servers import IMAGE
from tests.vm import nodes


class _Pinned(Shapes):
    """Shapes of one machine type, whatever the host's is."""

    def __init__(self, like: Shapes, machine: str) -> None:
        self._like, self._pinned = like, machine

    def of(self, *args: Any, **options: Any) -> Shape:
        """Return the same shape on that machine."""
        return replace(self._like.of(*args, **options), machine=self._pinned)


@asynccontextmanager
async def node(data: Path, *, machine: str = "", qemu: str = "") -> AsyncGenerator[Node]:
    """Run a node on `data` for the length of the block."""
    async with nodes.node(data, qemu=qemu) as (one, _):
        if machine:
            images = one.ground.images
            images._shapes = _Pinned(images._shapes, machine)
        yield one


async def launched(one: Node, name: str) -> MicroVM:
    """Launch a microVM."""
    return await one.launch(LaunchRequest(image=IMAGE, name=name, size=Size(Memory(512))))


async def output(one: Node, ref: str, *argv: str) -> str:
    """Run a command in a microVM and return what it prints."""
    live = one.ground.running.get((await one.show(ref)).id)
    assert live is not None
    agent = await live.link.ready(deadline_s=60)
    session = await agent.exec(ExecRequest(argv=argv, timeout_s=60))
    text = b""
    async with asyncio.timeout(90):
        async for _, piece in session:
            text += piece
    assert session.exit is not None
    assert session.exit.code == 0, text
    return text.decode()
