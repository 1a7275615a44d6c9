"""Sessions and codes: how long they are good, and how often."""

import pytest

from emberkeep.console.sessions import CODE_S, SESSION_S
from emberkeep.domain.keys import Caller
from emberkeep.domain.limits import ACCOUNT
from tests.unit.console.conftest import KEY, Site

CALLER = Caller(account=ACCOUNT, key_id="ID", admin=True)


def test_a_session_lets_in_until_it_is_over(site: Site):
    token = site.sessions.begin(CALLER)
    site.now += SESSION_S - 1
    assert site.sessions.whose(token)
    site.now += 2
    assert not site.sessions.whose(token)


def test_a_session_that_was_ended_lets_nobody_in(site: Site):
    token, other = site.sessions.begin(CALLER), site.sessions.begin(CALLER)
    site.sessions.end(token)
    site.sessions.end(token)

    assert not site.sessions.whose(token)
    assert site.sessions.whose(other)


def test_the_key_is_a_key_and_a_session_is_none(site: Site):
    token = site.sessions.begin(CALLER)

    assert site.sessions.whose(KEY)
    assert site.sessions.whose_key(KEY)
    assert not site.sessions.whose_key(token)


@pytest.mark.parametrize("token", ["", "eks_", "eks_" + "A" * 32, "\udcff", "ID.SECRET2", "eks_\0"])
def test_other_words_let_nobody_in(site: Site, token: str):
    site.sessions.begin(CALLER)

    assert not site.sessions.whose(token)


def test_a_code_is_good_once_and_not_for_long(site: Site):
    one, two = site.sessions.code(CALLER), site.sessions.code(CALLER)

    assert site.sessions.redeem(one)
    assert not site.sessions.redeem(one)
    site.now += CODE_S + 1
    assert not site.sessions.redeem(two)


def test_a_code_is_no_session(site: Site):
    assert not site.sessions.whose(site.sessions.code(CALLER))
    assert not site.sessions.redeem(site.sessions.begin(CALLER))


def test_of_very_many_the_oldest_is_ended(site: Site):
    tokens = [site.sessions.begin(CALLER) for _ in range(100)]

    assert not site.sessions.whose(tokens[0])
    assert site.sessions.whose(tokens[-1])
    assert sum(site.sessions.whose(token) == CALLER for token in tokens) == 64


def test_a_session_is_of_the_one_who_began_it_and_ends_with_the_key(site: Site):
    other = Caller(account="123456789012", key_id="ID2")
    site.keys.callers["ID2.SECRET"] = other
    mine, theirs = site.sessions.begin(CALLER), site.sessions.redeem(site.sessions.code(other))
    token = site.sessions.begin(theirs)

    assert site.sessions.whose(mine) == CALLER
    assert site.sessions.whose(token) == other
    del site.keys.callers["ID2.SECRET"]
    assert site.sessions.whose(token) is None
