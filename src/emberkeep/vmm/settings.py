"""What configuration may say about the VMM."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta


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
    require_confinement: bool = False  # refuse to run a VMM that lacks a defence
    overhead_mib: Annotated[int, Meta(ge=64, le=65536)] = 256  # beside guest memory
    swap: bool = False  # whether the host may put guest memory into its swap space
    cpu_weight: Annotated[int, Meta(ge=1, le=10000)] = 100  # of all microVMs; a service has 100
    cpu_headroom_percent: Annotated[int, Meta(ge=0, le=6400)] = 100  # beside 100 for each vCPU
    io_mib_s: Annotated[int, Meta(ge=0, le=1 << 20)] = 0  # of a disk, read and written; 0: any
    io_ops_s: Annotated[int, Meta(ge=0, le=1 << 30)] = 0
