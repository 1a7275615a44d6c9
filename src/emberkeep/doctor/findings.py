"""A finding: what was looked at, how it is, and what to do about it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"  # it works, but not as well as it could
    FAIL = "fail"  # Emberkeep cannot work like this


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of `emberkeep doctor`."""

    name: str
    level: Level
    found: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """The same as JSON has it."""
        return {key: str(value) for key, value in asdict(self).items()}


def ok(name: str, found: str) -> Finding:
    """It is as it should be."""
    return Finding(name=name, level=Level.OK, found=found)


def warn(name: str, found: str, remedy: str) -> Finding:
    """It works, but not as well as it could."""
    return Finding(name=name, level=Level.WARN, found=found, remedy=remedy)


def fail(name: str, found: str, remedy: str) -> Finding:
    """Emberkeep cannot work like this."""
    return Finding(name=name, level=Level.FAIL, found=found, remedy=remedy)


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether Emberkeep can work here."""
    return all(finding.level is not Level.FAIL for finding in findings)
