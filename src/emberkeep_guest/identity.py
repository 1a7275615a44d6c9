"""What makes this microVM another than its siblings from the same snapshot."""

# pathlib would be one more import, and most of these are files of the kernel.
# ruff: noqa: PTH101, PTH103, PTH123

import os
import re
import socket
from typing import Final

from emberkeep_guest.errors import OperationFailed
from emberkeep_guest.network import RESOLVER
from emberkeep_guest.oci import OWN_FILES
from emberkeep_guest.request import Request

_HOSTNAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MACHINE_ID: Final = re.compile(r"[0-9a-f]{32}")
_BOOT_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FIRST_HOSTNAME: Final = "emberkeep"
_PATTERNS: Final = {"hostname": _HOSTNAME, "machine_id": _MACHINE_ID, "boot_id": _BOOT_ID}
_HOSTS: Final = """\
127.0.0.1\tlocalhost {hostname}
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


class Identity:
    """The names and numbers of one microVM."""

    def __init__(self, request: Request) -> None:
        self.microvm_id = request.text("microvm_id")
        self.hostname = request.text("hostname")
        self.machine_id = request.text("machine_id")
        self.boot_id = request.text("boot_id")
        for name, pattern in _PATTERNS.items():
            if not pattern.fullmatch(request.text(name)):
                raise OperationFailed("invalid", f"identity: that is no {name}")

    def files(self) -> dict[str, str]:
        """Return what the files mounted into the container say."""
        return _files(self.hostname, self.machine_id, self.boot_id)


def prepare(own: str) -> None:
    """Make the files that are mounted into the container, for the time before the first launch."""
    os.makedirs(own, exist_ok=True)
    files = _files(FIRST_HOSTNAME, os.urandom(16).hex(), _new_boot_id())
    files["resolv.conf"] = RESOLVER
    for name in OWN_FILES:
        path = f"{own}/{name}"
        with open(path, "w") as file:
            file.write(files.get(name, ""))
        os.chmod(path, 0o444 if name == "boot_id" else 0o644)


def assume(identity: Identity, own: str) -> None:
    """Become the microVM `identity`; the files keep their inodes, since they are mounted."""
    socket.sethostname(identity.hostname)
    files = identity.files()
    for name in files:
        os.truncate(f"{own}/{name}", 0)  # all of them first: the container may have filled one
    for name, text in files.items():
        with open(f"{own}/{name}", "r+") as file:
            file.write(text)


def _files(hostname: str, machine_id: str, boot_id: str) -> dict[str, str]:
    return {
        "hostname": f"{hostname}\n",
        "hosts": _HOSTS.format(hostname=hostname),
        "machine-id": f"{machine_id}\n",
        "boot_id": f"{boot_id}\n",
    }


def _new_boot_id() -> str:
    with open("/proc/sys/kernel/random/uuid") as file:
        return file.read().strip()
