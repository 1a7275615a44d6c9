"""The sizes that images may ask for, in one table (spec §11.2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """What belongs to a memory size; the bandwidth is in bytes per second."""

    vcpus: float
    disk_bytes: int
    bandwidth: int


TIERS: Final[Mapping[int, Tier]] = {  # by memory in MiB
    512: Tier(vcpus=0.25, disk_bytes=8_283_189_248, bandwidth=1_000_000),
    1024: Tier(vcpus=0.5, disk_bytes=8_283_189_248, bandwidth=2_000_000),
    2048: Tier(vcpus=1, disk_bytes=8_283_189_248, bandwidth=4_000_000),
    4096: Tier(vcpus=2, disk_bytes=16_729_894_912, bandwidth=8_000_000),
    8192: Tier(vcpus=4, disk_bytes=33_635_975_168, bandwidth=16_000_000),
}
