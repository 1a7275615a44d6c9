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
    """Turns bytes, however they are cut, into frames; holds less than a header.

    The data of a frame is passed on as it comes: as several frames, of which the first has its SYN
    and ACK, and the last its FIN and RST.
    """

    def __init__(self) -> None:
        self.broken = ""  # why nothing after the last frames can be one
        self._rest = b""
        self._left = 0  # bytes of a frame's data that have not come
        self._flags = 0
        self._stream = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames in `data`, those before a broken one included."""
        if self._rest:
            data = self._rest + data
        frames: list[Frame] = []
        at, end = 0, len(data)
        while at < end:
            if self._left:
                size = min(self._left, end - at)
                frames.append(self._piece(data[at : at + size]))
                at += size
                continue
            if end - at < HEADER_SIZE:
                self.broken = _fault(data[at], 0, 0, 0)
                break
            version, kind, flags, stream, length = HEADER.unpack_from(data, at)
            self.broken = _fault(version, kind, flags, length)
            if self.broken:
                break
            at += HEADER_SIZE
            if kind == DATA and length:
                self._left, self._flags, self._stream = length, flags, stream
            else:
                frames.append((kind, flags, stream, length, b""))
        self._rest = data[at:]
        return frames

    def rest(self) -> bytes:
        """Return what no frame was made of."""
        return self._rest

    def _piece(self, data: bytes) -> Frame:
        self._left -= len(data)
        flags = self._flags & ~(FIN | RST) if self._left else self._flags
        self._flags &= FIN | RST
        return DATA, flags, self._stream, len(data), data


def _fault(version: int, kind: int, flags: int, length: int) -> str:
    if not version and kind <= GO_AWAY and flags <= _ALL_FLAGS and (length <= MOST or kind != DATA):
        return ""
    if version:
        return f"frame of version {version}"
    if kind > GO_AWAY:
        return f"frame of unknown kind {kind}"
    if flags > _ALL_FLAGS:
        return f"frame with unknown flags {flags:#x}"
    return f"frame of {length} bytes"
