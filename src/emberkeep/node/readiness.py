"""When a VM that was started from nothing is ready for its snapshot."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from emberkeep.domain.errors import NotFound
from emberkeep.domain.images import BuildFailed, FailureCode, Source
from emberkeep.domain.requests import ExecRequest
from emberkeep.guestlink.agent import Agent
from emberkeep.node.link import Link

_BOOT_DEADLINE_S: Final = 300.0
# what nearly every launch does first: its code is then in the guest's page cache, and what the
# agent does for it has found its quick way (the interpreter needs some rounds for that)
_WARM_UP: Final = (
    ("python3", "-c", "import json, os, subprocess, sys"),
    ("sh", "-c", "echo; ls /; cat /etc/hostname"),
    *[("echo",)] * 8,
)
_FAILED: Final = "EMBERKEEP-FAILED: agent: "  # the agent's word for: there is no workload
_OF_WORKLOAD: Final = "workload: "


async def reached(link: Link, source: Source, tell: Callable[[str], None]) -> None:
    """Wait until the workload of `source` is ready, and freeze it.

    Raises `BuildFailed` where it will never be.
    """
    agent = await link.ready(deadline_s=_BOOT_DEADLINE_S)
    if not source.root.main.argv:
        await _warmed(agent)
    await link.freeze(deadline_s=_BOOT_DEADLINE_S, clones=True)


def check_started(console: Sequence[str]) -> None:
    """Raise `BuildFailed` if `console` says that the main process could not be started."""
    for line in console:
        if line.startswith(_FAILED):
            said = [it.removeprefix(_OF_WORKLOAD) for it in console if it.startswith(_OF_WORKLOAD)]
            why = "; ".join([*said[-2:], line.removeprefix(_FAILED)])
            raise BuildFailed(
                FailureCode.CONTAINER_BUILD_FAILED, f"The container could not be started: {why}"
            )


async def _warmed(agent: Agent) -> None:
    for argv in _WARM_UP:
        with suppress(NotFound):  # an image without Python needs no warm Python
            async for _ in await agent.exec(ExecRequest(argv=argv, timeout_s=120)):
                pass
