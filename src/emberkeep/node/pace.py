"""Whether a guest's clock runs as fast as ours.

A guest that boots without KVM on a busy host may count the ticks of its clock wrongly while it
calibrates, and then lives in another time for ever: forty times as fast has been seen. A snapshot
of such a one would spoil every microVM launched from it.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from emberkeep.base.clock import Clock, HostClock
from emberkeep.domain.errors import GuestError
from emberkeep.guestlink.agent import Agent

_LEAST_S: Final = 0.5  # between two looks
_SLACK: Final = 0.03  # of the time between them: more no calibration is off that worked
_GRAIN_NS: Final = 20_000_000


class WrongPace(GuestError):
    """The guest's clock does not run as ours does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a guest's clock showed at some time between `before` and `after` of ours, all in ns."""

    before: int
    guest: int
    after: int


async def looked(agent: Agent, clock: Clock | None = None) -> Look:
    """Look at the guest's monotonic clock."""
    ours = clock or HostClock()
    before = ours.monotonic_ns()
    guest = (await agent.clock()).monotonic_ns or 0
    return Look(before=before, guest=guest, after=ours.monotonic_ns())


async def check(agent: Agent, since: Look | None = None) -> Look:
    """Raise `WrongPace` if the guest's clock has run wrongly since a look, or does so now."""
    first = since or await looked(agent)
    begun = (HostClock().monotonic_ns() - first.after) / 1e9
    await asyncio.sleep(max(0.0, _LEAST_S - begun))
    second = await looked(agent)
    if not agrees(first, second):
        raise WrongPace(
            f"the guest's clock went on by {(second.guest - first.guest) / 1e9:.1f} s"
            f" while {(second.after - first.before) / 1e9:.1f} s passed: it was busy at its start",
            hint="try again when this host has less to do",
        )
    return first


def agrees(first: Look, second: Look) -> bool:
    """Say whether what passed in the guest can be what passed here."""
    least, most = second.before - first.after, second.after - first.before
    passed = second.guest - first.guest
    return least * (1 - _SLACK) - _GRAIN_NS <= passed <= most * (1 + _SLACK) + _GRAIN_NS
