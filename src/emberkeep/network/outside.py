"""Which uplink the slots of a server have: the best that host, user and setting allow."""

import os
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from emberkeep.domain.egress import NONE
from emberkeep.domain.errors import EmberkeepError, Unavailable
from emberkeep.network import namespace, nftables
from emberkeep.network.host import HostRules
from emberkeep.network.links import Links, devices_of, plan
from emberkeep.network.netlink import netlink
from emberkeep.network.pasta import Pasta
from emberkeep.network.rules import Bounds, slot_rules
from emberkeep.network.settings import NetworkSettings
from emberkeep.network.uplink import NoUplink, Uplink
from emberkeep.network.veth import Veth

_ALL_USERS: Final = 4294967295


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """The uplink, the host's rules where there are any, and the bounds that hold for each slot."""

    uplink: Uplink
    bounds: Bounds
    rules: HostRules | None = None
    filtered: bool = True  # there is nft: slots have rules
    why: str = ""  # there is no better one


def found(settings: NetworkSettings, instance: str) -> Outside:
    """Choose an uplink; raise `Unavailable` if the setting names one that cannot be had."""
    kinds = ("veth", "pasta") if settings.uplink == "auto" else (settings.uplink,)
    reasons = [why] if (why := _unfiltered(settings)) else []
    for kind in kinds:
        if kind == "none":
            continue
        try:
            if why:
                raise Unavailable(why, hint="install nftables; see: emberkeep doctor")
            return _veth(settings, instance) if kind == "veth" else _pasta(settings, instance)
        except (EmberkeepError, OSError) as error:
            if settings.uplink != "auto":
                raise
            reasons.append(f"{kind}: {error}")
    return Outside(
        uplink=NoUplink(), bounds=_bounds(settings), filtered=not why,
        why="; ".join(dict.fromkeys(reasons)),
    )  # fmt: skip


def of_now(bounds: Bounds) -> Bounds:
    """Return `bounds` with the addresses that the host has now.

    The host's own rules know at any time which these are; this is for when they have been flushed.
    """
    with netlink() as devices:
        found = {ip_network(one.ip) for _, one in devices.interfaces()}
    return replace(bounds, own=tuple(found))


def is_host_root(uid_map: Path = Path("/proc/self/uid_map")) -> bool:
    """Say whether we are root of the host, and not of a user namespace."""
    first, _, count = map(int, uid_map.read_text("ascii").split()[:3])
    return os.geteuid() == 0 and first == 0 and count == _ALL_USERS


def _veth(settings: NetworkSettings, instance: str) -> Outside:
    if not is_host_root():
        raise Unavailable("veth needs root", hint="run as root, or install pasta (package passt)")
    links = _links(settings, instance)
    bounds = _bounds(settings, links)
    rules = HostRules(instance, links, bounds, settings)
    rules.tried()
    return Outside(uplink=Veth(links, namespace.own()), bounds=bounds, rules=rules)


def _links(settings: NetworkSettings, instance: str) -> Links:
    with netlink() as devices:
        begin = devices_of(instance)
        used = list(devices.networks(but=begin))
        earlier = [
            one
            for name, one in devices.interfaces()
            if name.startswith(begin) and one.version == 4  # noqa: PLR2004
        ]
    return plan(instance, settings.links, used=used, earlier=earlier)


def _pasta(settings: NetworkSettings, instance: str) -> Outside:
    uplink = Pasta(instance)
    uplink.tried()
    return Outside(uplink=uplink, bounds=_bounds(settings))


def _unfiltered(settings: NetworkSettings) -> str:
    """Return why slots cannot have rules here: then they have no way out; "" if they can."""
    try:
        namespace.in_new(lambda: nftables.check(slot_rules(NONE, _bounds(settings))))
    except (Unavailable, OSError) as error:
        return str(error)
    return ""


def _bounds(settings: NetworkSettings, links: Links | None = None) -> Bounds:
    return Bounds(
        udp=settings.udp,
        connections=settings.connections,
        new_connections_per_s=settings.new_connections_per_s,
        links=links.networks if links else (),
        internet_also=settings.internet_also.allowed,
    )
