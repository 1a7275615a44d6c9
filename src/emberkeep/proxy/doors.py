"""What is counted for each microVM: connections, requests, their rate, the last byte."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from emberkeep.base.clock import Clock
from emberkeep.domain.microvms import MicroVM
from emberkeep.proxy.refusals import TOO_MANY, Refused
from emberkeep.proxy.settings import EndpointSettings
from emberkeep.proxy.wire import Wire


@dataclass(slots=True)
class Bucket:
    """Requests that may still come now; as many again come with each second."""

    rate: float
    left: float
    at: float

    def take(self, now: float) -> bool:
        """Say whether one more may come, and count it."""
        if not self.rate:
            return True
        self.left = min(self.rate, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Door:
    """The counts of one microVM."""

    def __init__(
        self, microvm_id: str, settings: EndpointSettings, clock: Clock, *, vcpus: int
    ) -> None:
        self.microvm_id = microvm_id
        self.connections = 0
        self.requests = 0
        self.last_ns = 0  # wall time of the last byte in either direction; 0: none yet
        self._settings = settings
        self._clock = clock
        self._most = settings.most_connections(vcpus)
        rate = settings.most_per_s(vcpus)
        self._bucket = Bucket(rate, max(rate, 1.0), self._now())

    def touch(self) -> None:
        """Note that bytes have crossed."""
        self.last_ns = self._clock.wall_ns()

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Count a connection; raise the `Refusal` of one too many, which is not counted."""
        if self.connections >= self._most:
            raise Refused(TOO_MANY)
        self.connections += 1
        try:
            yield
        finally:
            self.connections -= 1

    @contextmanager
    def requested(self) -> Iterator[None]:
        """Count a request; raise the `Refusal` of one too many."""
        if self.requests >= self._settings.requests_at_once or not self._bucket.take(self._now()):
            raise Refused(TOO_MANY)
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @property
    def idle(self) -> bool:
        """Whether nobody is here."""
        return not self.connections and not self.requests

    def _now(self) -> float:
        return self._clock.monotonic_ns() / 1e9


class Strangers:
    """Connections of which no request was let through yet: the oldest goes when there are more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._wires: dict[Wire, None] = {}

    def came(self, wire: Wire) -> None:
        """Count a connection."""
        self._wires[wire] = None
        if len(self._wires) > self._most:
            oldest = next(iter(self._wires))
            self.left(oldest)
            oldest.abort()

    def left(self, wire: Wire) -> None:
        """Count it no more: it was let through, or is gone. Idempotent."""
        self._wires.pop(wire, None)


class Doors:
    """The doors there are."""

    def __init__(self, settings: EndpointSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._doors: dict[str, Door] = {}
        self.strangers = Strangers(settings.unadmitted)

    def of(self, microvm_id: str, *, vcpus: int = 1) -> Door:
        """Return the door of a microVM; its vCPUs count when it is made."""
        door = self._doors.get(microvm_id)
        if door is None:
            door = Door(microvm_id, self._settings, self._clock, vcpus=vcpus)
            self._doors[microvm_id] = door
        return door

    def active_at(self, microvm_id: str) -> float:
        """Return when the last byte crossed, in seconds since the epoch; 0 if none did."""
        door = self._doors.get(microvm_id)
        return door.last_ns / 1e9 if door else 0.0

    def all(self) -> list[Door]:
        """Return every door."""
        return list(self._doors.values())

    def forget(self, microvm_id: str) -> None:
        """Drop the counts of a microVM that is no longer live."""
        self._doors.pop(microvm_id, None)


class Visit:
    """A connection, and the doors it has come to: one, or with names below a domain several."""

    def __init__(self, wire: Wire, doors: Doors, held: ExitStack) -> None:
        self.address = wire.address
        self.name: str | None = None  # that the client has asked for by TLS (SNI)
        self._wire = wire
        self._doors = doors
        self._held = held
        self._at: dict[str, Door] = {}

    def at(self, vm: MicroVM) -> Door:
        """Return the door of a microVM that may be entered; raise `TOO_MANY` at its limit.

        From here on the connection's bytes are activity of that microVM.
        """
        door = self._at.get(vm.id)
        if door is None:
            door = self._doors.of(vm.id, vcpus=vm.size.vcpus)
            self._held.enter_context(door.connected())
            self._at[vm.id] = door
            self._doors.strangers.left(self._wire)
            self._wire.welcome()
        self._wire.touched = door.touch
        door.touch()
        return door
