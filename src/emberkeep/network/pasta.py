"""The uplink of slots where we are root of a user namespace only: one `pasta` for each.

It turns what leaves the slot into ordinary connections of the user who runs it; nothing is led
inwards, and the host's loopback has no address in the slot. What it does not know is which other
addresses are the host's own: they are refused in the slot, before a packet reaches it. It outlives
the server, as the VMM does; a later server finds it by the number of the slot's namespace, which
stands in its command line.
"""

import os
import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Final

import structlog

from emberkeep.base import marks, proc
from emberkeep.domain.errors import Unavailable
from emberkeep.network import namespace, nftables
from emberkeep.network.netlink import Netlink, netlink
from emberkeep.network.slot import bare
from emberkeep.network.uplink import UP, Kind, Link, NoLink
from emberkeep_guest.addresses import MTU

Interface = IPv4Interface | IPv6Interface

# Between slot and pasta: like the plan of the tap, it exists inside the slot only.
_SLOT: Final = {4: ip_interface("10.213.1.2/30"), 6: ip_interface("fd65:6d62:6572:1::2/64")}
_GATEWAY: Final = {4: "10.213.1.1", 6: "fd65:6d62:6572:1::1"}
_SLOT_MAC: Final = "02:ee:00:00:00:05"
_GATEWAY_MAC: Final = "02:ee:00:00:00:06"
_TABLE: Final = "host"
_ANSWERS_PER_S: Final = 50
_WITHIN_S: Final = 30.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PastaLink:
    """One process; `name` is what its command line begins with."""

    name: str
    give_back: Callable[[str], None]

    def detach(self) -> None:
        """End it."""
        _end(self.name)
        self.give_back(self.name)


class Pasta:
    """Processes that make connections of their own out of what leaves a slot."""

    kind: Kind = "pasta"

    def __init__(self, instance: str) -> None:
        self._begin = mark(instance)
        self._in_use: set[str] = set()

    def tried(self) -> None:
        """Raise `Unavailable` if there is none, or none that this user may have."""
        slot = bare()
        try:
            self.attach(slot.netns_fd).detach()
        finally:
            slot.close()

    def attach(self, netns_fd: int) -> Link:
        """Start one for a slot; where the host itself has no way out, the slot has none either."""
        with netlink() as devices:
            versions, own = _ways_out(devices), [one for _, one in devices.interfaces()]
        if not versions:
            _log.warning("network.offline", why="this host has no default route")
            return NoLink()
        name = f"{self._begin}{os.fstat(netns_fd).st_ino}/"
        self._in_use.add(name)
        link = PastaLink(name, self._in_use.discard)
        try:
            namespace.inside(netns_fd, lambda: nftables.apply(refusals(own)))
            _start(command(name, versions), netns_fd)
            namespace.inside(netns_fd, lambda: _furnish(versions))
        except BaseException as error:
            link.detach()
            if isinstance(error, OSError):
                raise Unavailable(f"cannot join a slot to pasta: {error}") from error
            raise
        return link

    def adopt(self, netns_fd: int) -> Link | None:
        """Find the one of a slot; one that has ended is started anew."""
        name = f"{self._begin}{os.fstat(netns_fd).st_ino}/"
        if not any(marks.marked(name)):
            return self.attach(netns_fd)
        self._in_use.add(name)
        return PastaLink(name, self._in_use.discard)

    def sweep(self) -> list[str]:
        """End those of this server that nobody has adopted; return their names."""
        left = []
        for pid, _ in list(marks.marked(self._begin)):
            if not any(marks.carries(pid, name) for name in self._in_use):
                left.append(f"pasta {pid}")
                _end(self._begin, only=pid)
        return left


def mark(instance: str) -> str:
    """Return what the command line of every such process of a server begins with."""
    return f"emberkeep-pasta:{instance}:"


def binary() -> str | None:
    """Return where `pasta` is, or None."""
    return shutil.which("pasta")


def command(name: str, versions: Collection[int]) -> list[str]:
    """Return its command line, for the namespace it is given as standard input.

    Later versions close every other descriptor they inherit. Without `--foreground` it returns when
    the slot has its device, and goes on in a process and mount namespace of its own.
    """
    address = _SLOT[min(versions)]
    words = [
        f"{name}pasta", "--quiet", "--netns", "/proc/self/fd/0", "--no-netns-quit",
        "--ns-ifname", UP, "--ns-mac-addr", _SLOT_MAC, "--mac-addr", _GATEWAY_MAC,
        "--mtu", str(MTU), "--no-map-gw",
        "--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none",
        "--no-dhcp", "--no-dhcpv6", "--no-ra", "--no-ndp",
    ]  # fmt: skip
    for version in sorted(versions):
        words += ["--address", str(_SLOT[version].ip), "--gateway", _GATEWAY[version]]
    if 4 in versions:  # noqa: PLR2004
        words += ["--netmask", str(_SLOT[4].network.prefixlen)]
    if len(versions) == 1:
        words.append(f"--ipv{address.version}-only")
    return words


def refusals(own: Iterable[Interface]) -> str:
    """Return the rules that keep a guest from the host's own addresses, here called `own`.

    Of IPv6 the whole network is refused: a host changes its address there from time to time.
    """
    four = {str(one.ip) for one in own if one.version == 4}  # noqa: PLR2004
    six = {str(one.network) for one in own if one.version == 6}  # noqa: PLR2004
    rules = [
        f"    {family} daddr {{ {', '.join(sorted(found))} }} {verdict}"
        for family, found in (("ip", four), ("ip6", six))
        for verdict in (
            f"limit rate {_ANSWERS_PER_S}/second reject with icmpx admin-prohibited", "drop",
        )
        if found
    ]  # fmt: skip
    return "\n".join(
        [
            f"table inet {_TABLE}",
            f"delete table inet {_TABLE}",
            f"table inet {_TABLE} {{",
            "  chain forward {",
            "    type filter hook forward priority filter - 1; policy accept;",
            *rules,
            "  }",
            "}",
            "",
        ]
    )


def _ways_out(devices: Netlink) -> list[int]:
    return sorted(version for version, names in devices.ways_out().items() if names)


def _start(words: list[str], netns_fd: int) -> None:
    pasta = binary()
    if pasta is None:
        raise Unavailable("there is no pasta", hint="install the package passt")
    try:
        done = proc.run(words, executable=pasta, stdin=netns_fd, timeout=_WITHIN_S)
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"pasta cannot be run: {error}", hint="see: emberkeep doctor") from error
    if not done.ok:
        why = done.stderr.strip().splitlines() or [f"status {done.code}"]
        raise Unavailable(f"pasta: {why[-1][:300]}", hint="see: emberkeep doctor")


def _furnish(versions: Iterable[int]) -> None:
    with netlink() as devices:
        devices.up(UP, *(_SLOT[version] for version in versions))
        for version in versions:
            devices.neighbour(UP, _GATEWAY[version], _GATEWAY_MAC)
            devices.default_route(UP, _GATEWAY[version])


def _end(name: str, *, only: int | None = None) -> None:
    """Kill the processes whose command line has a word that begins with `name`."""
    for pid, ticks in list(marks.marked(name)):
        if only in (None, pid):
            pidfd = proc.pidfd_of(pid, ticks)
            if pidfd is not None:
                proc.end_now(pidfd)
