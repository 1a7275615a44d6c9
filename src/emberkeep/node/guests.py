"""What a guest finds at its start that differs by image version: its main process.

It comes in the initramfs, behind ours: one more device would have to be there at every restore.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from emberkeep.artifacts import cpio
from emberkeep.base.files import sync
from emberkeep.domain.images import Main
from emberkeep.node.berths import Parts

CONFIG: Final = "config.json"  # where init.sh finds it
_ALIGNED: Final = 4  # at which an archive begins behind another


def config_of(main: Main) -> bytes:
    """Return the guest's config.json, in one line; b"" for our own init, which needs none."""
    if main == Main():
        return b""
    words = asdict(main) | {"argv": list(main.argv), "env": dict(main.env)}
    return json.dumps(words).encode("ascii") + b"\n"


class Initramfs:
    """The initramfs of each main process, among the other files by digest."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._hash: hashlib._Hash | None = None  # of ours, which is every one's beginning
        self._digests: dict[bytes, str] = {}

    def digest(self, main: Main) -> str:
        """Return the digest of the initramfs of `main`, whether it is there or not."""
        config = config_of(main)
        if not config:
            return self._parts.initramfs.digest
        if config not in self._digests:
            whole = self._begun().copy()
            whole.update(self._behind(config))
            self._digests[config] = whole.hexdigest()
        return self._digests[config]

    def write(self, main: Main) -> None:
        """Make the initramfs of `main`, if it is not there. Idempotent.

        One that is there is as young as if it was new: what is old and not named yet is swept.
        """
        config = config_of(main)
        if not config:
            return
        target = self._parts.blobs / self.digest(main)
        with suppress(FileNotFoundError):
            os.utime(target)
            return
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        unfinished.write_bytes(self._parts.initramfs.path.read_bytes() + self._behind(config))
        unfinished.chmod(0o444)
        sync(unfinished)
        unfinished.replace(target)
        sync(target.parent)

    def _begun(self) -> "hashlib._Hash":
        if self._hash is None:
            self._hash = hashlib.sha256(self._path.read_bytes())
        return self._hash

    def _behind(self, config: bytes) -> bytes:
        gap = bytes(-self._path.stat().st_size % _ALIGNED)
        return gap + cpio.archive([cpio.Entry.file(CONFIG, config)])

    @property
    def _path(self) -> Path:
        return self._parts.initramfs.path
