"""Which microVM a person means by a few letters."""

from collections.abc import Iterable
from typing import Final

from emberkeep.domain.errors import Invalid, NotFound
from emberkeep.domain.microvms import MicroVM, State

PREFIX: Final = "microvm-"
LEAST: Final = len(PREFIX) + 4  # shorter beginnings of an id are not looked up


def is_beginning(ref: str) -> bool:
    """Tell whether `ref` may be the beginning of an id."""
    return ref.startswith(PREFIX) and len(ref) >= LEAST


def missing(ref: str) -> NotFound:
    """Return the error for a microVM that is not there."""
    return NotFound(f"no microVM {ref[:80]!r}", hint="see what there is: emberkeep ps")


def meant(ref: str, candidates: Iterable[MicroVM]) -> MicroVM:
    """Choose by whole id, else by name of a live one, else by unique beginning of an id."""
    found = list(candidates)
    for vm in found:
        if vm.id == ref:
            return vm
    live = [vm for vm in found if vm.state is not State.TERMINATED]
    for vm in live:
        if vm.name == ref:
            return vm
    begun = [vm for vm in live or found if is_beginning(ref) and vm.id.startswith(ref)]
    if not begun:
        raise missing(ref)
    if len(begun) > 1:
        raise Invalid(
            f"{len(begun)} microVMs begin with {ref!r}", hint="give more of the id, or the name"
        )
    return begun[0]
