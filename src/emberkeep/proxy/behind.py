"""Applications that speak TLS: finding out, and speaking it over a guest's stream (spec §7.5)."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Final

from emberkeep.domain.errors import GuestError
from emberkeep.domain.ports import ByteStream
from emberkeep.proxy.tls import Tls

_TLS_ANSWERS: Final = (0x15, 0x16)  # an alert, or a handshake
_PATIENCE_S: Final = 0.1
_LONGEST_S: Final = 3.0
_HANDSHAKE_S: Final = 15.0


@cache
def context(protocol: str) -> ssl.SSLContext:
    """Return how applications are spoken to; the channel itself says that it is the right guest."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname = False
    found.verify_mode = ssl.CERT_NONE
    found.options |= ssl.OP_NO_RENEGOTIATION  # with it a write may have to wait for a read
    found.set_alpn_protocols([protocol])
    return found


async def speaks_tls(stream: ByteStream) -> bool:
    """Say a TLS hello on a connection of its own, and see what is answered.

    An application that reads lines waits for the end of one: after a moment we end our side,
    and it answers or goes.
    """
    try:
        hello = Tls(context("http/1.1"), server=False, hostname="localhost")
        hello.begin()
        await stream.write(hello.outgoing())
        first = await _first(stream, _PATIENCE_S)
        if first is None:
            with suppress(GuestError):
                await stream.write_eof()
            first = await _first(stream, _LONGEST_S)
        return bool(first) and first is not None and first[0] in _TLS_ANSWERS
    except GuestError:
        return False  # it broke off: not what a TLS server does
    finally:
        stream.reset()


async def _first(stream: ByteStream, seconds: float) -> bytes | None:
    try:
        async with asyncio.timeout(seconds):
            return await stream.read(16)
    except TimeoutError:
        return None


class TlsStream:
    """TLS over another stream."""

    def __init__(self, under: ByteStream, tls: Tls) -> None:
        self._under = under
        self._tls = tls
        self._left: list[bytes] = []

    @classmethod
    async def over(cls, under: ByteStream, protocol: str) -> "TlsStream":
        """Shake hands; raise `GuestError` where that fails."""
        stream = cls(under, Tls(context(protocol), server=False, hostname="localhost"))
        try:
            async with asyncio.timeout(_HANDSHAKE_S):
                await stream._shake()
        except BaseException:
            under.reset()
            raise
        return stream

    @property
    def alpn(self) -> str | None:
        """The protocol that was agreed on."""
        return self._tls.alpn

    @property
    def silent(self) -> bool:
        """Whether it is open both ways and nothing has come that was not read."""
        return self._under.silent and not self._left and not self._tls.over

    async def read(self, most: int = 65536) -> bytes:
        """Return some bytes, or none at the end."""
        while not self._left and not self._tls.over:
            raw = await self._under.read(most)
            if not raw:
                return b""
            await self._fed(raw)
        data = b"".join(self._left)
        self._left.clear()
        return data

    async def write(self, data: bytes) -> None:
        """Send all of `data`, as fast as the guest takes it."""
        with _translated():
            sealed = self._tls.seal(data)
        await self._under.write(sealed)

    async def write_eof(self) -> None:
        """Say that nothing more comes."""
        await self._under.write(self._tls.goodbye())
        await self._under.write_eof()

    def reset(self) -> None:
        """Break it off, both ways. Idempotent."""
        self._under.reset()

    async def _shake(self) -> None:
        self._tls.begin()
        await self._under.write(self._tls.outgoing())
        while not self._tls.ready:
            raw = await self._under.read()
            if not raw:
                raise GuestError("the application ended the connection during its TLS handshake")
            await self._fed(raw)

    async def _fed(self, raw: bytes) -> None:
        with _translated():
            self._left += self._tls.feed(raw)
        if out := self._tls.outgoing():
            await self._under.write(out)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise what TLS does not like about the application as `GuestError`."""
    try:
        yield
    except ssl.SSLError as wrong:
        raise GuestError(f"the application's TLS failed: {wrong}") from wrong
