"""The writable disk of a microVM: a raw ext4 image, and a qcow2 overlay of its own on it."""

import os
import secrets
import shutil
from pathlib import Path
from typing import Final

from emberkeep.base import proc
from emberkeep.domain.errors import Unavailable

_FORMAT: Final = (
    "mke2fs", "-q", "-F", "-t", "ext4", "-L", "emberkeep", "-m", "0", "-J", "size=16",
    "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", "-O", "^metadata_csum_seed",
)  # fmt: skip


def make_raw(path: Path, gib: int) -> None:
    """Make a sparse ext4 image of `gib` GiB."""
    with path.open("xb") as file:
        file.truncate(gib << 30)
    _run([*_FORMAT, os.fspath(path)])


def make_overlay(path: Path, template: Path, *, gib: int) -> None:
    """Make an empty overlay for a disk of `gib` GiB: a copy of `template`, made on first use."""
    if not template.exists():
        make_template(template, gib)
    shutil.copyfile(template, path)


def make_template(path: Path, gib: int) -> None:
    """Make what overlays for disks of `gib` GiB are copied from; many may do so at once."""
    unfinished = path.with_suffix(f".{secrets.token_hex(4)}")
    _run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=off",
          os.fspath(unfinished), f"{gib}G"])  # fmt: skip
    unfinished.rename(path)


def _run(argv: list[str]) -> None:
    try:
        result = proc.run(argv, timeout=120)
    except FileNotFoundError as error:
        raise Unavailable(f"{argv[0]} is not installed", hint="run: make setup") from error
    if not result.ok:
        raise Unavailable(f"{argv[0]} failed: {result.stderr.strip()[:300]}")
