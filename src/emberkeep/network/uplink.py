"""What joins a slot to the world outside: a veth pair (root), pasta (rootless), or nothing.

Whatever it is, the slot sees one device, `up0`: its rules, its address translation and its limits
are the same for all kinds. All methods block and are called in worker threads.
"""

from dataclasses import dataclass
from typing import Final, Literal, Protocol

UP: Final = "up0"  # the device of a slot that leads outside

Kind = Literal["veth", "pasta", "none"]


class Link(Protocol):
    """The uplink of one slot."""

    @property
    def name(self) -> str:
        """What it is called on the host: a device, or a process; empty where there is none."""

    def detach(self) -> None:
        """Give up what the host holds for it. Idempotent; the slot may be gone already."""


class Uplink(Protocol):
    """How the slots of one server reach the world outside."""

    @property
    def kind(self) -> Kind: ...

    def attach(self, netns_fd: int) -> Link:
        """Give the slot its `up0`, up, with addresses and default routes; `Unavailable` if not."""

    def adopt(self, netns_fd: int) -> Link | None:
        """Find the uplink that an earlier server made (or make it anew); None if there is none."""

    def sweep(self) -> list[str]:
        """Remove those of an earlier server that were not adopted; return their names."""


@dataclass(frozen=True, slots=True)
class NoLink:
    """The uplink of a slot that has none."""

    name: str = ""

    def detach(self) -> None:
        """There is nothing to give up."""


@dataclass(frozen=True, slots=True)
class NoUplink:
    """Slots without a way out: the same tap, the same rules, no `up0`."""

    kind: Kind = "none"

    def attach(self, netns_fd: int) -> Link:  # noqa: ARG002  the shape of the port
        """Leave the slot as it is."""
        return NoLink()

    def adopt(self, netns_fd: int) -> Link | None:  # noqa: ARG002  the shape of the port
        """Leave the slot as it is."""
        return NoLink()

    def sweep(self) -> list[str]:
        """There is nothing to remove."""
        return []
