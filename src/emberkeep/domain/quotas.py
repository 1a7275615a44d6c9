"""What AWS allows an account, in one table, and how many calls in a second (spec §11.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from msgspec import Meta

from emberkeep.domain.errors import Invalid

_GENEROUS: Final = 20  # times AWS's rates
_HINT: Final = 'write it as "RunMicrovm=50", calls in a second; 0 is no limit'


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """One of AWS's quotas: its code, its default, and the setting of ours that stands for it."""

    code: str
    value: float
    setting: str


QUOTAS: Final[Mapping[str, Quota]] = {
    "memory in GB": Quota(code="L-CD1C0CC4", value=400, setting="limits.account_memory_mib"),
    "hours of a microVM's life": Quota(
        code="L-B430C318", value=8, setting="quotas.maximum_duration_s"
    ),
    "images": Quota(code="L-942E56BE", value=100, setting="limits.account_images"),
    "versions of an image": Quota(code="L-F8BECE9C", value=50, setting="limits.image_versions"),
    "builds at once": Quota(code="L-72E0D058", value=5, setting="limits.account_builds"),
    "RunMicrovm": Quota(code="L-535CA9B6", value=5, setting="quotas.rates"),
    "SuspendMicrovm": Quota(code="L-90045317", value=2, setting="quotas.rates"),
    "ResumeMicrovm": Quota(code="L-118C44B3", value=5, setting="quotas.rates"),
    "TerminateMicrovm": Quota(code="L-74787B8A", value=10, setting="quotas.rates"),
    "GetMicrovm": Quota(code="L-CE98C9E3", value=100, setting="quotas.rates"),
    "CreateMicrovmAuthToken": Quota(code="L-7712260B", value=50, setting="quotas.rates"),
    "CreateMicrovmShellAuthToken": Quota(code="L-B78D2ECC", value=5, setting="quotas.rates"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaSettings:
    """Section `[quotas]`: what the AWS face allows an account in time."""

    profile: Literal["none", "generous", "aws"] = "none"
    rates: tuple[str, ...] = ()  # "Operation=calls in a second", instead of the profile's
    maximum_duration_s: Annotated[int, Meta(ge=0)] = 28_800  # where RunMicrovm says none; 0: none

    def __post_init__(self) -> None:
        allowed(self)


def allowed(settings: QuotaSettings) -> dict[str, float]:
    """Return the calls in a second that an account may make, by operation; the rest is free.

    Raises `Invalid` for a rate that is none.
    """
    factor = {"none": 0, "generous": _GENEROUS, "aws": 1}[settings.profile]
    rates = {
        name: quota.value * factor
        for name, quota in QUOTAS.items()
        if factor and quota.setting == "quotas.rates"
    }
    rates |= _said(settings.rates)
    return {name: rate for name, rate in rates.items() if rate > 0}


def _said(texts: Sequence[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            rate = float(number)
        except ValueError:
            rate = -1
        if not (equals and name.isalnum() and 0 <= rate < float("inf")):
            raise Invalid(f"quotas.rates: not a rate: {text[:80]!r}", hint=_HINT)
        found[name] = rate
    return found


@dataclass(slots=True)
class Bucket:
    """Calls that may still be made; as many come back in a second as are allowed in one."""

    rate: float
    left: float = field(init=False)
    at: float  # seconds of a clock that is never set

    def __post_init__(self) -> None:
        self.left = max(self.rate, 1.0)

    def wait_s(self, now: float) -> float:
        """Take one; return 0, or after how many seconds there will be one."""
        self.left = min(max(self.rate, 1.0), self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left >= 1:
            self.left -= 1
            return 0.0
        return (1 - self.left) / self.rate
