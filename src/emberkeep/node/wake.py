"""What happens between a restore and the first instruction of the workload.

The VM runs and the agent answers, but the workload stays frozen and its disk too: clocks are set,
entropy is fed, and at a launch everything that must be unique is renewed. Only `thaw` lets go.
"""

import os
import re
import uuid
from typing import Final

from emberkeep.base.clock import Clock
from emberkeep.guestlink.agent import Agent, Identity
from emberkeep.node.link import Link

AGENT_DEADLINE_S: Final = 120.0
_ENTROPY: Final = 256  # bytes
_NO_HOSTNAME: Final = re.compile(r"[^a-z0-9]+")
_PROMISED_NS: Final = 200_000_000
_CLOSE_NS: Final = 60_000_000
_ROUNDS: Final = 8


def fresh(microvm_id: str, name: str) -> Identity:
    """Make the identity of a newly launched microVM: what no two of them share."""
    return Identity(
        microvm_id=microvm_id,
        hostname=hostname(name),
        machine_id=uuid.uuid4().hex,
        boot_id=str(uuid.uuid4()),
    )


def hostname(name: str) -> str:
    """Return the host name of a microVM: as much of its name as may stand in one."""
    return _NO_HOSTNAME.sub("-", name.lower()).rstrip("-")


async def repair(link: Link, clock: Clock, identity: Identity | None) -> Agent:
    """Make the restored guest current, and at a launch (`identity`) unique; it stays frozen."""
    agent = await link.ready(deadline_s=AGENT_DEADLINE_S)
    await agent.wake(wall_ns=clock.wall_ns(), entropy=os.urandom(_ENTROPY), identity=identity)
    return agent


async def let_go(agent: Agent, clock: Clock, metadata: str | None) -> None:
    """Thaw, with the clock within the promise and `metadata` in the guest's metadata service.

    The error of a clock that was set is at most the time the message took. `thaw` sets it, behind
    a `wake` that has made the way quick; where it was slow all the same, it is set once more.
    """
    sent = clock.monotonic_ns()
    await agent.thaw(wall_ns=clock.wall_ns(), metadata=metadata)
    if clock.monotonic_ns() - sent > _PROMISED_NS:
        await _set_close(agent, clock)


async def _set_close(agent: Agent, clock: Clock) -> None:
    for _ in range(_ROUNDS):
        sent = clock.monotonic_ns()
        await agent.clock(wall_ns=clock.wall_ns())
        if clock.monotonic_ns() - sent <= _CLOSE_NS:
            return
