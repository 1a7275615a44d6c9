"""The slots of one server: made ahead of time, taken by microVMs, found again, given back.

A slot is used once. Giving it back is throwing it away: its namespace ends with everything that a
guest has left in it (connections, counters, neighbours), and a new one takes its place.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from emberkeep.base import aio
from emberkeep.domain.egress import EgressPolicy
from emberkeep.domain.errors import EmberkeepError, Unavailable
from emberkeep.network import namespace, nftables
from emberkeep.network.dns import Relays, SlotRelay
from emberkeep.network.outside import Outside, found, of_now
from emberkeep.network.resolvers import resolvers
from emberkeep.network.settings import NetworkSettings
from emberkeep.network.slot import NetworkSlot, bare, dismantled, enact, furnish, limit
from emberkeep.network.uplink import NoLink

_LOOK_S: Final = 30.0  # how often the host's own rules are looked at
_CALM_S: Final = 0.25  # so long after a verb nothing is made that can wait
_AFTER_FAILURE_S: Final = 10.0
_MADE_WITHIN_S: Final = 60.0
_log = structlog.get_logger()


class Slots:
    """Slots by the microVM that has them; `keep` is the job that sees to their number."""

    def __init__(
        self,
        settings: NetworkSettings,
        instance: str,
        calm_s: Callable[[], float] = lambda: math.inf,  # for how long no verb has been under way
    ) -> None:
        self._settings = settings
        self._instance = instance
        self._calm_s = calm_s
        self._outside: Outside | None = None
        self._relays: Relays | None = None
        self._ready: list[NetworkSlot] = []
        self._held: dict[str, NetworkSlot] = {}
        self._leaving: list[NetworkSlot] = []
        self._turn = asyncio.Lock()  # of who makes and clears away
        self._news = asyncio.Event()
        self._closed = False
        self._unlimited = ""  # why bandwidth cannot be bounded here

    @property
    def default(self) -> EgressPolicy:
        """The policy of a launch that does not say."""
        return self._settings.egress

    @property
    def outside(self) -> Outside:
        """What the slots are joined to; known once `prepare` has been called."""
        if self._outside is None:
            raise RuntimeError("slots are not prepared")
        return self._outside

    async def prepare(self) -> None:
        """Find out what this host allows; before anything is taken or adopted."""
        self._outside = await aio.in_thread(found, self._settings, self._instance)
        if self.outside.uplink.kind != "none":
            self._relays = Relays(resolvers(self._settings.dns))
        _log.info("network.uplink", kind=self.outside.uplink.kind, why=self.outside.why)

    async def begin(self) -> None:
        """Bring the host's rules to what was adopted, and remove what was not."""
        rules = self.outside.rules
        if rules is not None:
            await aio.in_thread(rules.begin, self._names())
        left = await aio.in_thread(self.outside.uplink.sweep)
        if left:
            _log.info("network.swept", devices=left)

    async def take(self, owner: str, policy: EgressPolicy | None = None) -> NetworkSlot:
        """Give `owner` a slot with `policy` (the default one) in force."""
        wanted = policy or self._settings.egress
        try:
            if self._ready:
                self._held[owner] = self._ready.pop()
                self._news.set()
                await self.enact(owner, wanted)
            else:
                await aio.finish(self._made_for(owner, wanted), within=_MADE_WITHIN_S)
        except BaseException:
            self.give_back(owner)
            raise
        return self._held[owner]

    @asynccontextmanager
    async def lent(
        self, owner: str, policy: EgressPolicy | None = None
    ) -> AsyncGenerator[NetworkSlot]:
        """Lend the tap of a slot to whom starts the VMM of `owner`, which has it alone then.

        Where that fails, the slot is given back.
        """
        slot = await self.take(owner, policy)
        try:
            yield slot
        except BaseException:
            self.give_back(owner)
            raise
        slot.handed_over()

    async def enact(self, owner: str, policy: EgressPolicy) -> None:
        """Put `policy` in force for an owner whose guest does not run yet."""
        slot = self._held.get(owner)
        if slot is None or slot.policy in (None, policy):
            return
        outside = self.outside
        jobs = [aio.in_thread(enact, slot, policy, outside.bounds)]
        if outside.rules is not None and slot.link.name:
            jobs.append(aio.in_thread(outside.rules.allow, slot.link.name, policy))
        await aio.together(*jobs)

    def give_back(self, owner: str) -> None:
        """Take a slot back whose VMM is gone; the host forgets it soon. Idempotent."""
        slot = self._held.pop(owner, None)
        if slot is not None:
            slot.close()
            self._leaving.append(slot)
            self._news.set()

    async def adopt(self, owner: str, pid: int, policy: EgressPolicy) -> None:
        """Find the slot of a VMM that an earlier server started."""
        self._held[owner] = await aio.in_thread(self._found, pid, policy)

    async def facts(self, owner: str) -> Mapping[str, object]:
        """Describe the slot of a microVM, with what has passed through it."""
        slot = self._held.get(owner)
        if slot is None:
            return {}
        passed: Mapping[str, tuple[int, int]] = {}
        if slot.policy is not None:
            with suppress(EmberkeepError, OSError):  # it may be going just now
                passed = await aio.in_thread(namespace.inside, slot.netns_fd, nftables.counters)
        counted = {
            name: {"packets": packets, "bytes": octets}
            for name, (packets, octets) in passed.items()
        }
        facts = {"uplink": self.outside.uplink.kind, "device": slot.link.name, **counted}
        return facts | ({"bandwidth": self._unlimited} if self._unlimited else {})

    def counts(self) -> dict[str, int]:
        """Say how many are ready and how many in use."""
        return {"ready": len(self._ready), "held": len(self._held), "leaving": len(self._leaving)}

    async def keep(self) -> None:
        """Make slots and clear away those given back, when nothing is delayed by that.

        Now and then, look at the host's rules.
        """
        looked = -math.inf
        while not self._closed:
            now = asyncio.get_running_loop().time()
            if now - looked >= _LOOK_S:  # before all that may fail every time
                looked = now
                await self._attempted("looked", self._looked)
            async with self._turn:
                went_well = True
                if self._may(urgent=len(self._leaving) > self._settings.slots):
                    went_well = await self._attempted("cleared", self._cleared)
                went_well &= await self._attempted("filled", self._filled)
            if went_well:
                await aio.waited(self._news, _CALM_S if self._unfinished else _LOOK_S)
                self._news.clear()
            else:
                await asyncio.sleep(_AFTER_FAILURE_S)

    def look(self) -> None:
        """Look at the numbers soon: something has changed."""
        self._news.set()

    async def close(self) -> None:
        """Let go of everything; slots whose VMMs run on stay as they are."""
        self._closed = True
        self._news.set()
        for slot in self._held.values():
            slot.close()
        async with self._turn:
            for slot in self._ready:
                slot.close()
                self._leaving.append(slot)
            self._ready.clear()
            await self._attempted("cleared", self._cleared)
        if self.outside.rules is not None and not self._held:
            await aio.in_thread(self.outside.rules.end)
        if self._relays is not None:
            await aio.in_thread(self._relays.close)
        self._held.clear()

    @staticmethod
    async def _attempted(what: str, act: Callable[[], Awaitable[None]]) -> bool:
        """Do one of several things of which none may stop the others; say whether it was done."""
        try:
            await act()
        except (EmberkeepError, OSError) as error:
            _log.warning("network.not_done", what=what, why=str(error))
        except Exception:  # noqa: BLE001  a control loop's item
            _log.exception("network.not_done", what=what)
        else:
            return True
        return False

    async def _looked(self) -> None:
        if self.outside.rules is not None:
            await aio.in_thread(self.outside.rules.look)

    async def _filled(self) -> None:
        while not self._closed and (short := self._settings.slots - len(self._ready)) > 0:
            if not self._may(urgent=2 * short > self._settings.slots):
                return
            self._ready.append(await aio.in_thread(self._made, self._settings.egress))

    def _may(self, *, urgent: bool) -> bool:
        """Say whether there is time for something that takes a core for some 50 ms."""
        calm_s = self._calm_s()
        return calm_s >= _CALM_S or (urgent and calm_s > 0)

    @property
    def _unfinished(self) -> bool:
        return bool(self._leaving) or len(self._ready) < self._settings.slots

    async def _made_for(self, owner: str, policy: EgressPolicy) -> None:
        self._held[owner] = await aio.in_thread(self._made, policy)

    async def _cleared(self) -> None:
        gone = list(self._leaving)
        if gone:
            left = await aio.in_thread(self._disposed, gone)
            self._leaving[: len(gone)] = left
            if left:
                raise Unavailable(f"{len(left)} network slots could not be removed")

    def _names(self) -> dict[str, EgressPolicy]:
        return {
            slot.link.name: slot.policy
            for slot in self._held.values()
            if slot.link.name and slot.policy is not None
        }

    def _made(self, policy: EgressPolicy) -> NetworkSlot:
        """Make a slot; what it can reach is decided before it has a way out."""
        outside = self.outside
        slot = bare()
        try:
            if outside.filtered:
                furnish(slot, policy, of_now(outside.bounds))
                slot.link = outside.uplink.attach(slot.netns_fd)
                self._limit(slot)
                slot.relay = self._relay(slot.netns_fd)
                if outside.rules is not None:
                    outside.rules.allow(slot.link.name, policy)
        except BaseException:
            slot.close()
            self._leaving.extend(self._disposed([slot]))
            raise
        return slot

    def _found(self, pid: int, policy: EgressPolicy) -> NetworkSlot:
        netns = namespace.of_process(pid)
        link = self.outside.uplink.adopt(netns)
        if link is None:
            _log.warning("network.no_uplink_found", pid=pid)
        return NetworkSlot(
            netns_fd=netns, tap_fd=-1, link=link or NoLink(), policy=policy,
            relay=self._relay(netns),
        )  # fmt: skip

    def _limit(self, slot: NetworkSlot) -> None:
        """Bound the bandwidth; a kernel that cannot is no reason to have no network."""
        try:
            limit(slot, self._settings.bandwidth_mbit)
        except Unavailable as error:
            if not self._unlimited:
                _log.warning("network.bandwidth_not_bounded", why=str(error))
            self._unlimited = str(error)

    def _relay(self, netns_fd: int) -> SlotRelay | None:
        return self._relays.open(netns_fd) if self._relays is not None else None

    def _disposed(self, slots: list[NetworkSlot]) -> list[NetworkSlot]:
        """Remove what the host holds for slots that are closed; return those where that failed."""
        names = [slot.link.name for slot in slots if slot.link.name]
        left = [slot for slot in slots if not dismantled(slot)]
        if self.outside.rules is not None and names:
            try:
                self.outside.rules.forget(names)
            except Unavailable as error:  # what is too much in the table is found by a look
                _log.warning("network.not_done", what="forgotten", why=str(error))
        return left
