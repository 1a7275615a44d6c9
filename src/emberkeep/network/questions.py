"""As much of a DNS message as a relay must understand: its head, and where its question ends.

What else is in it, on either way, is for who asked and who answers. RFC 1035 §4.1.
"""

import struct
from typing import Final

HEAD: Final = 12
LONGEST: Final = 4096  # of a question, with all that may be attached to it
_FLAGS: Final = struct.Struct(">H")
_COUNT: Final = struct.Struct(">H")
_RESPONSE: Final = 0x8000
_OPCODE: Final = 0x7800
_RECURSION_DESIRED: Final = 0x0100
_SERVER_FAILURE: Final = 2
_LONGEST_LABEL: Final = 63
_LONGEST_NAME: Final = 255
_TYPE_AND_CLASS: Final = 4


def question(message: bytes) -> bytes | None:
    """Return the one question of a standard query, in small letters; None if it is no such."""
    if not HEAD < len(message) <= LONGEST:
        return None
    flags, count = _FLAGS.unpack_from(message, 2)[0], _COUNT.unpack_from(message, 4)[0]
    if flags & (_RESPONSE | _OPCODE) or count != 1:
        return None
    return _question(message)


def is_answer(message: bytes, identifier: bytes, asked: bytes) -> bool:
    """Say whether `message` answers the question `asked` that was sent with `identifier`."""
    if len(message) < HEAD or message[:2] != identifier:
        return False
    if not _FLAGS.unpack_from(message, 2)[0] & _RESPONSE:
        return False
    count = _COUNT.unpack_from(message, 4)[0]
    return count == 0 or _question(message) == asked  # an error may come without the question


def failure(message: bytes, asked: bytes) -> bytes:
    """Return the answer SERVFAIL to a query."""
    wanted = _FLAGS.unpack_from(message, 2)[0] & _RECURSION_DESIRED
    head = struct.pack(">HHHHH", _RESPONSE | wanted | _SERVER_FAILURE, 1, 0, 0, 0)
    return message[:2] + head + message[HEAD : HEAD + len(asked)]


def _question(message: bytes) -> bytes | None:
    at = HEAD
    while at < len(message) and (length := message[at]):
        at += 1 + length
        if length > _LONGEST_LABEL or at - HEAD > _LONGEST_NAME:
            return None
    end = at + 1 + _TYPE_AND_CLASS
    return message[HEAD:end].lower() if end <= len(message) else None
