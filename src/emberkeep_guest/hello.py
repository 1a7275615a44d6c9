"""How the two ends of the channel find each other, whatever an earlier session has left in between.

The host says `EMBERKEEP/1 <nonce>`, the guest answers `EMBERKEEP/1 OK <nonce>`, each a line; what
stands before these lines is dropped on both sides.
"""

import asyncio
from typing import Final

from emberkeep_guest.outbox import Transport
from emberkeep_guest.yamux import HEADER_SIZE, MOST

_HELLO: Final = b"EMBERKEEP/1 "  # then 32 hex digits and the end of the line
_HELLO_SIZE: Final = 45  # no regular expression: its engine would be translated for this alone
_PATIENCE: Final = 4 << 20  # bytes of an earlier session the host drops before it gives up
# No frame can hold these, whatever part of one the guest has got: it ends the old session.
_PADDING: Final = b"\n" * (MOST + HEADER_SIZE)


class HelloFailed(Exception):
    """The guest did not answer the hello."""


class Port:
    """A transport into which bytes that were read too far can be put back."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._unread = b""

    async def read(self, most: int, /) -> bytes:
        """Return what was put back, else read."""
        if self._unread:
            data, self._unread = self._unread[:most], self._unread[most:]
            return data
        return await self._transport.read(most)

    async def write(self, data: bytes, /) -> None:
        """Write."""
        await self._transport.write(data)

    def unread(self, data: bytes) -> None:
        """Put bytes back; they are the next to be read."""
        self._unread = data + self._unread

    def close(self) -> None:
        """Close the transport below."""
        self._transport.close()


class Hellos:
    """Finds the hello in a stream of anything; holds less than a line of it."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Return the nonce of the last whole hello and what is behind it; None if there is none.

        The last one, since the host says nothing behind a hello before it is answered.
        """
        data = self._tail + data
        at = data.rfind(_HELLO)
        while at >= 0:
            nonce, end = data[at + len(_HELLO) : at + _HELLO_SIZE - 1], at + _HELLO_SIZE
            if data[end - 1 : end] == b"\n" and not nonce.strip(b"0123456789abcdef"):
                self._tail = b""
                return nonce, data[end:]
            at = data.rfind(_HELLO, 0, at)
        self._tail = data[-(_HELLO_SIZE - 1) :]
        return None


class Answer:
    """Finds the answer to one nonce in a stream of anything; holds less than a line of it."""

    def __init__(self, nonce: str) -> None:
        self._line = b"EMBERKEEP/1 OK " + nonce.encode("ascii") + b"\n"
        self._tail = b""
        self._dropped = 0

    def feed(self, data: bytes) -> bytes | None:
        """Return what is behind the answer, None as long as it has not come.

        Raises HelloFailed when too much has come before it.
        """
        data = self._tail + data
        at = data.find(self._line)
        if at >= 0:
            return data[at + len(self._line) :]
        self._tail = data[-(len(self._line) - 1) :]
        self._dropped += len(data) - len(self._tail)
        if self._dropped > _PATIENCE:
            raise HelloFailed(f"the guest sent {self._dropped} bytes and no answer to the hello")
        return None


async def answer(transport: Transport) -> Port:
    """Guest: wait for a hello, answer it, return the transport positioned behind it.

    Give the returned port to the session, and again to the next `answer`: what the session read
    too far is in it. Raises EOFError when the host is gone before it has said hello.
    """
    port = transport if isinstance(transport, Port) else Port(transport)
    hellos = Hellos()
    while data := await port.read(MOST):
        if found := hellos.feed(data):
            nonce, rest = found
            port.unread(rest)
            await port.write(b"EMBERKEEP/1 OK " + nonce + b"\n")
            return port
    raise EOFError("the host has disconnected")


async def greet(transport: Transport, nonce: str, deadline: float, *, again: bool = False) -> Port:
    """Host: say hello with `nonce` (32 hex digits), return the transport behind the answer.

    `again` is for a guest that did not answer: it may have missed that an earlier host went away,
    and be waiting for the rest of a frame; so it is given enough to see that there will be none.
    Raises HelloFailed, or TimeoutError when `deadline` seconds have passed.
    """
    port = Port(transport)
    line = b"EMBERKEEP/1 " + nonce.encode("ascii") + b"\n"
    wanted = Answer(nonce)
    async with asyncio.timeout(deadline):
        await port.write(_PADDING + line if again else line)
        while data := await port.read(MOST):
            rest = wanted.feed(data)
            if rest is not None:
                port.unread(rest)
                return port
    raise HelloFailed("the guest's port was closed")
