"""Operations `processes` and `signal`: what runs in the container."""

# pathlib would be one more import, and most of these are files of the kernel.
# ruff: noqa: PTH123

import asyncio
import os
import signal as signals
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from emberkeep_guest import users
from emberkeep_guest.agent import Agent, Call
from emberkeep_guest.errors import OperationFailed, os_failure

_MOST: Final = 2000
_COMMAND: Final = 200
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_INNER: Final = 2  # the word of the line NSpid that holds the pid in the container


async def processes(agent: Agent, _call: Call) -> dict[str, Any]:
    """List the processes of the container."""
    names = users.names(agent.root)
    found = []
    inner: dict[int, int] = {}
    for pid in _pids(agent.places.cgroup):
        with suppress(OSError, ValueError, IndexError):
            process = _described(pid, names)
            inner[pid] = process["pid"]
            found.append(process)
        await asyncio.sleep(0)
    for process in found:
        process["ppid"] = inner.get(process["ppid"], 0)
    found.sort(key=lambda process: int(process["pid"]))
    return {"processes": found[:_MOST], "truncated": len(found) > _MOST}


async def signal(agent: Agent, call: Call) -> dict[str, Any]:
    """Send a signal to a process of the container, or to its process group."""
    wanted = call.request.integer("pid", least=1)
    number = call.request.integer("signal", least=1, most=64)
    for pid in _pids(agent.places.cgroup):
        with suppress(OSError, ValueError, IndexError):
            pidfd = os.pidfd_open(pid)
            try:
                if int(_status(pid)["NSpid"].split()[_INNER - 1]) != wanted:
                    continue
                _send(pid, pidfd, number, group=call.request.flag("group"))
            finally:
                os.close(pidfd)
            return {}
    raise OperationFailed("not_found", f"there is no process {wanted} in the container")


def _send(pid: int, pidfd: int, number: int, *, group: bool) -> None:
    try:
        if group:
            os.killpg(os.getpgid(pid), number)
        else:
            signals.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise
    except OSError as error:
        raise os_failure(error, f"signal {number}") from None


def _pids(cgroup: str) -> Iterator[int]:
    """Give the pids (as the agent sees them) in the cgroup and those below it."""
    for directory, _, _ in os.walk(cgroup):
        with suppress(OSError), open(f"{directory}/cgroup.procs") as file:
            yield from map(int, file.read().split())


def _described(pid: int, names: dict[int, str]) -> dict[str, Any]:
    status = _status(pid)
    uid = int(status["Uid"].split()[1])
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The name, in parentheses, may hold anything.
        state, ppid, *rest = file.read().rpartition(b")")[2].split()
    return {
        "pid": int(status["NSpid"].split()[_INNER - 1]),
        "ppid": int(ppid),
        "user": names.get(uid, str(uid)),
        "command": _command(pid) or f"[{status['Name']}]",
        "state": state.decode(),
        "rss_bytes": int(rest[19]) * _PAGE,
        "cpu_s": (int(rest[9]) + int(rest[10])) / _TICKS,
    }


def _command(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read(_COMMAND * 4).rstrip(b"\0").replace(b"\0", b" ")
    return words.decode(errors="replace")[:_COMMAND]


def _status(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status", errors="replace") as file:
        lines = file.read().split("\n")
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
