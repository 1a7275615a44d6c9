"""From what goes wrong on the channel to the errors of the domain."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import msgspec

from emberkeep.domain.errors import (
    AgentLost,
    Conflict,
    EmberkeepError,
    GuestError,
    Invalid,
    NoSpace,
    NotFound,
    QuotaExceeded,
)
from emberkeep.guestlink.replies import Fault
from emberkeep_guest.messages import BadMessage
from emberkeep_guest.session import SessionClosed, SessionError

_KINDS: Final[Mapping[str, type[EmberkeepError]]] = {
    "not_found": NotFound,
    "exists": Conflict,
    "not_empty": Conflict,
    "refused": Conflict,
    "invalid": Invalid,
    "denied": Invalid,
    "not_a_directory": Invalid,
    "is_a_directory": Invalid,
    "no_space": NoSpace,
    "exhausted": QuotaExceeded,
}
_HINTS: Final[Mapping[str, str]] = {
    "not_empty": "to remove a directory with what is in it, ask for recursive",
    "refused": "nothing listens on that port in the guest (yet)",
    "denied": "the user the command runs as may not do that in the guest",
    "no_space": "the microVM's disk is full",
    "exhausted": "the microVM has as many processes, or uses as much memory, as it may:"
    " end some (emberkeep top), or launch a larger one",
}
_LONGEST: Final = 500  # characters of a guest's message that are passed on


def refusal(fault: Fault) -> EmberkeepError:
    """Return the error for what the agent refused; its text is made harmless."""
    kind = _KINDS.get(fault.kind, GuestError)
    return kind(harmless(fault.message) or fault.kind[:40], hint=_HINTS.get(fault.kind, ""))


def harmless(text: str) -> str:
    """Return `text` from a guest with no control characters and of bounded length."""
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST])


@contextmanager
def translated(op: str) -> Iterator[None]:
    """Raise what happens on a stream as `AgentLost` or `GuestError`."""
    try:
        yield
    except SessionClosed as error:
        raise AgentLost(
            f"the channel to the agent ended during {op}",
            hint="the microVM was suspended or has stopped (see: emberkeep ps); a command that "
            "was under way goes on without us once it is resumed",
        ) from error
    except SessionError as error:
        raise GuestError(f"the agent broke off {op}") from error
    except TimeoutError as error:
        raise GuestError(f"the agent did not answer {op} in time") from error
    except (BadMessage, EOFError, msgspec.MsgspecError) as error:
        raise GuestError(f"the agent answered {op} wrongly: {harmless(str(error))}") from error
