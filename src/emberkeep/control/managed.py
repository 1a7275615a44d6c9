"""The managed base images that every account can name (spec §1.4), in one table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from emberkeep.control import texts
from emberkeep.domain.errors import Invalid, NotFound
from emberkeep.domain.records import Caller

DEFAULT: Final = "al2023-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Managed:
    """A base image: its versions with the times they came, newest first (seconds, epoch)."""

    name: str
    versions: tuple[tuple[int, float], ...]
    root: str  # the base image of the node that it is here

    @property
    def created_at(self) -> float:
        """When its first version came."""
        return self.versions[-1][1]

    @property
    def updated_at(self) -> float:
        """When its newest version came."""
        return self.versions[0][1]


MANAGED: Final[Mapping[str, Managed]] = {
    one.name: one
    for one in (
        Managed(name="al2023-1", versions=((1, 1784592000.0), (0, 1781654400.0)), root="debian-12"),
        Managed(name="debian-12", versions=((1, 1784592000.0),), root="debian-12"),
    )
}


def managed(caller: Caller, name: str) -> Managed:
    """Return a managed image, or raise `NotFound`."""
    if name not in MANAGED:
        raise NotFound(
            texts.no_image(caller.base_arn(name)), hint=f"there are {', '.join(MANAGED)}"
        )
    return MANAGED[name]


def check_base(caller: Caller, name: str, version: int) -> None:
    """Raise `Invalid` unless there is that version of that managed image."""
    found = MANAGED.get(name)
    if found is None or version not in {number for number, _ in found.versions}:
        raise Invalid(
            texts.no_base(caller.base_arn(name), version), hint=f"there are {', '.join(MANAGED)}"
        )


def runs(name: str, version: int | None) -> str | None:
    """Return the base image of the node that is run for it; None if there is no such version.

    What is in no list is known to the node at most, in one version.
    """
    found = MANAGED.get(name)
    there = {1} if found is None else {number for number, _ in found.versions}
    if version is not None and version not in there:
        return None
    return name if found is None else found.root


def newest(name: str) -> int:
    """Return the version of a managed image that is meant where none is named."""
    found = MANAGED.get(name)
    return found.versions[0][0] if found else 1
