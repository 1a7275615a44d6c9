"""How much each bar does, and where it says what it has found out.

Every number can be changed by a variable, so that a short form can be tried:
EMBERKEEP_BARS_CYCLES=5. With EMBERKEEP_BARS_REPORT the figures are appended to that file too.
"""

import os
from pathlib import Path
from typing import Final

import pytest

PREFIX: Final = "EMBERKEEP_BARS_"


def number(name: str, default: int) -> int:
    """Return how many of something."""
    return int(word(name) or default)


def word(name: str) -> str:
    """Return a text, "" if it is not said."""
    return os.environ.get(PREFIX + name, "")  # noqa: TID251  the one place of the bars


class Figures:
    """Prints what a bar has measured, at once, and past pytest's capturing."""

    def __init__(self, config: pytest.Config) -> None:
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._report = word("REPORT")

    def __call__(self, bar: str, **facts: object) -> None:
        """Print one line of figures."""
        told = "  ".join(f"{name}={_short(value)}" for name, value in facts.items())
        line = f"[{bar}] {told}"
        with self._capture.global_and_fixture_disabled():
            print("\n" + line, flush=True)  # noqa: T201  the purpose
        if self._report:
            with Path(self._report).open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
