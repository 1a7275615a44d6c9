"""What TLS shows at which address: a certificate made on the spot, or the configured one."""

import os
import ssl
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from emberkeep.base.clock import Clock
from emberkeep.domain.errors import Invalid
from emberkeep.proxy.authority import Authority, Leaf
from emberkeep.proxy.settings import EndpointSettings
from emberkeep.proxy.tls import named

_REMEMBERED: Final = 1024
_FRESH_NS: Final = 30 * 86400 * 10**9
_log = structlog.get_logger()


class Certificates:
    """TLS contexts by address."""

    def __init__(
        self,
        authority: Authority,
        settings: EndpointSettings,
        clock: Clock,
        protocols: Sequence[str],
    ) -> None:
        self._authority = authority
        self._clock = clock
        self._protocols = protocols
        self._contexts: OrderedDict[str, tuple[int, ssl.SSLContext]] = OrderedDict()
        self._wildcard = f"*.{settings.domain}" if settings.domain else None
        self._settings = settings
        self._dated = _dates(settings)
        self._configured = self._from_files(settings)

    def context(self, address: str) -> ssl.SSLContext:
        """Return the context for connections to `address`."""
        if self._configured is not None:
            return self._configured
        name, now = self._wildcard or address, self._clock.wall_ns()
        known = self._contexts.get(name)
        if known is not None and now - known[0] < _FRESH_NS:
            self._contexts.move_to_end(name)
            return known[1]
        made = _loaded(self._authority.leaf(name, clock=self._clock), self._protocols)
        self._contexts[name] = (now, made)
        if len(self._contexts) > _REMEMBERED:
            self._contexts.popitem(last=False)
        return made

    def refresh(self) -> None:
        """Read the configured files again if they were replaced; what cannot be used is told."""
        dated = _dates(self._settings)
        if dated == self._dated:
            return
        self._dated = dated
        try:
            self._configured = self._from_files(self._settings)
        except Invalid as wrong:
            _log.warning("endpoint.certificate_not_read", why=wrong.message)
        else:
            _log.info("endpoint.certificate_read")

    def _from_files(self, settings: EndpointSettings) -> ssl.SSLContext | None:
        if settings.certificate is None and settings.key is None:
            return None
        if settings.certificate is None or settings.key is None or not settings.domain:
            raise Invalid(
                "endpoints: certificate, key and domain belong together", hint="set all three"
            )
        context = _context(self._protocols)
        try:
            context.load_cert_chain(settings.certificate, settings.key)
        except (OSError, ssl.SSLError) as wrong:
            raise Invalid(
                f"endpoints.certificate, endpoints.key: cannot be used: {wrong}",
                hint="give a PEM file with the chain, and its key without a password",
            ) from wrong
        return context


def _dates(settings: EndpointSettings) -> tuple[int, ...]:
    """Return what changes when the configured files do."""
    with suppress(OSError):
        files = (settings.certificate, settings.key)
        return tuple(path.stat().st_mtime_ns for path in files if path is not None)
    return ()


def _loaded(leaf: Leaf, protocols: Sequence[str]) -> ssl.SSLContext:
    """Return a context with `leaf`; ssl reads files alone, so it is given one that has no name."""
    context = _context(protocols)
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with os.fdopen(fd, "wb") as file:
        file.write(leaf.key + leaf.certificate)
        file.flush()
        context.load_cert_chain(Path(f"/proc/self/fd/{fd}"))
    return context


def _context(protocols: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(protocols))
    return named(context)
