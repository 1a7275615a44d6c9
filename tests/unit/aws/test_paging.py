"""Tokens lead back to where a list was left, and are good for nothing else."""

import pytest

from emberkeep.aws.errors import AwsError
from emberkeep.aws.paging import Pages
from emberkeep.domain.errors import Corrupt

ASKED = {"operation": "ListMicrovms", "account": "1"}


def test_a_token_leads_back():
    pages = Pages(b"k" * 32)

    assert pages.position(ASKED, pages.token(ASKED, ["microvm-1", 5.5])) == ["microvm-1", 5.5]


def test_a_token_is_as_long_as_those_of_aws_and_fits_a_url():
    token = Pages(b"k" * 32).token(ASKED, "microvm-1")

    assert 688 <= len(token) <= 800
    assert token.replace("-", "").replace("_", "").rstrip("=").isalnum()


def test_padding_may_be_lost_on_the_way():
    pages = Pages(b"k" * 32)
    token = pages.token(ASKED, "a" * 501)

    assert pages.position(ASKED, token.rstrip("=")) == "a" * 501


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: "",
        lambda token: "x",
        lambda token: "é" * 700,
        lambda token: "A" * 700,
        lambda token: token[:-8],
        lambda token: token[:300] + ("A" if token[300] != "A" else "B") + token[301:],
        lambda token: token * 20,
    ],
)
def test_what_is_no_token_of_ours_is_refused(spoil):
    pages = Pages(b"k" * 32)

    with pytest.raises(AwsError, match="ValidationException"):
        pages.position(ASKED, spoil(pages.token(ASKED, "microvm-1")))


@pytest.mark.parametrize(
    "other", [{"account": "2"}, {"operation": "ListMicrovmImages"}, {"asked": {"nameFilter": "a"}}]
)
def test_a_token_is_good_for_its_own_question_alone(other):
    pages = Pages(b"k" * 32)

    with pytest.raises(AwsError):
        pages.position(ASKED | other, pages.token(ASKED, "microvm-1"))


def test_a_token_outlives_the_server(tmp_path):
    token = Pages.kept(tmp_path).token(ASKED, 1)

    assert Pages.kept(tmp_path).position(ASKED, token) == 1
    assert (tmp_path / "page-tokens.key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_is_none_is_said_to_be(tmp_path):
    (tmp_path / "page-tokens.key").write_bytes(b"short")

    with pytest.raises(Corrupt, match="does not hold a key"):
        Pages.kept(tmp_path)
