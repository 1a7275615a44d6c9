"""What a snapshot takes of the host's disk, kept beside it."""

import json
import os
from pathlib import Path
from typing import Final

from emberkeep.domain.images import Sizes, Source
from emberkeep.vmm.snapshot import DISK, MEMORY, Snapshot

_FILE: Final = "sizes.json"
_BLOCK: Final = 512


def record(folder: Path, source: Source, *, disk_before: int) -> None:
    """Write into `folder`, before it is sealed, what it takes (spec §4.6).

    `disk_before` is what the disk took when it was empty.
    """
    sizes = {
        "memory": written(folder / MEMORY),
        "code": source.root.bytes,
        "disk": max(0, written(folder / DISK) - disk_before),
    }
    with (folder / _FILE).open("x", encoding="ascii") as out:
        json.dump(sizes, out)
        out.flush()
        os.fsync(out.fileno())


def sizes_of(full: Snapshot) -> Sizes:
    """Return what `record` has written of a snapshot; of one without, nothing but its memory."""
    try:
        return Sizes(**json.loads((full.path / _FILE).read_text("ascii")))
    except FileNotFoundError:
        return Sizes(memory=written(full.memory))


def written(path: Path) -> int:
    """Return how many bytes of a file are on the disk: holes are not."""
    return path.stat().st_blocks * _BLOCK
