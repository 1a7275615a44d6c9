"""What has arrived on a stream and was not read yet, copied as rarely as can be."""

from collections import deque
from typing import Final

_SMALL: Final = (
    4096  # pieces are merged up to this size, so that crumbs do not cost more than bread
)


class Inbox:
    """A queue of bytes."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, data: bytes) -> None:
        """Append."""
        pieces = self._pieces
        if pieces and len(pieces[-1]) + len(data) <= _SMALL:
            pieces[-1] += data
        else:
            pieces.append(data)
        self._size += len(data)

    def take(self, most: int) -> bytes:
        """Remove and return the first bytes, `most` of them at most."""
        pieces = self._pieces
        if most >= self._size:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self.clear()
            return data
        found = []
        left = most
        while left:
            piece = pieces.popleft()
            if len(piece) > left:
                pieces.appendleft(piece[left:])
                piece = piece[:left]
            found.append(piece)
            left -= len(piece)
        self._size -= most
        return b"".join(found)

    def peek(self, most: int) -> bytes:
        """Return the first bytes and leave them."""
        if self._pieces and len(self._pieces[0]) >= most:
            return self._pieces[0][:most]
        everything = b"".join(self._pieces)
        self._pieces = deque((everything,) if everything else ())
        return everything[:most]

    def clear(self) -> None:
        """Drop everything."""
        self._pieces.clear()
        self._size = 0
