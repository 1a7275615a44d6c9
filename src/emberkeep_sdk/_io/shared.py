"""What both ways of waiting share: sources that block, and how to say that nobody answers."""

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from emberkeep_sdk._access import Access
from emberkeep_sdk._errors import Unreachable


def blocking_pieces(source: bytes | str | BinaryIO | Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the bytes of `source` in pieces of 1 to `size` bytes."""
    for given in _chunks(source, size):
        for at in range(0, len(given), size):
            yield given[at : at + size]


def _chunks(source: bytes | str | BinaryIO | Iterable[bytes], size: int) -> Iterable[bytes]:
    if isinstance(source, str):
        return (source.encode(),)
    if isinstance(source, bytes | bytearray | memoryview):
        return (bytes(source),)
    if hasattr(source, "read"):
        read = getattr(source, "read1", source.read)  # what is there, as from a pipe
        return iter(lambda: read(size), b"")
    return source


def unreachable(access: Access, cause: Exception) -> Unreachable:
    """Return the error for a server that does not answer."""
    why = str(cause) or type(cause).__name__
    hint = "start it: emberkeep up --detach" if access.loopback else "is the endpoint right?"
    return Unreachable(f"no Emberkeep server answers at {access.endpoint} ({why})", hint=hint)
