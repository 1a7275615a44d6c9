"""Make read-only file systems that come out the same from the same files."""

import uuid
from pathlib import Path
from typing import Final

from emberkeep.artifacts.command import Commands

EPOCH: Final = 1_700_000_000  # the time of everything that is newer than it

_NAMESPACE: Final = uuid.UUID("0c3a5ba0-3f6c-4ee6-a7e8-2d5d3f1f5d10")


def mkfs_argv(image: str, root: str, *, inputs: str, all_root: bool) -> list[str]:
    """Return the command that makes `image` from the directory `root`."""
    owners = ["--all-root"] if all_root else []
    label = str(uuid.uuid5(_NAMESPACE, inputs))
    return ["mkfs.erofs", "--quiet", "-zlz4", "-U", label, *owners, image, root]


def make(commands: Commands, image: Path, root: Path, *, inputs: str) -> None:
    """Make `image` from `root`, all of it owned by root."""
    commands.run(
        mkfs_argv(str(image), str(root), inputs=inputs, all_root=True),
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
    )
