"""Files of the host: make them durable, get rid of them."""

import os
import shutil
from pathlib import Path


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it. Idempotent; what cannot be removed stays."""
    shutil.rmtree(path, ignore_errors=True)


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, survive a power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
