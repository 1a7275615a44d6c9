"""The host's own rules for the uplinks of one server: a table that says which slot may reach what.

A device that the table does not name reaches nothing. The table is replaced as a whole when a
server starts, kept while it runs, and removed with its last microVM.
"""

import threading
from collections.abc import Callable, Collection, Mapping

import structlog

from emberkeep.domain.egress import NONE, EgressPolicy
from emberkeep.domain.errors import Unavailable
from emberkeep.network import firewalls, forwarding, nftables
from emberkeep.network.links import Links
from emberkeep.network.netlink import netlink
from emberkeep.network.rules import (
    CONNECTIONS,
    OF_POLICY,
    POLICIES,
    Bounds,
    chain_of,
    egress,
    host_rules,
    policy_chain,
)
from emberkeep.network.settings import NetworkSettings

Same = tuple[Mapping[str, tuple[str, ...]], Mapping[str, frozenset[str]]]
_log = structlog.get_logger()


class HostRules:
    """The table of one server. Its methods block, and may be called from any thread."""

    def __init__(
        self, instance: str, links: Links, bounds: Bounds, settings: NetworkSettings
    ) -> None:
        self._table = f"emberkeep_{instance}"
        self._links = links
        self._bounds = bounds
        self._settings = settings
        self._slots: dict[str, EgressPolicy] = {}
        self._lock = threading.Lock()
        self._same: Same | None = None  # what stays as it is, as nft shows it
        self._said: set[tuple[str, str]] = set()

    def tried(self) -> None:
        """Raise `Unavailable` where such a table is forbidden, or the kernel has no such rules."""
        nftables.check(host_rules(self._table, self._links.devices, self._bounds, {"emk0": NONE}))

    def begin(self, slots: Mapping[str, EgressPolicy]) -> None:
        """Put the table in place of an earlier one; `slots` are the uplinks of adopted microVMs."""
        with self._lock:
            self._slots = dict(slots)
            self._replace()

    def allow(self, name: str, policy: EgressPolicy) -> None:
        """Let the slot behind the device `name` reach what `policy` says, from now on."""
        with self._lock:
            chain, earlier = chain_of(policy), self._slots.get(name)
            lines = self._element_gone(name) if earlier else []
            if policy not in self._slots.values():
                lines.append(f"table inet {self._table} {{ {self._chain(policy)} }}")
            lines.append(f'add element inet {self._table} policies {{ "{name}" : goto {chain} }}')
            after = {**self._slots, name: policy}
            self._change(lines + self._chains_gone(after), after)

    def forget(self, names: Collection[str]) -> None:
        """Drop devices that are gone. Idempotent."""
        with self._lock:
            gone = [name for name in names if name in self._slots]
            lines = [line for name in gone for line in self._element_gone(name)]
            after = {name: one for name, one in self._slots.items() if name not in gone}
            if gone:
                self._change(lines + self._chains_gone(after), after)

    def look(self) -> None:
        """Mend what others have changed: flushed or lacking rules, another default route."""
        with self._lock:
            if not self._whole():
                _log.warning("network.rules_changed_by_others", table=self._table)
                self._replace()
            else:
                self._surroundings()

    def end(self) -> None:
        """Remove everything of this server from the host's rules."""
        with self._lock:
            self._slots = {}
            firewalls.no_longer(self._links.devices)
            if self._settings.forwarding:
                forwarding.close_ways_out(self._table)
            if nftables.exists(self._table):
                nftables.apply(f"delete table inet {self._table}\n")

    def _replace(self) -> None:
        nftables.apply(host_rules(self._table, self._links.devices, self._bounds, self._slots))
        found = nftables.contents(self._table)
        self._same = _same(found)
        if not self._matches(found):  # an nft that shows tables otherwise: then not by content
            self._same = None
        self._surroundings()
        for one in firewalls.closed():
            self._say("firewall", f"{one.name} drops what is forwarded")

    def _whole(self) -> bool:
        """Say whether the table is what we have made it."""
        if not nftables.exists(self._table):
            return False
        return self._same is None or self._matches(nftables.contents(self._table))

    def _matches(self, now: nftables.Contents) -> bool:
        slots = self._slots.items()
        devices = frozenset(nftables.goto(name, chain_of(one)) for name, one in slots)
        policies = {chain_of(one): self._rules(one) for _, one in slots}
        found = {name: len(now.chains.get(name, ())) - 1 for name in policies}
        same = _same(now) == self._same
        return same and now.elements.get(POLICIES) == devices and found == policies

    def _rules(self, policy: EgressPolicy) -> int:
        return len(egress(policy, self._bounds, refuse="drop", accept="accept"))

    def _surroundings(self) -> None:
        """Make the rest of the host let our traffic through, as far as that is ours to do."""
        self._attempted("forwarding", self._forwarding)
        if self._settings.docker_user:
            self._attempted("docker", lambda: firewalls.let_pass(self._links.devices))

    def _forwarding(self) -> None:
        if not self._settings.forwarding:
            return
        forwarding.step_back()
        with netlink() as devices:
            ways = devices.ways_out()
        forwarding.open_ways_out(ways)

    def _attempted(self, what: str, act: Callable[[], None]) -> None:
        """Do something that is not essential: slots are safe without, but may lead nowhere."""
        try:
            act()
        except (Unavailable, OSError) as error:
            self._say(what, str(error))

    def _say(self, what: str, why: str) -> None:
        """Say once what is in the way."""
        if (what, why) not in self._said:
            self._said.add((what, why))
            _log.warning("network.host_not_prepared", what=what, why=why, see="emberkeep doctor")

    def _change(self, lines: list[str], after: dict[str, EgressPolicy]) -> None:
        try:
            nftables.apply("\n".join(lines) + "\n")
            self._slots = after
        except Unavailable:  # somebody has changed the table: make it what it shall be
            self._slots = after
            self._replace()

    def _chain(self, policy: EgressPolicy) -> str:
        return policy_chain(chain_of(policy), policy, self._bounds)

    def _element_gone(self, name: str) -> list[str]:
        chain = chain_of(self._slots[name])
        return [f'delete element inet {self._table} policies {{ "{name}" : goto {chain} }}']

    def _chains_gone(self, after: Mapping[str, EgressPolicy]) -> list[str]:
        unused = {*self._slots.values()} - {*after.values()}
        return [f"delete chain inet {self._table} {chain_of(one)}" for one in unused]


def _same(table: nftables.Contents) -> Same:
    """Return the part of our table that does not depend on the slots there are."""
    chains = {name: rules for name, rules in table.chains.items() if not name.startswith(OF_POLICY)}
    varying = (CONNECTIONS, POLICIES)
    return chains, {name: of for name, of in table.elements.items() if name not in varying}
