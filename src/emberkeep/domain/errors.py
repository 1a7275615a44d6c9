"""What can go wrong, as the caller meets it.

EmberkeepError
├── NotFound            no such microVM, image, file
├── Invalid             the request is wrong as it stands
├── Conflict            the request is right, the moment is wrong
│   └── WrongState      no arrow leads there from the present state
├── QuotaExceeded       a limit of the account or the host
│   ├── NoCapacity      the host is full, whatever the account may have
│   └── Throttled       so many at once are not allowed; later they may be
├── NoSpace             the disk is full
├── Denied              missing or wrong credentials
├── Unavailable         this host cannot do it: QEMU missing or too old, not set up, server down
├── Corrupt             a stored file is not what was written
│   └── Mismatch        a snapshot of another shape: VMM, machine type, CPU model, kernel, size
└── GuestError          the guest answered wrongly, late, or not at all
    └── AgentLost       the channel to the agent is gone
"""


class EmberkeepError(Exception):
    """The root of the tree: a message for people, and a hint that says what to do now."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NotFound(EmberkeepError):
    """There is no such thing."""


class Invalid(EmberkeepError):
    """The request cannot be carried out as it stands."""


class Conflict(EmberkeepError):
    """The request is right, the moment is wrong."""


class WrongState(Conflict):
    """No arrow leads from the present state to the wanted one."""


class QuotaExceeded(EmberkeepError):
    """A limit of the account or of the host would be passed."""


class NoCapacity(QuotaExceeded):
    """The host has no room, whatever the account may have."""


class Throttled(QuotaExceeded):
    """So many at once are not allowed; what is under way ends by itself, and makes room."""


class NoSpace(EmberkeepError):
    """The disk has no room for what must be written."""


class Denied(EmberkeepError):
    """Missing or wrong credentials."""


class Unavailable(EmberkeepError):
    """This host, as it is, cannot do it."""


class Corrupt(EmberkeepError):
    """A stored file is not what was written."""


class Mismatch(Corrupt):
    """A snapshot of another shape than this host would restore it in."""


class GuestError(EmberkeepError):
    """The guest answered wrongly, late, or not at all."""


class AgentLost(GuestError):
    """The channel to the agent is gone; whether a request took effect is unknown."""
