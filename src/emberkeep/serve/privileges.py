"""Without root the server becomes root of a user namespace: one code path for both.

Where VMMs of an earlier server run on, it is theirs: from another one their network namespaces
could not be entered, nor could they be ended.
"""

import os
import sys
from pathlib import Path
from typing import Final

from emberkeep.base import marks, proc
from emberkeep.domain.errors import Unavailable
from emberkeep.network import pasta

_ONE: Final = ("--user", "--map-root-user")
_MANY: Final = (*_ONE, "--map-auto")  # with the caller's subordinate users: one for each VMM


def obtain(data: Path) -> None:
    """Return as root, of the host or of a user namespace; in the latter case by starting anew.

    Raises `Unavailable` where the host allows neither.
    """
    if os.geteuid() == 0:
        return
    theirs = earlier(data)
    if theirs is None:
        way = ["unshare", *_possible()]
    else:
        os.set_inheritable(theirs, True)
        way = ["nsenter", f"--user=/proc/self/fd/{theirs}", "--preserve-credentials"]
    # `data` is said in so many words: the default is another one for root
    environment = {**os.environ, "EMBERKEEP_DATA": os.fspath(data)}  # noqa: TID251  handed on
    command = [sys.executable, "-m", "emberkeep.cli.main", *sys.argv[1:]]
    os.execvpe(way[0], [*way, "--", *command], environment)  # noqa: S606


def earlier(data: Path) -> int | None:
    """Open the user namespace of what an earlier server has left running, if there is any."""
    try:
        instance = (data / "instance").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    for mark in (f"emberkeep:{instance}:", pasta.mark(instance)) if instance else ():
        for pid, _ in marks.marked(mark):
            fd = _ours(pid)
            if fd is not None:
                return fd
    return None


def _ours(pid: int) -> int | None:
    """Open the user namespace of a process, if it is not this one and we are its root."""
    try:
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    same = os.fstat(fd).st_ino == Path("/proc/self/ns/user").stat().st_ino
    first = Path(f"/proc/{pid}/uid_map").read_text("ascii").split()[:2]
    if not same and first == ["0", str(os.geteuid())]:
        return fd
    os.close(fd)
    return None


def _possible() -> tuple[str, ...]:
    """Find out which kind of user namespace this user may have."""
    why = ""
    for options in (_MANY, _ONE):
        try:
            result = proc.run(["unshare", *options, "--", "true"], timeout=20)
        except (OSError, TimeoutError) as error:
            why = str(error)
            continue
        if result.ok:
            return options
        why = result.stderr.strip().splitlines()[-1] if result.stderr.strip() else "refused"
    raise Unavailable(
        f"an ordinary user needs user namespaces to run microVMs, and has none here: {why[:200]}",
        hint="run as root, or allow them (on Ubuntu 24.04: sysctl -w"
        " kernel.apparmor_restrict_unprivileged_userns=0); see: emberkeep doctor",
    )
