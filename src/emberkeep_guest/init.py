"""What PID 1 of the microVM does before anything else, and at the very end."""

# pathlib would be one more import, and most of these are files of the kernel.
# ruff: noqa: PTH103, PTH123

import fcntl
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from emberkeep_guest import libc, network
from emberkeep_guest.container import raise_limits
from emberkeep_guest.identity import FIRST_HOSTNAME
from emberkeep_guest.places import Places

_PLAIN: Final = libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_SETTINGS: Final = {
    "/proc/self/oom_score_adj": "-1000",
    # As in Docker: any user of the container may listen on any port, and ping.
    "/proc/sys/net/ipv4/ip_unprivileged_port_start": "0",
    "/proc/sys/net/ipv4/ping_group_range": "0 2147483647",
}


def prepare(places: Places) -> None:
    """Bring the VM into the state that the agent and the container expect."""
    _mount_missing(places)
    for path, value in _SETTINGS.items():
        with suppress(OSError), open(path, "w") as file:
            file.write(value)
    raise_limits()
    os.umask(0o022)
    for step in (libc.lock_memory, _loopback_up, network.configure, _no_ctrl_alt_del):
        _attempt(step)
    socket.sethostname(FIRST_HOSTNAME)


def power_off() -> None:
    """End the VM."""
    os.sync()
    libc.reboot(libc.POWER_OFF)


def _mount_missing(places: Places) -> None:
    with open("/proc/self/mounts") as file:
        mounted = {line.split()[1] for line in file}
    wanted = (
        ("devpts", "/dev/pts", libc.MS_NOSUID | libc.MS_NOEXEC, "mode=620,ptmxmode=666,gid=5"),
        ("tmpfs", "/dev/shm", _PLAIN, "mode=1777"),  # noqa: S108  the VM's own
        ("cgroup2", places.cgroups, _PLAIN, ""),
        # Small: the container can write to some of the files there.
        ("tmpfs", places.own, _PLAIN, "mode=755,size=1m"),
    )
    for kind, target, flags, options in wanted:
        if target not in mounted:
            os.makedirs(target, exist_ok=True)
            libc.mount(kind, target, flags, options)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        up = struct.pack("16sH14x", b"lo", flags | _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, up)


def _no_ctrl_alt_del() -> None:
    libc.reboot(libc.CTRL_ALT_DEL_OFF)


def _attempt(step: Callable[[], None]) -> None:
    with suppress(OSError):
        step()
