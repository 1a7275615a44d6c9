"""Server-sent events, read from the pieces in which they come."""

from typing import Final

from emberkeep_sdk._errors import Unavailable

_MOST: Final = 1 << 20


class Messages:
    """Takes pieces of a stream and gives the data of the messages that have come whole."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of the messages that `piece` completes."""
        *whole, self._rest = (self._rest + piece).split(b"\n\n")
        if len(self._rest) > _MOST:
            raise Unavailable("the server sent an event that does not end")
        return [data for data in map(_data, whole) if data]


def _data(message: bytes) -> bytes:
    lines = message.split(b"\n")
    return b"\n".join(line[5:].lstrip(b" ") for line in lines if line.startswith(b"data:"))
