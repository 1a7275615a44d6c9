"""When a VM that was started from nothing is ready for its snapshot."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from emberkeep.base import aio
from emberkeep.domain.errors import GuestError, NotFound
from emberkeep.domain.images import BuildFailed, FailureCode, Source
from emberkeep.domain.requests import ExecRequest
from emberkeep.guestlink.agent import Agent
from emberkeep.guestlink.faults import harmless
from emberkeep.node import pace
from emberkeep.node.hooks import Hook, HookFailed, polled
from emberkeep.node.link import Link

Tell = Callable[[str], None]

LOOK_S: Final = 0.5  # between two looks at a workload without a ready hook
MOST_S: Final = 120.0  # so long it is looked at; what it is then is what is taken
_QUIET_SHARE: Final = 0.05  # of one processor: a workload that uses less is at rest
_QUIET_LISTENING: Final = 3  # looks in a row at rest, of one that listens
_QUIET_SILENT: Final = 10  # and of one that does not
_BOOT_DEADLINE_S: Final = 300.0
_LAST_LINES: Final = 5
_LAST_WORDS_S: Final = 0.5  # what it wrote last may still be on its way
_LONGEST_LINE: Final = 4096
_LONGEST_WORD: Final = 400  # characters of a line that is given as a reason
_RATE: Final = 1 << 20  # bytes per second that a workload may have told
_COST: Final = 64  # bytes that a line counts beside its own
# what nearly every launch does first: its code is then in the guest's page cache, and what the
# agent does for it has found its quick way (the interpreter needs some rounds for that)
_WARM_UP: Final = (
    ("python3", "-c", "import json, os, subprocess, sys"),
    ("sh", "-c", "echo; ls /; cat /etc/hostname"),
    *[("echo",)] * 8,
)
_FAILED: Final = "EMBERKEEP-FAILED: agent: "  # the agent's word for: there is no workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A workload that is to become ready: whose it is, who is told, how slow this host is."""

    source: Source
    tell: Tell
    patience: float = 1  # hooks have so many times their timeouts


async def reached(link: Link, stage: Stage) -> None:
    """Wait until the workload is ready, and freeze it.

    Raises `BuildFailed` where it will never be, `WrongPace` where it must be booted again.
    """
    agent = await link.ready(deadline_s=_BOOT_DEADLINE_S)
    begin = await pace.check(agent)
    if stage.source.root.main.argv:
        await asked(agent, stage, Hook.READY)
    else:
        await _warmed(agent)
    await pace.check(agent, begin)
    await link.freeze(deadline_s=_BOOT_DEADLINE_S, clones=True)


async def asked(agent: Agent, stage: Stage, hook: Hook) -> None:
    """Wait until a build's hook succeeds, or the workload seems ready where there is none.

    What the main process writes goes to `tell` by lines. Raises `BuildFailed` (spec §3.5, §4.5).
    """
    last: deque[str] = deque(maxlen=_LAST_LINES)

    def heard(lines: Sequence[str]) -> None:
        last.extend(lines)
        stage.tell("\n".join(lines))

    async with aio.beside(relayed(agent, heard)):
        await aio.first(_succeeded(agent, stage, hook), _exited(agent, last))


async def relayed(agent: Agent, tell: Callable[[Sequence[str]], None]) -> None:
    """Tell what the main process writes, some lines at once, until the session ends.

    A flood waits, or is lost, in there: it has a share of our time, however short its lines are.
    """
    rest = b""
    with suppress(GuestError):  # whoever asks for something else is told
        async for _, data in agent.output():
            *whole, rest = (rest + data).split(b"\n")
            if len(rest) > _LONGEST_LINE:
                whole, rest = [*whole, rest], b""
            if whole:
                tell([_line(line) for line in whole])
            await asyncio.sleep((len(data) + _COST * len(whole)) / _RATE)
    if rest:
        tell([_line(rest)])


def _line(data: bytes) -> str:
    return data[:_LONGEST_LINE].rstrip(b"\r").decode(errors="replace")


async def _succeeded(agent: Agent, stage: Stage, hook: Hook) -> None:
    hooks, tell = stage.source.hooks, stage.tell
    within_s = hooks.ready if hook is Hook.READY else hooks.validate
    if hooks.port is None or within_s is None:
        await _at_rest(agent, tell)
        return
    tell(f"waiting for the {hook} hook at port {hooks.port}, {within_s} s at most")
    try:
        await polled(agent, hooks.port, hook, within_s=within_s, patience=stage.patience)
    except HookFailed as failure:
        raise BuildFailed(FailureCode.CONTAINER_BUILD_FAILED, str(failure)) from failure


async def _exited(agent: Agent, last: Sequence[str]) -> None:
    code = await agent.ended()
    await asyncio.sleep(_LAST_WORDS_S)
    words = "".join(f"\n    {harmless(line[:_LONGEST_WORD])}" for line in last) or " nothing"
    raise BuildFailed(
        FailureCode.CONTAINER_BUILD_FAILED,
        f"The container stopped with exit code {code} before it was ready; it wrote last:{words}",
    )


@dataclass(slots=True)
class Rest:
    """Judges from looks at a workload whether it has come to rest (docs/snapshots.md)."""

    cpu_s: float = 0.0
    at_s: float = 0.0
    quiet: int = 0

    def reached(self, *, cpu_s: float, at_s: float, listening: bool) -> bool:
        """Take a look: what it has computed by a time, both in seconds of the guest."""
        share = (cpu_s - self.cpu_s) / max(at_s - self.at_s, 0.01)
        first = self.at_s == 0
        self.cpu_s, self.at_s = cpu_s, at_s
        self.quiet = 0 if first or share > _QUIET_SHARE else self.quiet + 1
        return self.quiet >= (_QUIET_LISTENING if listening else _QUIET_SILENT)


async def _at_rest(agent: Agent, tell: Tell) -> None:
    """Wait until the workload listens and is at rest; one that never is, is taken as it is."""
    tell("there is no ready hook: waiting until the application listens and is at rest")
    rest = Rest()
    try:
        async with asyncio.timeout(MOST_S):
            while True:
                look = await agent.activity()
                if rest.reached(
                    cpu_s=look.cpu_s, at_s=look.uptime_s, listening=bool(look.ports)
                ):  # fmt: skip
                    ports = ", ".join(map(str, look.ports)) or "no port"
                    tell(f"the application is at rest and listens on {ports}")
                    return
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        tell(f"the application is not at rest after {MOST_S:g} s: it is taken as it is")


def check_started(console: Sequence[str]) -> None:
    """Raise `BuildFailed` if `console` says that the main process could not be started."""
    for line in console:
        if line.startswith(_FAILED):
            why = line.removeprefix(_FAILED)
            raise BuildFailed(
                FailureCode.CONTAINER_BUILD_FAILED, f"The container could not be started: {why}"
            )


async def _warmed(agent: Agent) -> None:
    for argv in _WARM_UP:
        with suppress(NotFound):  # an image without Python needs no warm Python
            async for _ in await agent.exec(ExecRequest(argv=argv, timeout_s=120)):
                pass
