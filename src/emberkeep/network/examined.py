"""What `emberkeep doctor` wants to know about the way out of this host, by looking only."""

from collections.abc import Mapping
from typing import Any

from emberkeep.domain.errors import EmberkeepError
from emberkeep.network import firewalls, forwarding
from emberkeep.network.netlink import netlink
from emberkeep.network.outside import found, is_host_root
from emberkeep.network.settings import NetworkSettings


def looked_at(settings: NetworkSettings) -> Mapping[str, Any]:
    """Return the uplink that slots would have, and what would be in its way."""
    try:
        outside = found(settings, "doctor")
    except (EmberkeepError, OSError) as error:
        return {"uplink": "none", "no_uplink": str(error)}
    kind = outside.uplink.kind
    if kind != "veth" or not is_host_root():
        return {"uplink": kind, "no_uplink": outside.why}
    chains = [one.name for one in firewalls.closed() if not (one.dockers and settings.docker_user)]
    return {
        "uplink": kind,
        "forwarding": _forwarding(settings),
        "closed": chains,
        "let_pass": firewalls.remedy(),
    }


def _forwarding(settings: NetworkSettings) -> Mapping[int, str]:
    """Say for each IP version that has a way out why nothing would be forwarded; "" if it is."""
    with netlink() as devices:
        ways = devices.ways_out()
    return {
        version: _obstacle(version, names, settings) for version, names in ways.items() if names
    }


def _obstacle(version: int, names: set[str], settings: NetworkSettings) -> str:
    if forwarding.is_on(version):
        return ""
    if not settings.forwarding:
        return "this host does not forward, and is not to be made to (network.forwarding)"
    if all(forwarding.can_be_on(version, name) for name in names):
        return ""
    return "this host does not forward, and its kernel cannot for single devices"
