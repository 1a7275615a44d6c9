"""The real API on a port of this machine, with a node that needs no virtual machines."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn

from emberkeep.api import SERVER_OPTIONS, build_app
from emberkeep.blobs.uploads import Uploads
from emberkeep.control.keyring import Keyring, new
from emberkeep.domain.limits import ACCOUNT
from tests.fakes.catalogue import FakeImages
from tests.fakes.keys import FakeAccessKeys, Keys
from tests.unit.sdk.machines import LocalNode

KEY = "AKIATESTTESTTEST.secretsecretsecret"


@dataclass(frozen=True)
class Serving:
    """Where the server is, and what is behind it."""

    endpoint: str
    node: LocalNode
    ended: list[str]
    images: FakeImages


@contextmanager
def serving(root: Path) -> Iterator[Serving]:
    """Serve as long as the block lasts."""
    node = LocalNode(root)
    ended: list[str] = []
    images, uploads = FakeImages(), Uploads(root / "uploads")
    uploads.prepare()

    keyring = Keyring(FakeAccessKeys(), lambda: 1_800_000_000.0)
    app = build_app(
        node,
        Keys.one(KEY),
        "0.1.0",
        images=images,
        uploads=uploads,
        keyring=keyring,
        services=("s3",),
        shutdown=ended.append,
    )
    options = {**SERVER_OPTIONS, "log_level": "warning", "lifespan": "off"}
    server = uvicorn.Server(uvicorn.Config(app, **options))
    listener = socket.create_server(("127.0.0.1", 0))
    ready = threading.Event()

    async def run() -> None:
        own = new(ACCOUNT, 1_700_000_000.0)
        await keyring.load(replace(own, admin=True))
        asyncio.get_running_loop().call_later(0.01, ready.set)
        await server._serve([listener])

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        ready.wait(5)
        port = listener.getsockname()[1]
        yield Serving(f"http://127.0.0.1:{port}", node, ended, images)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
