"""A guest whose clock runs wrongly is found out, one that answers slowly is not."""

import pytest

from emberkeep.node.pace import Look, agrees

S = 1_000_000_000


def look(before_s: float, guest_s: float, after_s: float) -> Look:
    return Look(before=int(before_s * S), guest=int(guest_s * S), after=int(after_s * S))


@pytest.mark.parametrize("passed", [0.97, 1.0, 1.03])
def test_a_right_clock_agrees(passed: float):
    assert agrees(look(10, 500, 10.001), look(11, 500 + passed, 11.001))


@pytest.mark.parametrize("passed", [0, 0.5, 0.9, 1.1, 2, 40])
def test_a_wrong_one_does_not(passed: float):
    assert not agrees(look(10, 500, 10.001), look(11, 500 + passed, 11.001))


def test_a_slow_answer_is_given_the_doubt():
    assert agrees(look(10, 500, 10.4), look(11, 500.6, 11.4))
    assert agrees(look(10, 500, 10.4), look(11, 501.4, 11.4))
    assert not agrees(look(10, 500, 10.4), look(11, 540, 11.4))
