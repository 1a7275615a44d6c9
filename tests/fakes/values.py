"""Example values that tests vary."""

from typing import Any
from uuid import UUID

from emberkeep.domain.microvms import MicroVM
from emberkeep.domain.units import Memory, Size


def microvm(number: int = 1, **fields: Any) -> MicroVM:
    """Return the `number`th example microVM, with some `fields` of its own."""
    example: dict[str, Any] = {
        "id": f"microvm-{UUID(int=number << 96)}",
        "name": f"vm-{number}",
        "image": "debian-12",
        "image_key": "debian-12",
        "size": Size(Memory(512), 1),
        "snapshot": "debian-12-512m-1c",
        "created_at": 1_700_000_000.0 + number,
        "uid": 200_000 + number,
    }
    return MicroVM(**(example | fields))
