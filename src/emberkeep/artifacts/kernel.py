"""The kernel, and what of its package goes into the initramfs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberkeep.artifacts import cpio, debs
from emberkeep.artifacts.command import Commands
from emberkeep.artifacts.cpio import Entry
from emberkeep.artifacts.modules import load_order, module_name
from emberkeep.domain.errors import Corrupt

PACKAGE: Final = "linux-image-cloud-amd64"
BUSYBOX: Final = "busybox-static"

APPLETS: Final = (
    "sh", "mount", "mkdir", "insmod", "poweroff", "reboot", "sleep", "switch_root", "uname",
)  # fmt: skip
_FOLDERS: Final = ("bin", "dev", "proc", "sys", "agent", "lib", "lib/modules")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel package, taken apart."""

    release: str
    image: bytes
    modules: Mapping[str, bytes]  # by the name a module goes by


def is_image(identity: str) -> bool:
    """Whether this is the package that holds the kernel (the other one only depends on it)."""
    return re.match(r"linux-image-\d", identity) is not None


def read_kernel(commands: Commands, deb: Path) -> Kernel:
    """Read the kernel and its modules from a package."""
    release, image = "", b""
    modules: dict[str, bytes] = {}
    with debs.contents(commands, deb) as tar:
        for member in tar:
            source = tar.extractfile(member) if member.isfile() else None
            if source is None:
                continue
            folder, _, file = debs.merged(member.name).rpartition("/")
            if folder == "boot" and file.startswith("vmlinuz-"):
                release, image = file.removeprefix("vmlinuz-"), source.read()
            elif file.endswith(".ko"):
                modules[module_name(file)] = source.read()
    if not image:
        raise Corrupt(f"there is no kernel in {deb.name}", hint="run it again: emberkeep setup")
    return Kernel(release=release, image=image, modules=modules)


def read_busybox(commands: Commands, deb: Path) -> bytes:
    """Read the static busybox from its package."""
    with debs.contents(commands, deb) as tar:
        for member in tar:
            if debs.merged(member.name) == "usr/bin/busybox" and (it := tar.extractfile(member)):
                return it.read()
    raise Corrupt(f"there is no busybox in {deb.name}", hint="run it again: emberkeep setup")


def initramfs_base(kernel: Kernel, busybox: bytes) -> bytes:
    """Return the part of the initramfs that comes from packages: busybox and the modules."""
    place = f"lib/modules/{kernel.release}"
    order = load_order(kernel.modules)
    return cpio.archive(
        [
            *(Entry.folder(path) for path in (*_FOLDERS, place)),
            # without it the kernel gives /init no standard streams
            Entry.character_device("dev/console", 5, 1),
            Entry.file("bin/busybox", busybox, mode=0o755),
            *(Entry.link(f"bin/{name}", "busybox") for name in APPLETS),
            *(Entry.file(f"{place}/{name}.ko", kernel.modules[name]) for name in order),
            Entry.file(f"{place}/order", "".join(f"{name}.ko\n" for name in order).encode()),
        ]
    )


def initramfs(base: bytes, init: bytes) -> bytes:
    """Return the whole initramfs; not compressed, so that every kernel can read it, and at once."""
    return base + cpio.archive([Entry.file("init", init, mode=0o755)])
