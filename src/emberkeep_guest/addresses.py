"""The addresses between a microVM and its slot: one plan for all, so that every clone fits it.

They exist inside one network namespace of the host and one VM only. The MAC addresses are fixed
too: the neighbour of each side is written down, not asked for, so that a restored guest need not
find out that its gateway is another machine's now, and cannot claim to be somebody else.
"""

from typing import Final

GUEST_MAC: Final = "02:ee:00:00:00:01"  # also in the shape of the VM
GATEWAY_MAC: Final = "02:ee:00:00:00:02"  # of the tap, in the slot's namespace

GATEWAY_4: Final = "10.213.0.1"
GUEST_4: Final = "10.213.0.2"
PREFIX_4: Final = 30
GATEWAY_6: Final = "fd65:6d62:6572::1"
GUEST_6: Final = "fd65:6d62:6572::2"
PREFIX_6: Final = 64

# Of the guest's device. An uplink with less says so by ICMP, from the gateway (RFC 1191, 8201).
MTU: Final = 1500

DNS_PORT: Final = 53  # of the relay, on both addresses of the gateway
METADATA: Final = "169.254.169.254"  # inside the VM, never on the host's side
API_PORT: Final = 9700  # there, of the gateway to the host's API
