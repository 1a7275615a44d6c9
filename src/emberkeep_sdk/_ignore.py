"""`.dockerignore`: which files of a folder are no part of what is built from it.

The rules are those of Docker's documentation: patterns are relative to the folder, the last one
that fits decides, "!" takes back, "**" stands for any number of folders.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Self

from emberkeep_sdk._errors import Invalid

FILE: Final = ".dockerignore"
_ALWAYS: Final = frozenset({"Dockerfile", FILE})  # whoever builds needs them
_MOST: Final = 10_000  # patterns


@dataclass(frozen=True, slots=True)
class Ignored:
    """The patterns, each with whether it takes back."""

    patterns: tuple[tuple[re.Pattern[str], bool], ...] = ()

    @classmethod
    def read(cls, lines: Iterable[str]) -> Self:
        """Read the lines of a file; raise `Invalid` for a pattern that is none."""
        found = [
            line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")
        ]
        if len(found) > _MOST:
            raise Invalid(f"{FILE} has more than {_MOST} patterns")
        return cls(tuple(_pattern(line) for line in found))

    def __call__(self, path: str) -> bool:
        """Tell whether what is at `path` (relative, with "/") is left out."""
        if path in _ALWAYS:
            return False
        parts = path.split("/")
        above = ["/".join(parts[: length + 1]) for length in range(len(parts))]
        left_out = False
        for pattern, takes_back in self.patterns:
            if left_out == takes_back and any(pattern.fullmatch(one) for one in above):
                left_out = not takes_back
        return left_out

    @property
    def prunes(self) -> bool:
        """Whether nothing below a folder that is left out can be meant."""
        return not any(takes_back for _, takes_back in self.patterns)


def _pattern(line: str) -> tuple[re.Pattern[str], bool]:
    takes_back = line.startswith("!")
    text = str(PurePosixPath("/", line.removeprefix("!").strip())).lstrip("/")
    try:
        return re.compile(_expression(text), re.DOTALL), takes_back
    except re.error as wrong:
        raise Invalid(f"{FILE} has a pattern that is none: {line[:80]!r} ({wrong})") from wrong


def _expression(text: str) -> str:
    """Return the regular expression for a pattern of Go's `filepath.Match`, and "**"."""
    made, at = "", 0
    while at < len(text):
        for token, expression in _TOKENS:
            if text.startswith(token, at):
                made, at = made + expression, at + len(token)
                break
        else:
            piece, at = _one(text, at)
            made += piece
    return made


_TOKENS: Final = (("**/", "(?:.*/)?"), ("**", ".*"), ("*", "[^/]*"), ("?", "[^/]"))


def _one(text: str, at: int) -> tuple[str, int]:
    """Return what stands for the character or class at `at`, and where it ends."""
    if text[at] == "\\" and at + 1 < len(text):
        return re.escape(text[at + 1]), at + 2
    end = text.find("]", at + 2) if text[at] == "[" else -1
    if end < 0:
        return re.escape(text[at]), at + 1
    inner = text[at + 1 : end]
    negated = inner[:1] in {"^", "!"}
    chars = (inner[1:] if negated else inner).replace("\\", "\\\\").replace("[", "\\[")
    return f"[{'^' if negated else ''}{chars}]", end + 1
