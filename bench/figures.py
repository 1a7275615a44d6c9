"""What was measured: samples by round, medians and tails, ratios within the same round."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What a row, or its ratio to another row, must not pass; `least` turns it round."""

    row: str
    limit: float
    to: str = ""
    least: bool = False

    @property
    def name(self) -> str:
        """How it is told."""
        sign = "≥" if self.least else "≤"
        return f"{self.row} {sign} {self.limit:g}" + (f" of {self.to}" if self.to else "")

    def met_by(self, value: float) -> bool:
        """Say whether `value` keeps to it."""
        return value >= self.limit if self.least else value <= self.limit


@dataclass(slots=True, kw_only=True)
class Row:
    """One thing that was measured, again and again; a sample knows the round it is of."""

    name: str
    unit: str
    samples: list[tuple[int, float]] = field(default_factory=list)

    @property
    def values(self) -> list[float]:
        """The samples without their rounds."""
        return [value for _, value in self.samples]

    @property
    def median(self) -> float:
        """The middle of all samples."""
        return statistics.median(self.values)

    def per_round(self) -> dict[int, float]:
        """Return the median of each round."""
        rounds: dict[int, list[float]] = {}
        for number, value in self.samples:
            rounds.setdefault(number, []).append(value)
        return {number: statistics.median(values) for number, values in rounds.items()}


@dataclass(slots=True)
class Figures:
    """All rows of one run, in the order in which they were first measured."""

    rows: dict[str, Row] = field(default_factory=dict)
    spans: dict[str, Row] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # what could not be measured, and why

    def add(self, name: str, value: float, *, unit: str = "ms", round_: int = 0) -> None:
        """Take a sample."""
        self.rows.setdefault(name, Row(name=name, unit=unit)).samples.append((round_, value))

    def add_span(self, name: str, ms: float, *, round_: int = 0) -> None:
        """Take how long a part of a verb was."""
        self.spans.setdefault(name, Row(name=name, unit="ms")).samples.append((round_, ms))

    def ratio(self, name: str, to: str) -> float | None:
        """Return the median over the rounds of `name` / `to`; None where they share no round."""
        if name not in self.rows or to not in self.rows:
            return None
        below = self.rows[to].per_round()
        ratios = [
            value / below[number]
            for number, value in self.rows[name].per_round().items()
            if below.get(number)
        ]
        return statistics.median(ratios) if ratios else None

    def value_for(self, bar: Bar) -> float | None:
        """Return what `bar` is about, if it was measured."""
        if bar.to:
            return self.ratio(bar.row, bar.to)
        return self.rows[bar.row].median if bar.row in self.rows else None


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of `values` do not pass, between neighbours in proportion."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * percent / 100
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def record(
    figures: Figures, bars: Sequence[Bar], ratios: Mapping[str, str], conditions: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all of it as plain values for JSON; `ratios` says which row is told in which other."""
    rows = [_plain(row) for row in figures.rows.values()]
    for row in rows:
        to = ratios.get(row["name"], "")
        ratio = figures.ratio(row["name"], to)
        if ratio is not None:
            row["ratio"] = {"to": to, "median": round(ratio, 4)}
    return {
        "format": FORMAT,
        "conditions": dict(conditions),
        "rows": rows,
        "spans": [_plain(row) for row in figures.spans.values()],
        "bars": [_judged(figures, bar) for bar in bars],
        "missing": dict(figures.missing),
    }


def _plain(row: Row) -> dict[str, Any]:
    values = row.values
    return {
        "name": row.name,
        "unit": row.unit,
        "n": len(values),
        "median": round(row.median, 4),
        "p95": round(percentile(values, 95), 4),
        "p99": round(percentile(values, 99), 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
        "samples": [[number, round(value, 4)] for number, value in row.samples],
    }


def _judged(figures: Figures, bar: Bar) -> dict[str, Any]:
    value = figures.value_for(bar)
    return {
        "name": bar.name,
        "limit": bar.limit,
        "value": None if value is None else round(value, 4),
        "met": None if value is None else bar.met_by(value),
    }
