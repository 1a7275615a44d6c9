"""TLS with no input or output of its own, for clients in front and applications behind.

asyncio's own holds 256 KiB for each connection, a thousand idle ones are not to cost that.
"""

import ssl
from contextlib import suppress
from typing import Final

_RECORD: Final = 16384
_NAME: Final = "emberkeep_name"


class Tls:
    """One end of a TLS connection: bytes of the network in and out."""

    def __init__(
        self, context: ssl.SSLContext, *, server: bool, hostname: str | None = None
    ) -> None:
        self.ready = False  # the handshake is over
        self.over = False  # the other end has said that nothing more comes
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._in, self._out, server_side=server, server_hostname=hostname
        )

    @property
    def server_name(self) -> str | None:
        """The name that a client has asked for, if its context is one of `named`."""
        return getattr(self._object, _NAME, None)

    @property
    def alpn(self) -> str | None:
        """The protocol that was agreed on."""
        return self._object.selected_alpn_protocol()

    def begin(self) -> None:
        """Say the first word, as a client does."""
        self._shaken()

    def feed(self, raw: bytes) -> list[bytes]:
        """Take bytes of the network and return what they say; raise `ssl.SSLError`."""
        self._in.write(raw)
        if not self.ready and not self._shaken():
            return []
        pieces: list[bytes] = []
        try:
            while piece := self._object.read(_RECORD):
                pieces.append(piece)
            self.over = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.over = True
        return pieces

    def seal(self, data: bytes | memoryview) -> bytes:
        """Return `data` as it goes to the network."""
        if data:
            self._object.write(data)
        return self._out.read()

    def outgoing(self) -> bytes:
        """Return what has to go to the network besides data: handshakes, tickets, alerts."""
        return self._out.read() if self._out.pending else b""

    def goodbye(self) -> bytes:
        """Return the end of our direction."""
        with suppress(ssl.SSLError, ValueError, OSError):  # an answer is not waited for
            self._object.unwrap()
        return self._out.read()

    def _shaken(self) -> bool:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.ready = True
        return True


def named(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let connections with a server's `context` know the name they were asked for."""

    def note(one: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        setattr(one, _NAME, name.lower() if name else None)

    context.sni_callback = note  # it is given an SSLObject here
    return context
