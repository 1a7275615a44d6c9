"""Operations `pack` and `unpack`: whole directories as tar archives."""

import os
import stat
from typing import Any

from emberkeep_guest import paths, tar, worker
from emberkeep_guest.agent import Agent, Call
from emberkeep_guest.files import make_parents
from emberkeep_guest.messages import send_message


async def pack(agent: Agent, call: Call) -> None:
    """Send a file or a directory."""
    path = call.request.path()
    with paths.opened(agent.root, path, os.O_PATH | os.O_NOFOLLOW) as fd:
        directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    name = path.rstrip("/").rpartition("/")[2] or "/"
    kind = "directory" if directory else "file"
    agent.entrance()
    await send_message(call.stream, {"ok": True, "type": kind, "name": name})
    try:
        await worker.sending(agent, lambda fd: tar.pack(path, fd), call.stream)
    except Exception:
        call.stream.reset()  # a message would be taken for a part of the archive
        raise
    await call.stream.write_eof()


async def unpack(agent: Agent, call: Call) -> dict[str, Any]:
    """Make in a directory what the archive that comes holds."""
    path = call.request.path()
    agent.entrance()
    if call.request.flag("parents"):
        make_parents(agent.root, path)
    with paths.opened(agent.root, path, paths.DIRECTORY):
        pass
    await send_message(call.stream, {"ok": True})
    return await worker.receiving(agent, lambda fd: tar.unpack(path, fd), call.stream)
