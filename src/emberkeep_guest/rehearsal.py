"""Operation `rehearse`: what a thaw and a first command do, before there is a microVM to do it in.

Without KVM the first run of any code costs its translation, which is most of a launch. So a
microVM that is made ready ahead of time goes through it, as often as the host likes. The workload
stays frozen and nothing of its image is run: the command is the agent's own, in its own namespaces.
"""

# pathlib would be one more import.
# ruff: noqa: PTH103

import os
from typing import Final

from emberkeep_guest import execs
from emberkeep_guest.agent import Agent, Call
from emberkeep_guest.enter import Place
from emberkeep_guest.errors import OperationFailed
from emberkeep_guest.freezer import Freezer
from emberkeep_guest.request import Request

_OPTION: Final = "--version"  # has it say a line and end


async def rehearse(agent: Agent, call: Call) -> None:
    """Thaw and freeze the disk and an empty cgroup, and run a command as `exec` would."""
    if not agent.freezer.frozen:
        raise OperationFailed("refused", "the workload is not frozen")
    cgroup = f"{agent.places.cgroups}/rehearsal"
    os.makedirs(cgroup, exist_ok=True)
    stage = _stage(agent, cgroup)
    try:
        agent.disk.thaw()
        agent.disk.freeze()
        freezer = Freezer(cgroup)
        await freezer.freeze()
        freezer.thaw()
        freezer.close()
        command = {"op": "exec", "argv": [agent.places.init, _OPTION], "user": "0", "cwd": "/"}
        await execs.execute_in(stage, agent, Call(call.session, call.stream, Request(command)))
    finally:
        stage.close()


def _stage(agent: Agent, cgroup: str) -> Place:
    """Return the agent's own surroundings as if they were a container."""
    return Place(
        pidfd=os.pidfd_open(os.getpid()),
        pid_namespace=os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC),
        root=os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
        mask=agent.workload.place.mask,
        cgroup=os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),
    )
