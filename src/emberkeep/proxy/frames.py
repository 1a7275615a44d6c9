"""The lengths of HTTP/2 frames, before h2 sees them: it waits for all of one, however long."""

from typing import Final

LONGEST: Final = 16384  # what we announce (RFC 9113 §4.2)
_HEADER: Final = 9
_LENGTH: Final = 3
PREFACE: Final = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


class Gauge:
    """Follows the frames of one connection; `skip` bytes come before the first."""

    def __init__(self, *, skip: int) -> None:
        self._left = skip  # bytes of a frame's body that have not come
        self._head = b""

    def fits(self, data: bytes) -> bool:
        """Take what has come; say whether no frame in it claims to be too long."""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
                continue
            step = min(_HEADER - len(self._head), end - at)
            self._head += data[at : at + step]
            at += step
            if len(self._head) == _HEADER:
                self._left = int.from_bytes(self._head[:_LENGTH])
                self._head = b""
                if self._left > LONGEST:
                    return False
        return True
