"""The framing of the guest channel: bytes to frames and back, with no input or output of its own.

Frames are those of yamux (https://github.com/hashicorp/yamux/blob/master/spec.md): a header of
version, kind, flags, stream and length, big-endian, and for data that many bytes behind it.
"""

import struct
from typing import Final

WINDOW: Final = 256 * 1024  # what a peer may send on a stream before it is read
MOST: Final = 64 * 1024  # the longest data frame that is accepted
CHUNK: Final = 32 * 1024  # the longest data frame that is sent
STREAMS: Final = 256  # at once

DATA: Final = 0
WINDOW_UPDATE: Final = 1
PING: Final = 2
GO_AWAY: Final = 3

SYN: Final = 1
ACK: Final = 2
FIN: Final = 4
RST: Final = 8

HEADER: Final = struct.Struct(">BBHII")
HEADER_SIZE: Final = HEADER.size
_ALL_FLAGS: Final = SYN | ACK | FIN | RST

# kind, flags, stream, length (of the data, the credit, the value or the code), data
Frame = tuple[int, int, int, int, bytes]


def header(kind: int, flags: int, stream: int, length: int) -> bytes:
    """Return a frame's header; the data of a data frame goes behind it."""
    return HEADER.pack(0, kind, flags, stream, length)


class Decoder:
    """Turns bytes, however they are cut, into frames; holds one unfinished frame at most."""

    def __init__(self) -> None:
        self.broken = ""  # why nothing after the last frames can be one
        self._rest = bytearray()
        self._enough = 0  # with fewer bytes than these a new attempt is in vain

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes, those before a broken one included."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._enough:
                return []
            data = bytes(self._rest)
        frames: list[Frame] = []
        self._enough = HEADER_SIZE
        at, end = 0, len(data)
        while end - at >= HEADER_SIZE and not self.broken:
            version, kind, flags, stream, length = HEADER.unpack_from(data, at)
            body = at + HEADER_SIZE
            if kind == DATA and not version and flags <= _ALL_FLAGS and length <= MOST:
                if body + length > end:
                    self._enough = HEADER_SIZE + length
                    break
                at = body + length
                frames.append((kind, flags, stream, length, data[body:at]))
            else:
                self.broken = _fault(version, kind, flags, length)
                if not self.broken:
                    at = body
                    frames.append((kind, flags, stream, length, b""))
        self._rest = bytearray(data[at:])
        if self._rest and self._rest[0] and not self.broken:
            self.broken = _fault(self._rest[0], 0, 0, 0)  # told before the header is complete
        return frames

    def rest(self) -> bytes:
        """Return what no frame was made of."""
        return bytes(self._rest)


def _fault(version: int, kind: int, flags: int, length: int) -> str:
    if version:
        return f"frame of version {version}"
    if kind > GO_AWAY:
        return f"frame of unknown kind {kind}"
    if flags > _ALL_FLAGS:
        return f"frame with unknown flags {flags:#x}"
    if kind == DATA and length > MOST:
        return f"frame of {length} bytes"
    return ""
