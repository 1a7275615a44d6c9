"""Which resolvers are asked for the names of guests: those configured, or the host's own."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Self

from emberkeep.domain.errors import Invalid

# systemd-resolved's own file comes first: /etc/resolv.conf then names but its stub.
FILES: Final = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
_PORT: Final = 53
_MOST: Final = 3  # as the C library
_MOST_BYTES: Final = 64 * 1024
_HINT: Final = 'write it as "192.0.2.53", "192.0.2.53:5353" or "[2001:db8::53]:5353"'


@dataclass(frozen=True, slots=True)
class Resolver:
    """The address of one resolver; one of IPv6 may have a zone ("fe80::1%eth0")."""

    host: str
    port: int = _PORT

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address with or without a port; raise `Invalid` for a name."""
        host, port = text.strip(), str(_PORT)
        if host.startswith("["):
            host, _, rest = host[1:].partition("]")
            port = rest.removeprefix(":") or port
        elif host.count(":") == 1:
            host, _, port = host.partition(":")
        try:
            ip_address(host)
        except ValueError:
            raise Invalid(f"not the address of a resolver: {text[:80]!r}", hint=_HINT) from None
        if not port.isdecimal() or not 1 <= int(port) <= 65535:  # noqa: PLR2004
            raise Invalid(f"not the port of a resolver: {text[:80]!r}", hint=_HINT)
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def of_resolv_conf(text: str) -> tuple[Resolver, ...]:
    """Return the resolvers a resolv.conf names; what is none is passed over."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(Resolver.parse(words[1] if ":" not in words[1] else f"[{words[1]}]"))
            except Invalid:
                continue
    return tuple(found[:_MOST])


@dataclass(frozen=True, slots=True)
class Configured:
    """The resolvers that `network.dns` names; none means those of the host."""

    resolvers: tuple[Resolver, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read addresses separated by blanks."""
        return cls(tuple(map(Resolver.parse, text.split())))

    def __str__(self) -> str:
        return " ".join(map(str, self.resolvers))


class HostResolvers:
    """The resolvers of this host, read again whenever their file has changed. For any thread."""

    def __init__(self, files: Sequence[Path] = FILES) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._signature: object = None
        self._resolvers: tuple[Resolver, ...] = ()

    def __call__(self) -> tuple[Resolver, ...]:
        """Return them; none if the host has none."""
        with self._lock:
            signature = [_signature(path) for path in self._files]
            if signature != self._signature:
                self._signature, self._resolvers = signature, self._read()
            return self._resolvers

    def _read(self) -> tuple[Resolver, ...]:
        for path in self._files:
            try:
                with path.open(encoding="utf-8", errors="replace") as file:
                    found = of_resolv_conf(file.read(_MOST_BYTES))
            except OSError:
                continue
            if found:
                return found
        return ()


Resolvers = Callable[[], Sequence[Resolver]]
THE_HOSTS: Final = Configured()


def resolvers(configured: Configured) -> Resolvers:
    """Return who says which resolvers to ask: those configured, or the host's where none are."""
    return (lambda: configured.resolvers) if configured.resolvers else HostResolvers()


def _signature(path: Path) -> tuple[int, ...]:
    try:
        it = os.stat(path)  # noqa: PTH116  the same as below
    except OSError:
        return ()
    return it.st_dev, it.st_ino, it.st_mtime_ns, it.st_size
