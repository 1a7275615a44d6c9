"""Which change of a microVM is which event."""

from dataclasses import replace

import pytest

from emberkeep.domain.events import Kind, change
from emberkeep.domain.microvms import ARROWS, State
from tests.fakes.values import microvm

LAUNCHED = [
    (None, State.PENDING, "launching"),
    (State.PENDING, State.RUNNING, "running"),
    (State.PENDING, State.TERMINATING, "terminating"),
    (State.RUNNING, State.SUSPENDING, "suspending"),
    (State.RUNNING, State.TERMINATING, "terminating"),
    (State.SUSPENDING, State.SUSPENDED, "suspended"),
    (State.SUSPENDING, State.RUNNING, "suspend-failed"),
    (State.SUSPENDING, State.TERMINATING, "terminating"),
    (State.SUSPENDED, State.TERMINATING, "terminating"),
    (State.TERMINATING, State.TERMINATED, "terminated"),
]
RESUMED = [
    (State.SUSPENDED, State.PENDING, "resuming"),
    (State.PENDING, State.RUNNING, "resumed"),
    (State.PENDING, State.SUSPENDED, "resume-failed"),
]


@pytest.mark.parametrize(("before", "after", "kind"), LAUNCHED)
def test_a_change_has_a_word(before: State | None, after: State, kind: str):
    was = microvm(state=before) if before else None

    event = change(was, microvm(state=after, state_reason="why"), at=5.0)

    assert event is not None
    assert (event.kind, event.reason, event.at, event.name) == (Kind(kind), "why", 5.0, "vm-1")


@pytest.mark.parametrize(("before", "after", "kind"), RESUMED)
def test_a_microvm_with_a_delta_is_being_resumed(before: State, after: State, kind: str):
    was = microvm(state=before, delta="delta-3")

    event = change(was, replace(was, state=after), at=5.0)

    assert event is not None
    assert event.kind == kind


def test_every_arrow_is_told():
    told = {(before, after) for before, after, _ in LAUNCHED + RESUMED if before}

    assert told == {(before, after) for before in ARROWS for after in ARROWS[before]}


def test_a_change_that_leaves_the_state_is_none():
    was = microvm(state=State.RUNNING)

    assert change(was, replace(was, revision=7), at=5.0) is None
