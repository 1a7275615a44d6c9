"""The agent's root: Python, crun, catatonit and the agent, whatever an image contains."""

import re
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from emberkeep.artifacts import debs, erofs, rooms
from emberkeep.artifacts.command import Commands

PACKAGES: Final = ("python3", "crun", "catatonit")

# of the dependencies only these are needed; the rest serves maintainer scripts and the interactive
NEEDED: Final = re.compile(
    r"catatonit|crun|python3|python3-minimal|python3\.\d+(-minimal)?|libpython3\.\d+-(minimal|stdlib)"
    r"|libc6|libgcc-s1|libcap2|libseccomp2|libsystemd0|libyajl2|libgcrypt20|libgpg-error0|liblz4-1"
    r"|liblzma5|libzstd1|zlib1g|libbz2-1\.0|libexpat1|libffi8|libssl3|libuuid1|libcrypt1|libmd0"
)
PYTHON: Final = "usr/lib/python3.11"
DROPPED: Final = (
    "usr/share/", "usr/include/", "usr/lib/systemd/", "usr/lib/valgrind/", "usr/lib/binfmt.d/",
    "usr/lib/x86_64-linux-gnu/gconv/", "usr/lib/x86_64-linux-gnu/perl", "usr/sbin/", "etc/",
    *(f"{PYTHON}/{name}/" for name in (
        "test", "lib2to3", "idlelib", "tkinter", "turtledemo", "pydoc_data", "ensurepip",
        "distutils", "unittest", "xmlrpc", "wsgiref", "dbm", "curses", "sqlite3", "venv",
    )),
)  # fmt: skip
PACKAGE_PLACE: Final = "usr/lib/python3/dist-packages"
_MOUNT_POINTS: Final = ("proc", "sys", "dev", "run", "tmp", "etc", "var", "root")
_FILES: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/hostname": "agent\n",
}


def needed(identities: Sequence[str]) -> list[str]:
    """Return those packages ("name=version") that the agent's root is made of."""
    return [it for it in identities if NEEDED.fullmatch(it.partition("=")[0])]


def keep(path: str) -> bool:
    """Whether a file of those packages belongs into the agent's root."""
    return not path.startswith(DROPPED) and not path.endswith((".a", ".pyc"))


def unpack_base(commands: Commands, files: Sequence[Path], root: Path) -> None:
    """Unpack `files` to `root` and compile what Python's library has."""
    debs.unpack(commands, files, root, keep=keep)
    for name in _MOUNT_POINTS:
        (root / name).mkdir(exist_ok=True)
    for name, text in _FILES.items():
        (root / name).write_text(text)
    (root / PACKAGE_PLACE).mkdir(parents=True, exist_ok=True)
    init = root / "usr/libexec/emberkeep/init"
    init.parent.mkdir(parents=True)
    shutil.copy(root / "usr/bin/catatonit", init)
    compile_tree(commands, root, PYTHON)


def pack_base(root: Path, target: Path) -> None:
    """Write `root` as a tar, so that a new agent needs no package again."""
    with tarfile.open(target, "w") as tar:
        tar.add(root, arcname=".", filter=_anonymous)


def make(commands: Commands, base: Path, guest: Path, scratch: Path, *, inputs: str) -> Path:
    """Make the agent's root from the `base` (a tar) and the package `guest`."""
    root, image = scratch / "root", scratch / "agent.erofs"
    with tarfile.open(base) as tar:
        tar.extractall(root)  # noqa: S202  written by pack_base, its digest is checked
    place = root / PACKAGE_PLACE / guest.name
    shutil.copytree(guest, place, ignore=shutil.ignore_patterns("__pycache__"))
    compile_tree(commands, root, f"{PACKAGE_PLACE}/{guest.name}")
    erofs.make(commands, image, root, inputs=inputs)
    return image


def compile_tree(commands: Commands, root: Path, place: str) -> None:
    """Compile by the root's own Python inside it: this host's may be another version."""
    commands.run(
        rooms.contained(
            [
                "chroot", str(root), "/usr/bin/python3.11", "-I", "-S", "-m", "compileall", "-q",
                "-f", "--invalidation-mode", "unchecked-hash", f"/{place}",
            ]
        )
    )  # fmt: skip


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = min(int(member.mtime), erofs.EPOCH)
    return member
