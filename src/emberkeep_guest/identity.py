"""What makes this microVM another than its siblings from the same snapshot."""

# pathlib would be one more import, and most of these are files of the kernel.
# ruff: noqa: PTH103, PTH123

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


class OwnFiles:
    """The files that are mounted into the container; open from the start, so that all is quick."""

    def __init__(self, own: str) -> None:
        """Make them, for the time before the first launch."""
        os.makedirs(own, exist_ok=True)
        files = _files(FIRST_HOSTNAME, os.urandom(16).hex(), _new_boot_id())
        files["resolv.conf"] = RESOLVER
        self._fds: dict[str, int] = {}
        for name in OWN_FILES:
            fd = os.open(f"{own}/{name}", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
            os.fchmod(fd, 0o444 if name == "boot_id" else 0o644)
            os.pwrite(fd, files.get(name, "").encode(), 0)
            self._fds[name] = fd

    def assume(self, identity: Identity) -> None:
        """Become the microVM `identity`."""
        socket.sethostname(identity.hostname)
        new = {name: text.encode() for name, text in identity.files().items()}
        for name, text in new.items():  # all of them first: the container may have filled one
            if os.fstat(self._fds[name]).st_size > len(text):
                os.ftruncate(self._fds[name], len(text))
        for name, text in new.items():
            os.pwrite(self._fds[name], text, 0)


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
