"""What can go wrong, as the caller of the SDK meets it; the names are those of the server.

EmberkeepError
├── NotFound            no such microVM, image, file, command
├── Invalid             the request is wrong as it stands
├── Conflict            the request is right, the moment is wrong
│   └── WrongState      for example: the microVM is suspended
├── QuotaExceeded       a limit of the account or the host
│   └── Throttled       so many at once are not allowed; later they may be
├── NoSpace             a disk is full
├── Denied              missing or wrong credentials
├── Unavailable         the server, or its host, cannot do it
│   ├── Unreachable     no server answers at the endpoint
│   └── ConnectionLost  the server went away in the middle; whether a request took effect is unknown
├── Corrupt             a stored file is not what was written
│   └── Mismatch        a snapshot of another shape than the host would restore it in
├── GuestError          the guest answered wrongly, late, or not at all
│   └── AgentLost       the channel to the agent is gone
├── BuildFailed         an image version could not be made
└── CommandFailed       exec(..., check=True) and the command did not end with status 0
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final


class EmberkeepError(Exception):
    """The root of the tree: a message for people, and a hint that says what to do now."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class NotFound(EmberkeepError):
    """There is no such thing."""


class Invalid(EmberkeepError):
    """The request cannot be carried out as it stands."""


class Conflict(EmberkeepError):
    """The request is right, the moment is wrong."""


class WrongState(Conflict):
    """The microVM is not in a state in which this can be done."""


class QuotaExceeded(EmberkeepError):
    """A limit of the account or of the host would be passed."""


class Throttled(QuotaExceeded):
    """So many at once are not allowed; wait for what is under way, then try again."""


class NoSpace(EmberkeepError):
    """A disk has no room for what must be written."""


class Denied(EmberkeepError):
    """Missing or wrong credentials."""


class Unavailable(EmberkeepError):
    """The server, or its host as it is, cannot do it."""


class Unreachable(Unavailable):
    """No server answers at the endpoint."""


class ConnectionLost(Unavailable):
    """The server went away in the middle; whether a request took effect is unknown."""


class Corrupt(EmberkeepError):
    """A stored file is not what was written."""


class Mismatch(Corrupt):
    """A snapshot of another shape than the host would restore it in."""


class GuestError(EmberkeepError):
    """The guest answered wrongly, late, or not at all."""


class AgentLost(GuestError):
    """The channel to the agent is gone; whether a request took effect is unknown."""


class CommandFailed(EmberkeepError):
    """A command run with `check=True` did not end with status 0; `result` holds what it left."""

    def __init__(self, message: str, result: Any) -> None:  # noqa: ANN401  an ExecResult, below us
        super().__init__(message)
        self.result = result


class BuildFailed(EmberkeepError):
    """An image version could not be made; `build` says why, `log` is the end of its log."""

    def __init__(self, message: str, *, build: Any, log: str, hint: str = "") -> None:  # noqa: ANN401  a Build, below us
        super().__init__(message, hint=hint)
        self.build = build
        self.log = log


def from_payload(payload: object, *, status: int | None = None) -> EmberkeepError:
    """Make the error that the server's `{"code", "message", "hint"}` names."""
    fields: Mapping[str, object] = payload if isinstance(payload, Mapping) else {}
    kind = _KINDS.get(str(fields.get("code", "")), _BY_STATUS.get(status or 0, EmberkeepError))
    message = str(fields.get("message") or f"the server answered with status {status}")
    return kind(message, hint=str(fields.get("hint") or ""))


def _below(kind: type[EmberkeepError]) -> Iterator[type[EmberkeepError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


_KINDS: Final = {
    kind.__name__: kind
    for kind in _below(EmberkeepError)
    if kind not in {CommandFailed, BuildFailed}
}
_BY_STATUS: Final[Mapping[int, type[EmberkeepError]]] = {
    400: Invalid,
    401: Denied,
    402: QuotaExceeded,
    403: Denied,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    429: Throttled,
    502: GuestError,
    503: Unavailable,
    507: NoSpace,
}
