"""The headers of HTTP/2 frames, before h2 sees them: it waits for all of one, however long.

Also judged here is what h2 lets pass, or names wrongly: how a connection begins (RFC 9113 §3.4),
which frames a header block may be cut into (§6.10), and the length of a SETTINGS ACK (§6.5).
"""

import struct
from typing import Final

from h2.errors import ErrorCodes

LONGEST: Final = 16384  # what we announce (RFC 9113 §4.2)
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER: Final = struct.Struct(">HBBBI")
_SIZE: Final = _HEADER.size
_STREAM: Final = 2**31 - 1  # without the reserved bit
_HEADERS, _SETTINGS, _PUSH_PROMISE, _CONTINUATION = 1, 4, 5, 9
_ACK: Final = 1
_END_HEADERS: Final = 4


class Gauge:
    """Follows the frames of one connection; `preface` comes before the first."""

    def __init__(self, *, preface: bytes = b"") -> None:
        self._preface = preface
        self._left = 0  # bytes of a frame's body that have not come
        self._head = b""
        self._begun = False
        self._block = 0  # the stream whose header block is not complete

    def fault(self, data: bytes) -> ErrorCodes | None:
        """Take what has come; return what is wrong with it, if it is anything of this module's."""
        at, end = 0, len(data)
        if self._preface:
            at = min(end, len(self._preface))
            if data[:at] != self._preface[:at]:
                return ErrorCodes.PROTOCOL_ERROR
            self._preface = self._preface[at:]
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
                continue
            step = min(_SIZE - len(self._head), end - at)
            self._head += data[at : at + step]
            at += step
            if len(self._head) == _SIZE:
                high, low, kind, flags, stream = _HEADER.unpack(self._head)
                self._head = b""
                self._left = high << 8 | low
                if code := self._judged(kind, flags, stream & _STREAM):
                    return code
        return None

    def _judged(self, kind: int, flags: int, stream: int) -> ErrorCodes | None:
        if self._left > LONGEST or (kind == _SETTINGS and flags & _ACK and self._left):
            return ErrorCodes.FRAME_SIZE_ERROR
        if not self._begun and (kind != _SETTINGS or flags & _ACK):
            return ErrorCodes.PROTOCOL_ERROR
        self._begun = True
        if (kind == _CONTINUATION) != bool(self._block) or self._block not in {0, stream}:
            return ErrorCodes.PROTOCOL_ERROR
        if kind in {_HEADERS, _PUSH_PROMISE, _CONTINUATION}:
            self._block = 0 if flags & _END_HEADERS else stream
        return None
