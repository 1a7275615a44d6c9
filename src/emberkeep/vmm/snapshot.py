"""A snapshot: a folder that is never changed once it is sealed.

    memory.img      guest memory, raw, zero pages are holes          full
    memory.delta    the pages that differ from the base's image      delta
    devices.state   device and CPU state, no memory
    disk.img        the writable disk, raw                           full
    meta.json       format, kind, QEMU version, shape, base, sizes and checksums; sealed by its own

It is written in a folder with a name that no reader looks at, synced, and renamed: half of one is
never seen.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import xxhash

from emberkeep.base.files import remove_tree, sync
from emberkeep.domain.errors import Corrupt, EmberkeepError, Mismatch
from emberkeep.vmm.delta import data_ranges
from emberkeep.vmm.shape import Shape

FORMAT: Final = 1
MEMORY, DELTA, DEVICES, DISK, META = (
    "memory.img", "memory.delta", "devices.state", "disk.img", "meta.json",
)  # fmt: skip
_UNSEALED: Final = ".unsealed"
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A sealed snapshot as its meta.json describes it."""

    path: Path
    kind: Literal["full", "delta"]
    taken_by: str  # QEMU's version
    shape: Shape
    base: str  # the seal of the full snapshot a delta belongs to
    files: Mapping[str, tuple[int, str]]  # name -> bytes, checksum
    beside: Mapping[str, int]  # files next to the folder that belong to it: name -> bytes
    seal: str

    @property
    def memory(self) -> Path:
        """The memory image, or the delta."""
        return self.path / (MEMORY if self.kind == "full" else DELTA)

    @property
    def devices(self) -> Path:
        """Device and CPU state."""
        return self.path / DEVICES

    @property
    def disk(self) -> Path:
        """The raw disk of a full snapshot."""
        return self.path / DISK

    def signature(self) -> tuple[tuple[int, int, int, int], ...]:
        """What changes when a file is touched: (inode, bytes, mtime, ctime) of each."""
        facts = [(self.path / name).stat() for name in self.files]
        return tuple((f.st_ino, f.st_size, f.st_mtime_ns, f.st_ctime_ns) for f in facts)

    def verify(self) -> None:
        """Hash every file; raise `Corrupt` where one is missing, cut or changed."""
        for name, size in self.beside.items():
            path = self.path.parent / name
            actual = path.stat().st_size if path.exists() else 0
            if actual != size:
                raise _corrupt(path, f"it has {actual} bytes instead of {size}")
        for name, (size, checksum) in self.files.items():
            path = self.path / name
            try:
                actual = path.stat().st_size
                intact = actual == size and checksum_of(path) == checksum
            except OSError as error:
                raise _corrupt(path, str(error)) from error
            if not intact:
                what = f"{actual} bytes instead of {size}" if actual != size else "its checksum"
                raise _corrupt(path, f"it is not what was written ({what})")


def open_snapshot(path: Path) -> Snapshot:
    """Read a sealed snapshot; raise `Corrupt` for anything else, `Mismatch` for a newer format."""
    try:
        record = json.loads((path / META).read_bytes())
        seal = record.pop("seal")
        if seal != _seal_of(record):
            raise ValueError("it was changed")  # noqa: TRY301  told as the others are
        snapshot = _snapshot_of(path, record, seal) if record["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _corrupt(path / META, str(error) or type(error).__name__) from error
    if snapshot is None:
        raise Mismatch(
            f"snapshot {path} has format {record['format']}, this Emberkeep reads {FORMAT}",
            hint="use the Emberkeep that wrote it",
        )
    return snapshot


@contextmanager
def unsealed(path: Path) -> Iterator[Path]:
    """Give a folder to write the files of snapshot `path` in; it is gone if the block fails."""
    folder = path.with_name(f"{_UNSEALED}-{path.name}")
    remove_tree(folder)
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    finally:
        remove_tree(folder)


def seal(
    folder: Path,
    path: Path,
    *,
    shape: Shape,
    taken_by: str,
    base: str = "",
    beside: Sequence[Path] = (),
) -> Snapshot:
    """Write meta.json over the synced files of `folder` and make it the snapshot `path`.

    `beside` are files next to `path` that belong to it and stay where they are.
    """
    files = {item.name: (item.stat().st_size, checksum_of(item)) for item in folder.iterdir()}
    record: dict[str, Any] = {
        "format": FORMAT,
        "kind": "full" if MEMORY in files else "delta",
        "taken_by": taken_by,
        "shape": shape.record(),
        "base": base,
        "files": {name: list(facts) for name, facts in sorted(files.items())},
        "beside": {item.name: item.stat().st_size for item in beside},
    }
    sealed = _seal_of(record)
    for name in files:
        (folder / name).chmod(0o444)
    with (folder / META).open("x", encoding="utf-8") as out:
        json.dump({**record, "seal": sealed}, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    sync(folder)
    folder.rename(path)
    sync(path.parent)
    sync(path.parent.parent)  # the folder of the snapshots may be new too
    return _snapshot_of(path, record, sealed)


def discard(path: Path) -> None:
    """Remove a sealed snapshot for good: no part of it is ever seen again. Idempotent."""
    gone = path.with_name(f"{_UNSEALED}-{path.name}")
    remove_tree(gone)
    with suppress(FileNotFoundError):
        path.rename(gone)
        sync(path.parent)
    remove_tree(gone)


def remove_unsealed(parent: Path) -> None:
    """Remove what interrupted takes have left in `parent`."""
    for folder in parent.glob(f"{_UNSEALED}-*"):
        remove_tree(folder)


def checksum_of(path: Path) -> str:
    """Return the XXH3-128 of the blocks of 1 MiB that are not zero, each with its number."""
    total = xxhash.xxh3_128()
    blank = bytes(_BLOCK)
    with path.open("rb", buffering=0) as file:
        for index in _blocks(file.fileno()):
            block = os.pread(file.fileno(), _BLOCK, index * _BLOCK)
            if block != blank[: len(block)]:
                total.update(index.to_bytes(8, "little"))
                total.update(block)
    return total.hexdigest()


def _blocks(fd: int) -> Iterator[int]:
    """Yield the numbers of the blocks that are not wholly holes, each once, in order."""
    following = 0
    for start, end in data_ranges(fd):
        first = max(following, start // _BLOCK)
        following = -(-end // _BLOCK)
        yield from range(first, following)


def _seal_of(record: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(record, sort_keys=True).encode())


def _snapshot_of(path: Path, record: dict[str, Any], seal: str) -> Snapshot:
    return Snapshot(
        path=path,
        kind=record["kind"],
        taken_by=record["taken_by"],
        shape=Shape.of_record(record["shape"]),
        base=record["base"],
        files={name: (int(size), str(check)) for name, (size, check) in record["files"].items()},
        beside={name: int(size) for name, size in record["beside"].items()},
        seal=seal,
    )


def _corrupt(path: Path, why: str) -> EmberkeepError:
    return Corrupt(
        f"snapshot file {path} cannot be used: {why}",
        hint="an image's snapshot is made anew by the next launch once its folder is removed; "
        "a microVM's own memory is lost: terminate it",
    )
