"""The kernel's calls that Python lacks: mounts, and the disks by their serials."""

import ctypes
import fcntl
import os
import stat
import struct
from pathlib import Path
from typing import Final

READ_ONLY: Final = 1
NO_TIMES: Final = 1024
_DETACH: Final = 2
_FITRIM: Final = 0xC0185879
_libc = ctypes.CDLL(None, use_errno=True)


def device(serial: str) -> str:
    """Return a device node of the disk with that serial; the container's /dev has none."""
    for file in Path("/sys/block").glob("*/serial"):
        if file.read_text("ascii").strip() == serial:
            major, _, minor = (file.parent / "dev").read_text("ascii").strip().partition(":")
            node = f"/dev/disk-{serial}"
            Path(node).unlink(missing_ok=True)
            os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(int(major), int(minor)))
            return node
    raise FileNotFoundError(f"there is no disk with the serial {serial}")


def mount(source: str, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system; the place is made."""
    target.mkdir(parents=True, exist_ok=True)
    words = (source.encode(), os.fsencode(target), kind.encode())
    if _libc.mount(*words, flags, options.encode()):
        error = ctypes.get_errno()
        raise OSError(error, f"mount of {source}: {os.strerror(error)}")


def unmount(target: str, *, detach: bool = False) -> bool:
    """Unmount; say whether that went well."""
    return bool(_libc.umount2(os.fsencode(target), _DETACH if detach else 0) == 0)


def mounts_below(folder: Path) -> list[str]:
    """Return the places below `folder` where something is mounted, the latest first."""
    found = [
        line.split()[4].encode().decode("unicode_escape")
        for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
    ]
    return [place for place in reversed(found) if place.startswith(f"{folder}/")]


def trim(folder: Path) -> None:
    """Give the host back what a file system does not use."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(fd, _FITRIM, struct.pack("QQQ", 0, 2**64 - 1, 1 << 20))
    except OSError:
        pass  # a disk that cannot; it is bounded all the same
    finally:
        os.close(fd)
