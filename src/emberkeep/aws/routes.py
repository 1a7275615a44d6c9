"""Which operation a method and a path mean, and what the labels of the path hold.

A label is one segment: colons may stand in it as they are, a slash must be encoded; one that is not
leads nowhere, as at AWS (spec §1.2).
"""

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

from emberkeep.aws.errors import AwsError, unreadable
from emberkeep.aws.models import Operation

# Where AWS's operations are: images and microVMs, connectors, tags; and the runtimes of
# lambda-core, which are known and not had.
PREFIXES: Final = ("/2025-09-09/", "/2026-04-04/", "/2017-03-31/tags/", "/2026-10-01/")

Labels = dict[str, str]
_Candidate = tuple[Operation, tuple[tuple[int, str], ...], tuple[tuple[int, str], ...]]


class Routes:
    """Finds operations by method, number of segments and the words among them."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._table: dict[tuple[str, int], list[_Candidate]] = {}
        for one in operations:
            words, labels = [], []
            for place, segment in enumerate(one.segments):
                if segment.startswith("{"):
                    labels.append((place, segment.strip("{}")))
                else:
                    words.append((place, segment))
            key = (one.method, len(one.segments))
            self._table.setdefault(key, []).append((one, tuple(words), tuple(labels)))

    def find(self, method: str, path: str) -> tuple[Operation, Labels]:
        """Return the operation meant by a path as it was sent; raise `AwsError` for no such one."""
        segments = path[1:].split("/")
        for operation, words, labels in self._table.get((method, len(segments)), ()):
            if all(segments[place] == word for place, word in words) and all(
                segments[place] for place, _ in labels
            ):
                return operation, {name: decoded(segments[place]) for place, name in labels}
        raise AwsError(
            "UnknownOperationException", f"there is no operation at {method} {path[:256]}"
        )


def decoded(text: str) -> str:
    """Return what is percent-encoded in `text`; raise `AwsError` if that is no UTF-8."""
    if "%" not in text and text.isascii():
        return text
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise unreadable("the URI is not UTF-8") from None
