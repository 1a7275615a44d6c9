"""One network slot: a network namespace with a tap, and the rules for what a guest may reach.

Namespace and tap are held by descriptors alone. They have no name in the host, so the kernel takes
them back when the last holder (the server, then the VMM) is gone: a crash leaves nothing behind.
"""

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Final

import structlog

from emberkeep.domain.egress import EgressPolicy
from emberkeep.domain.errors import Unavailable
from emberkeep.network import namespace, nftables
from emberkeep.network.dns import SlotRelay
from emberkeep.network.netlink import netlink
from emberkeep.network.rules import TAP, Bounds, new_policy, slot_rules
from emberkeep.network.uplink import UP, Link, NoLink
from emberkeep_guest.addresses import (
    GATEWAY_4,
    GATEWAY_6,
    GATEWAY_MAC,
    GUEST_4,
    GUEST_6,
    GUEST_MAC,
    PREFIX_4,
    PREFIX_6,
)

_TUNSETIFF: Final = 0x400454CA
_TUNSETVNETHDRSZ: Final = 0x400454D8
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_VNET_HEADER: Final = 12  # struct virtio_net_hdr_v1
_SYSCTLS: Final = (
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/addr_gen_mode", "1"),  # no address but those we give
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv6/conf/all/accept_redirects", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
)
_log = structlog.get_logger()
_GATEWAYS: Final = (
    ip_interface(f"{GATEWAY_4}/{PREFIX_4}"),
    ip_interface(f"{GATEWAY_6}/{PREFIX_6}"),
)


@dataclass(slots=True, kw_only=True)
class NetworkSlot:
    """The descriptors of a slot, and its way out; whoever holds it gives it back."""

    netns_fd: int
    tap_fd: int  # -1 once a VMM has it alone
    link: Link
    relay: SlotRelay | None = None  # answers the guest's questions for names
    policy: EgressPolicy | None = None  # None: it has no rules, and no way out

    def handed_over(self) -> None:
        """Leave the tap to the VMM, so that it is gone when that is gone. Idempotent."""
        if self.tap_fd >= 0:
            os.close(self.tap_fd)
            self.tap_fd = -1

    def close(self) -> None:
        """Let go of the namespace. Idempotent."""
        self.handed_over()
        if self.netns_fd >= 0:
            os.close(self.netns_fd)
            self.netns_fd = -1


def bare() -> NetworkSlot:
    """Make a slot that is a namespace with a tap; raise `Unavailable` if that is forbidden."""
    try:
        netns, tap = namespace.in_new(_opened)
    except OSError as error:
        raise Unavailable(
            f"cannot make a network slot: {error}", hint="see: emberkeep doctor"
        ) from error
    return NetworkSlot(netns_fd=netns, tap_fd=tap, link=NoLink())


@contextmanager
def network_slot() -> Iterator[NetworkSlot]:
    """Make a bare slot for the length of the block."""
    slot = bare()
    try:
        yield slot
    finally:
        slot.close()


def furnish(slot: NetworkSlot, policy: EgressPolicy, bounds: Bounds) -> None:
    """Give a bare slot its rules and then its addresses. In that order: it is never open."""

    def work() -> None:
        nftables.apply(slot_rules(policy, bounds))
        for name, value in _SYSCTLS:
            _set(name, value)
        with netlink() as devices:
            devices.up(TAP, *_GATEWAYS, mac=GATEWAY_MAC)
            devices.neighbour(TAP, GUEST_4, GUEST_MAC)
            devices.neighbour(TAP, GUEST_6, GUEST_MAC)

    _carried_out(slot, work)
    slot.policy = policy


def limit(slot: NetworkSlot, mbit: int) -> None:
    """Bound what may pass each way; the devices must be there."""

    def work() -> None:
        with netlink() as devices:
            for name in (TAP, UP):
                devices.shape(name, mbit)

    if mbit and slot.link.name:
        _carried_out(slot, work)


def enact(slot: NetworkSlot, policy: EgressPolicy, bounds: Bounds) -> None:
    """Replace the policy of a slot whose guest does not run yet."""
    _carried_out(slot, lambda: nftables.apply(new_policy(policy, bounds)))
    slot.policy = policy


def dismantled(slot: NetworkSlot) -> bool:
    """Remove what the host holds for a closed slot; False if that is to be tried again.

    What is done is not done twice: the name of a link may be another slot's by then.
    """
    try:
        if slot.relay is not None:
            slot.relay.close()
            slot.relay = None
    except Exception:  # noqa: BLE001  one slot of many
        _log.exception("network.relay_not_closed", link=slot.link.name)
    try:
        slot.link.detach()
        slot.link = NoLink()
    except Exception:  # noqa: BLE001  one slot of many
        _log.exception("network.link_not_removed", link=slot.link.name)
    return slot.relay is None and slot.link.name == ""


def _carried_out(slot: NetworkSlot, work: Callable[[], None]) -> None:
    try:
        namespace.inside(slot.netns_fd, work)
    except OSError as error:
        raise Unavailable(
            f"cannot furnish a network slot: {error}", hint="see: emberkeep doctor"
        ) from error


def _set(name: str, value: str) -> None:
    with suppress(FileNotFoundError):  # a kernel without IPv6
        Path("/proc/sys/net", name).write_text(value, encoding="ascii")


def _opened() -> tuple[int, int]:
    with ExitStack() as undo:
        # opened inside: a tun descriptor belongs to the namespace it was opened in
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        undo.callback(os.close, tap)
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", TAP.encode(), flags))
        fcntl.ioctl(tap, _TUNSETVNETHDRSZ, struct.pack("i", _VNET_HEADER))
        netns = namespace.own()
        undo.pop_all()
    return netns, tap
