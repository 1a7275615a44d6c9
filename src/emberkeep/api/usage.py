"""What was used, in the dimensions that AWS charges for; and what Prometheus reads."""

import time
from typing import Annotated, Self

from msgspec import Meta, Struct
from starlette.responses import Response

from emberkeep.api.bodies import Request
from emberkeep.api.keys import must_administer
from emberkeep.api.operations import Call
from emberkeep.domain.errors import NotFound
from emberkeep.domain.usage import Usage

_Day = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]
_MONTH_S = 30 * 86_400


class Between(Request, frozen=True, kw_only=True):
    """Days in UTC, both included; the last 30 if none is said."""

    since: _Day | None = None
    until: _Day | None = None


class UsageBody(Struct, frozen=True, kw_only=True):
    """What was used of an image on one day (UTC); a GB is 2^30 bytes."""

    day: str
    account: str
    image: str
    vcpu_seconds: float
    memory_gb_seconds: float
    snapshot_read_gb: float
    snapshot_write_gb: float
    storage_gb_hours: float

    @classmethod
    def of(cls, one: Usage) -> Self:
        """Return `one` as it is written."""
        amounts = one.amounts
        return cls(
            day=one.day,
            account=one.account,
            image=one.image,
            vcpu_seconds=round(amounts.vcpu_seconds, 3),
            memory_gb_seconds=round(amounts.memory_gb_seconds, 3),
            snapshot_read_gb=round(amounts.snapshot_read_gb, 6),
            snapshot_write_gb=round(amounts.snapshot_write_gb, 6),
            storage_gb_hours=round(amounts.storage_gb_hours, 6),
        )


class UsagesBody(Struct, frozen=True, kw_only=True):
    """What was used, by day, account and image, in this order."""

    usage: list[UsageBody]


async def metrics(call: Call[None, None]) -> Response:
    """Give all metrics in Prometheus' text format (docs/metrics.md)."""
    must_administer(call.caller)  # they are of every account
    if call.context.metrics is None:
        raise NotFound("this server has no metrics")
    return call.context.metrics()


async def listed(call: Call[Between, None]) -> UsagesBody:
    """List what was used, up to this moment, what still runs or sleeps included."""
    since = call.query.since or _day(time.time() - _MONTH_S)
    until = call.query.until or _day(time.time())
    found = await call.node.usage(since, until)
    return UsagesBody(usage=[UsageBody.of(one) for one in found])


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))
