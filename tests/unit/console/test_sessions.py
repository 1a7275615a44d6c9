"""Sessions and codes: how long they are good, and how often."""

import pytest

from emberkeep.console.sessions import CODE_S, SESSION_S
from tests.unit.console.conftest import KEY, Site


def test_a_session_lets_in_until_it_is_over(site: Site):
    token = site.sessions.begin()
    site.now += SESSION_S - 1
    assert site.sessions.accepts(token)
    site.now += 2
    assert not site.sessions.accepts(token)


def test_a_session_that_was_ended_lets_nobody_in(site: Site):
    token, other = site.sessions.begin(), site.sessions.begin()
    site.sessions.end(token)
    site.sessions.end(token)

    assert not site.sessions.accepts(token)
    assert site.sessions.accepts(other)


def test_the_key_is_a_key_and_a_session_is_none(site: Site):
    token = site.sessions.begin()

    assert site.sessions.accepts(KEY)
    assert site.sessions.accepts_key(KEY)
    assert not site.sessions.accepts_key(token)


@pytest.mark.parametrize("token", ["", "eks_", "eks_" + "A" * 32, "\udcff", "ID.SECRET2", "eks_\0"])
def test_other_words_let_nobody_in(site: Site, token: str):
    site.sessions.begin()

    assert not site.sessions.accepts(token)


def test_a_code_is_good_once_and_not_for_long(site: Site):
    one, two = site.sessions.code(), site.sessions.code()

    assert site.sessions.redeem(one)
    assert not site.sessions.redeem(one)
    site.now += CODE_S + 1
    assert not site.sessions.redeem(two)


def test_a_code_is_no_session(site: Site):
    assert not site.sessions.accepts(site.sessions.code())
    assert not site.sessions.redeem(site.sessions.begin())


def test_of_very_many_the_oldest_is_ended(site: Site):
    tokens = [site.sessions.begin() for _ in range(100)]

    assert not site.sessions.accepts(tokens[0])
    assert site.sessions.accepts(tokens[-1])
    assert sum(map(site.sessions.accepts, tokens)) == 64
