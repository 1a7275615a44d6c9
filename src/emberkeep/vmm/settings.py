"""What configuration may say about the VMM."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class VmmSettings:
    """Section `[vmm]`: each part can be replaced."""

    qemu: str = "qemu-system-x86_64"  # a binary or a wrapper: a name on PATH or a path
    kernel: Path | None = None  # None: the one that `emberkeep setup` got
    initramfs: Path | None = None  # None: the one that `emberkeep setup` built
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    cpu: str | None = None  # None: a pinned model per accelerator
    machine: Literal["auto", "q35", "microvm"] = "auto"  # auto: microvm with KVM, q35 without
    visible: tuple[Path, ...] = ()  # more of the host for a wrapper to see, read-only
