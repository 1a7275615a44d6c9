"""The frames of an exec out of a stream's bytes, however small they are made: joined, in bounds."""

import struct
from typing import Final

from emberkeep_guest.messages import CONTROL, PAYLOAD, STDERR, BadMessage

_HEAD: Final = struct.Struct(">BI")
_AT_ONCE: Final = 500  # frames that are looked at before others have a turn


class Frames:
    """Bytes in, (kind, payload) out; output frames of one kind behind each other become one."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def feed(self, data: bytes) -> None:
        """Take more bytes; call it when `next` has nothing."""
        self._data = self._data[self._at :] + data
        self._at = 0

    def next(self) -> tuple[int, bytes] | None:
        """Return what comes next, None where that is not whole yet; raise `BadMessage`."""
        found = self._whole()
        if found is None:
            return None
        if found[0] > STDERR or found[1] > PAYLOAD:
            raise BadMessage(f"a frame of kind {found[0]} and {found[1]} bytes")
        if found[0] == CONTROL:
            return self._taken(found)
        kind, parts, size = found[0], list[bytes](), 0
        for _ in range(_AT_ONCE):
            parts.append(self._taken(found)[1])
            size += len(parts[-1])
            found = self._whole()
            if found is None or found[0] != kind or size + found[1] > PAYLOAD:
                break  # a wrong one waits for the next call: what came before it is good
        return kind, parts[0] if len(parts) == 1 else b"".join(parts)

    def must_be_empty(self) -> None:
        """Raise `EOFError` if the bytes have ended within a frame."""
        if self._at < len(self._data):
            raise EOFError("the output ended within a frame")

    def _whole(self) -> tuple[int, int] | None:
        """Return kind and size of the next frame if all of it is there, or if it is a wrong one."""
        if len(self._data) - self._at < _HEAD.size:
            return None
        kind, size = _HEAD.unpack_from(self._data, self._at)
        if size <= PAYLOAD and len(self._data) - self._at < _HEAD.size + size:
            return None
        return kind, size

    def _taken(self, found: tuple[int, int]) -> tuple[int, bytes]:
        begin = self._at + _HEAD.size
        self._at = begin + found[1]
        return found[0], self._data[begin : self._at]
