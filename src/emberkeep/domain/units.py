"""Sizes that are valid once they exist."""

import re
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from emberkeep.domain.errors import Invalid

_SCALE: Final = {"": 1, "m": 1, "mib": 1, "mb": 1, "g": 1024, "gib": 1024, "gb": 1024}
_SIZE: Final = re.compile(r"(?P<number>\d{1,7})\s*(?P<unit>[a-z]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, order=True)
class Memory:
    """Guest memory in MiB, 128 MiB to 32 GiB in steps of 2 MiB."""

    mib: int

    LEAST: ClassVar = 128
    MOST: ClassVar = 32 * 1024

    def __post_init__(self) -> None:
        if not self.LEAST <= self.mib <= self.MOST or self.mib % 2:
            raise Invalid(
                f"memory of {self.mib} MiB is out of range",
                hint="choose an even number of MiB from 128 to 32768",
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "512", "512 MiB" or "2 GiB"."""
        match = _SIZE.fullmatch(text.strip())
        scale = _SCALE.get(match["unit"].lower()) if match else None
        if match is None or scale is None:
            raise Invalid(f"not a memory size: {text!r}", hint='write it as "512" (MiB) or "2 GiB"')
        return cls(int(match["number"]) * scale)

    @property
    def bytes(self) -> int:
        """The same in bytes."""
        return self.mib << 20


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """What a microVM is given: memory and virtual CPUs (1 to 16)."""

    memory: Memory
    vcpus: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.vcpus <= 16:  # noqa: PLR2004  the range is the meaning
            raise Invalid(f"{self.vcpus} vCPUs are out of range", hint="choose 1 to 16 vCPUs")

    def __str__(self) -> str:
        return f"{self.memory.mib}m-{self.vcpus}c"
