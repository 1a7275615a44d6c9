"""Goes through what is to come, so that it is quick then: thaws, first commands, freezes.

Without KVM the first run of any code costs its translation, which is most of a launch or a suspend.
The workload has no part in it: operation `rehearse`, for a microVM that is made ready ahead of
time, runs the agent's own command, or one of a base image that the host vouches for, beside the
container, which stays frozen.
"""

# pathlib would be one more import.
# ruff: noqa: PTH103

import asyncio
import os
from contextlib import suppress
from typing import Final

from emberkeep_guest import execs
from emberkeep_guest.agent import Agent, Call
from emberkeep_guest.enter import Place
from emberkeep_guest.errors import OperationFailed
from emberkeep_guest.freezer import Freezer
from emberkeep_guest.request import Request

_OWN: Final = "--version"  # has our init say a line and end
_VOUCHED: Final = ("echo", "x")
_LATER: Final = 1.0  # seconds behind a thaw: the first command comes before


async def rehearse(agent: Agent, call: Call) -> None:
    """Thaw and freeze the disk and an empty cgroup, and run a command as `exec` would.

    With `base` that is a command of the image below the microVM's own files: to be asked for only
    where the image is the host's.
    """
    if not agent.freezer.frozen:
        raise OperationFailed("refused", "the workload is not frozen")
    base = call.request.flag("base")
    argv = [*_VOUCHED] if base else [agent.places.init, _OWN]
    cgroup = _cgroup(agent)
    stage = _stage(agent, cgroup, agent.places.base if base else "/")
    try:
        agent.disk.thaw()
        agent.disk.freeze()
        await _freeze(cgroup)
        command = {"op": "exec", "argv": argv, "user": "0", "cwd": "/"}
        await execs.execute_in(stage, agent, Call(call.session, call.stream, Request(command)))
    finally:
        stage.close()


def rehearse_freeze_soon(agent: Agent) -> None:
    """Go through a freeze, of nothing, when the microVM has run for a moment."""

    async def act() -> None:
        await asyncio.sleep(_LATER)
        if not agent.freezer.frozen:
            with suppress(OSError, OperationFailed):
                agent.disk.quick()
                await _freeze(_cgroup(agent))

    agent.beside(act())


async def _freeze(cgroup: str) -> None:
    freezer = Freezer(cgroup)
    try:
        await freezer.freeze()
        freezer.thaw()
    finally:
        freezer.close()


def _cgroup(agent: Agent) -> str:
    """Return an empty cgroup."""
    path = f"{agent.places.cgroups}/rehearsal"
    os.makedirs(path, exist_ok=True)
    return path


def _stage(agent: Agent, cgroup: str, root: str) -> Place:
    """Return the agent's own surroundings, with `root` as the root, as if they were a container."""
    return Place(
        pidfd=os.pidfd_open(os.getpid()),
        pid_namespace=os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC),
        root=os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
        mask=agent.workload.place.mask,
        cgroup=os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),
        chroot=root,
    )
