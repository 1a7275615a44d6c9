"""Operations around a snapshot: what must happen before it is taken and after it is restored."""

import base64
import binascii
import os
from typing import Any, Final

from emberkeep_guest import identity, sockets
from emberkeep_guest.agent import Agent, Call
from emberkeep_guest.errors import OperationFailed
from emberkeep_guest.messages import send_message
from emberkeep_guest.rehearsal import rehearse_freeze_soon

VERSION: Final = "0.1.0"
_LEAST_ENTROPY: Final = 64
_MOST_ENTROPY: Final = 4096


async def status(agent: Agent, _call: Call) -> dict[str, Any]:
    """Say who and how we are."""
    ended = agent.workload.status
    frozen = agent.freezer.frozen
    return {
        "agent": VERSION,
        "workload": "exited" if ended is not None else "frozen" if frozen else "running",
        "exit_code": None if ended is None else exit_code(ended),
        "frozen": frozen,
        "microvm_id": agent.microvm_id,
    }


async def freeze(agent: Agent, call: Call) -> None:
    """Stop the workload and its disk, say so, and then nothing more."""
    await agent.freezer.freeze()
    try:
        if call.request.flag("clones"):
            sockets.kill_outbound_if_possible()  # no two may go on with one connection
        if not agent.disk.quick():
            await agent.in_fork(os.sync)
        agent.disk.freeze()
    except BaseException:
        _let_go(agent)
        raise
    agent.board.wipe()  # the thaw brings it again, with credentials that are valid then
    await send_message(call.stream, {"ok": True}, eof=True)
    await call.session.close()


async def wake(agent: Agent, call: Call) -> dict[str, Any]:
    """Repair what a restore leaves wrong, before the workload sees any of it."""
    if not agent.freezer.frozen:
        raise OperationFailed("refused", "the workload is not frozen")
    request = call.request
    try:
        fresh = base64.b64decode(request.text("entropy"), validate=True)
    except binascii.Error:
        raise OperationFailed("invalid", "entropy: not base64") from None
    if not _LEAST_ENTROPY <= len(fresh) <= _MOST_ENTROPY:
        raise OperationFailed("invalid", f"entropy: {len(fresh)} bytes")
    new = identity.Identity(request.within("identity")) if request.has("identity") else None
    agent.clock.set_wall(request.integer("wall_ns"))
    agent.entropy.add(fresh)
    if new is not None:
        agent.workload.own.assume(new)
        agent.microvm_id = new.microvm_id
        agent.console.output.forget()
        agent.board.renew()
    else:  # a clone has none: they were ended when its snapshot was taken
        sockets.kill_outbound_if_possible()
    return {}


async def thaw(agent: Agent, call: Call) -> dict[str, Any]:
    """Set the clock once more, now that the way here is warm, and let the workload go on."""
    agent.clock.set_wall(call.request.integer("wall_ns"))
    if call.request.has("metadata"):
        _show(agent, call.request.text("metadata"))
    _let_go(agent)
    rehearse_freeze_soon(agent)
    return {"wall_ns": agent.clock.read()["wall_ns"]}


def _let_go(agent: Agent) -> None:
    """Undo `freeze`: the disk before those who write to it."""
    if agent.freezer.frozen:
        agent.disk.thaw()
        agent.freezer.thaw()
        agent.thawed()


async def metadata(agent: Agent, call: Call) -> dict[str, Any]:
    """Replace what the metadata service shows."""
    _show(agent, call.request.text("metadata"))
    return {}


def _show(agent: Agent, document: str) -> None:
    try:
        agent.board.write(document.encode())
    except ValueError as error:  # no Unicode, or too long
        raise OperationFailed("invalid", f"metadata: {error}") from None


async def set_clock(agent: Agent, call: Call) -> dict[str, Any]:
    """Set the clock if told to, and say what it shows."""
    if call.request.has("wall_ns"):
        agent.clock.set_wall(call.request.integer("wall_ns"))
    return dict(agent.clock.read())


def exit_code(status: int) -> int:
    """Return the exit code a shell would show for a wait status."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
