"""Rates of calls, and how they are configured."""

import pytest

from emberkeep.domain.errors import Invalid
from emberkeep.domain.images import Recipe
from emberkeep.domain.quotas import Bucket, QuotaSettings, allowed
from emberkeep.domain.tiers import TIERS
from emberkeep.domain.units import Memory


def test_nobody_is_held_up_unless_somebody_says_so():
    assert allowed(QuotaSettings()) == {}
    assert allowed(QuotaSettings(profile="aws"))["RunMicrovm"] == 5
    assert allowed(QuotaSettings(profile="generous"))["RunMicrovm"] == 100


def test_a_rate_that_is_said_wins_and_zero_is_no_limit():
    rates = allowed(QuotaSettings(profile="aws", rates=("RunMicrovm=0", "ListMicrovms=2.5")))

    assert "RunMicrovm" not in rates
    assert (rates["ListMicrovms"], rates["GetMicrovm"]) == (2.5, 100)


@pytest.mark.parametrize(
    "text", ["RunMicrovm", "RunMicrovm=", "RunMicrovm=-1", "=5", "a b=1", "a=inf"]
)
def test_what_is_no_rate_is_refused(text: str):
    with pytest.raises(Invalid):
        QuotaSettings(rates=(text,))


def test_a_bucket_holds_a_second_of_calls_and_fills_with_time():
    bucket = Bucket(2.0, 0.0)

    assert [bucket.wait_s(0.0) for _ in range(3)] == [0, 0, 0.5]
    assert bucket.wait_s(0.5) == 0
    assert bucket.wait_s(0.75) == 0.25
    assert [bucket.wait_s(100.0) for _ in range(3)] == [0, 0, 0.5]


def test_a_slow_rate_lets_the_first_through():
    bucket = Bucket(0.1, 0.0)

    assert bucket.wait_s(0.0) == 0
    assert bucket.wait_s(0.0) == pytest.approx(10)


@pytest.mark.parametrize("mib", TIERS)
def test_burst_four_is_what_guests_of_aws_see(mib: int):
    recipe = Recipe(base="b", base_version=1, code="s3://b/k", memory=Memory(mib), burst=4)

    assert recipe.size.memory.mib == 4 * mib
    assert recipe.size.vcpus == 4 * TIERS[mib].vcpus
