"""Forwarding on the host, for the devices concerned and nothing else.

Where the host is no router, the devices with a default route are made to forward, and at the same
time forbidden to forward anything that is not a microVM's: the host becomes no router for its
neighbours. The rule and the list of devices lie in the kernel, in a table that all our servers of a
host share; the last of them switches back what the first has switched on.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from emberkeep.network import nftables
from emberkeep.network.links import COMMON

TABLE: Final = "emberkeep_forwarding"
_SET: Final = "opened"
_NET: Final = Path("/proc/sys/net")


def is_on(version: int, *, net: Path = _NET) -> bool:
    """Say whether this host is a router by its own will."""
    return _read(net / f"ipv{version}/conf/all/forwarding") == "1"


def can_be_on(version: int, device: str, *, net: Path = _NET) -> bool:
    """Say whether `device` alone can be made to forward (IPv6: Linux 6.17 and later)."""
    return _switch(version, device, net).exists()


def open_link(device: str) -> None:
    """Let the host's end of an uplink forward what comes from its slot."""
    for version in (4, 6):
        with suppress(OSError):
            _switch(version, device, _NET).write_text("1", encoding="ascii")
    with suppress(OSError):
        (_NET / f"ipv6/conf/{device}/accept_ra").write_text("0", encoding="ascii")


def open_ways_out(ways: dict[int, set[str]]) -> None:
    """Let the devices with a default route forward to microVMs, where the host does not anyway."""
    closed = {
        version: {one for one in devices if _read(_switch(version, one, _NET)) == "0"}
        for version, devices in ways.items()
    }
    if any(closed.values()):
        nftables.apply(_guard(closed))
    for version, devices in closed.items():
        for device in devices:
            _switch(version, device, _NET).write_text("1", encoding="ascii")


def step_back() -> None:
    """Drop the guard where the host has become a router meanwhile: that is for others to bound."""
    for version in (4, 6):
        if is_on(version) and nftables.elements(TABLE, f"{_SET}{version}"):
            nftables.apply(f"flush set inet {TABLE} {_SET}{version}\n")


def close_ways_out(own_table: str) -> None:
    """Switch back what was switched on, unless another of our servers needs it."""
    tables = nftables.tables()
    ours = {one for one in tables if one.startswith("emberkeep_")} - {TABLE, own_table}
    if ours or TABLE not in tables:
        return
    for version in (4, 6):
        for device in nftables.elements(TABLE, f"{_SET}{version}"):
            if not is_on(version):
                with suppress(OSError):
                    _switch(version, device, _NET).write_text("0", encoding="ascii")
    nftables.apply(f"delete table inet {TABLE}\n")


def _guard(closed: dict[int, set[str]]) -> str:
    text = f"""
table inet {TABLE} {{
  set {_SET}4 {{ type ifname; }}
  set {_SET}6 {{ type ifname; }}
  chain forward {{ type filter hook forward priority filter - 4; policy accept; }}
}}
flush chain inet {TABLE} forward
"""
    for version, devices in closed.items():
        names = ", ".join(f'"{one}"' for one in sorted(devices))
        if names:
            text += f"add element inet {TABLE} {_SET}{version} {{ {names} }}\n"
        text += (
            f"add rule inet {TABLE} forward meta nfproto ipv{version} iifname @{_SET}{version}"
            f' oifname != "{COMMON}*" counter drop\n'
        )
    return text


def _switch(version: int, device: str, net: Path) -> Path:
    name = "forwarding" if version == 4 else "force_forwarding"  # noqa: PLR2004
    return net / f"ipv{version}" / "conf" / device / name


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
