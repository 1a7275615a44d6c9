"""Choose the kernel modules a microVM needs, in an order in which they load."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

WANTED: Final = (
    "virtio_pci", "virtio_mmio", "virtio_blk", "virtio_console", "virtio_net",
    "veth", "erofs", "overlay", "inet_diag", "tcp_diag", "udp_diag", "fuse",
)  # fmt: skip

_DEPENDS: Final = re.compile(rb"\0depends=([^\0]*)\0")


def module_name(file: str) -> str:
    """Return the name a module goes by, from its file name."""
    return file.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def depends(content: bytes) -> tuple[str, ...]:
    """Return the modules that must be loaded before this one, from its own .modinfo."""
    match = _DEPENDS.search(content)
    names = match[1].decode("ascii") if match else ""
    return tuple(name.replace("-", "_") for name in names.split(",") if name)


def load_order(contents: Mapping[str, bytes], wanted: Iterable[str] = WANTED) -> list[str]:
    """Return the names from `contents` to load, dependencies first; what is built in is absent."""
    order: list[str] = []
    for name in wanted:
        _add(name, contents, order)
    return order


def _add(name: str, contents: Mapping[str, bytes], order: list[str]) -> None:
    if name in order or name not in contents:
        return
    for other in depends(contents[name]):
        _add(other, contents, order)
    order.append(name)
