"""Places for trees with files of many owners, and how to be rid of them without being root."""

import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from emberkeep.artifacts.command import Commands
from emberkeep.domain.errors import Unavailable

# mounts made by a tool of root's end with it, and are never seen from outside
OWN_MOUNTS: Final = (
    ("unshare", "--mount", "--propagation", "private", "--") if os.geteuid() == 0 else ()
)
_SHARED: Final = Path("/var/tmp")  # noqa: S108  the room in it is made safely


def as_owner_of_all(argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` as root, or as root of the caller's subordinate ids."""
    if os.geteuid() == 0:
        return list(argv)
    return ["unshare", "--map-auto", "--map-root-user", "--", *argv]


@contextmanager
def room(commands: Commands, scratch: Path) -> Generator[Path]:
    """A directory for mmdebstrap, empty before and gone after.

    Without root its subordinate ids must be able to reach it, and a home is closed to them.
    """
    uid = os.geteuid()
    place = scratch / "mmdebstrap" if uid == 0 else _SHARED / f"emberkeep-setup-{uid}"
    remove(commands, place)
    place.mkdir()
    place.chmod(0o1777 if uid else 0o700)
    try:
        yield place
    finally:
        remove(commands, place)


def remove(commands: Commands, tree: Path) -> None:
    """Remove `tree` if it is there, files of subordinate ids included."""
    if not tree.is_symlink() and not tree.exists():
        return
    if tree.lstat().st_uid != os.geteuid() or tree.is_symlink():
        raise Unavailable(f"{tree} belongs to somebody else", hint=f"remove it: rm -r {tree}")
    try:
        shutil.rmtree(tree)
    except PermissionError:
        commands.run(as_owner_of_all(["rm", "-rf", str(tree)]))
