"""The microVM's network, set up once: a snapshot has it, so no clone ever needs to.

Everything is written down for good, by the plan of addresses: nothing is asked for, discovered or
renewed, so a restored guest can send at once, to whatever gateway it has been given.
"""

# pathlib would be one more import, and most of these are files of the kernel.
# ruff: noqa: PTH110, PTH123

import os
import socket
from contextlib import suppress
from typing import Final

from emberkeep_guest import netlink
from emberkeep_guest.addresses import (
    GATEWAY_4,
    GATEWAY_6,
    GATEWAY_MAC,
    GUEST_4,
    GUEST_6,
    MTU,
    PREFIX_4,
    PREFIX_6,
)

DEVICE: Final = "eth0"
# The gateway announces nothing, and nobody else may: who could is a neighbour we do not have.
_IPV6: Final = {"accept_ra": "0", "autoconf": "0", "accept_redirects": "0", "dad_transmits": "0"}
RESOLVER: Final = f"nameserver {GATEWAY_4}\n"  # it answers for IPv6, too; one is asked once


def configure() -> None:
    """Give the network device its addresses, routes and neighbours, if there is one."""
    _set("lo", {"dad_transmits": "0"})
    try:
        index = socket.if_nametoindex(DEVICE)
    except OSError:
        return
    _set(DEVICE, _IPV6)
    netlink.tell(
        [
            netlink.link_up(index, mtu=MTU),
            netlink.new_address(index, GUEST_4, PREFIX_4),
            netlink.new_neighbour(index, GATEWAY_4, GATEWAY_MAC),
            netlink.new_route(index, via=GATEWAY_4),
        ]
    )
    if os.path.exists("/proc/sys/net/ipv6"):
        netlink.tell(
            [
                netlink.new_address(index, GUEST_6, PREFIX_6),
                netlink.new_neighbour(index, GATEWAY_6, GATEWAY_MAC),
                netlink.new_route(index, via=GATEWAY_6),
            ]
        )


def _set(device: str, values: dict[str, str]) -> None:
    for name, value in values.items():
        with suppress(OSError), open(f"/proc/sys/net/ipv6/conf/{device}/{name}", "w") as file:
            file.write(value)
