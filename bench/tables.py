"""A run as people read it: one table, the parts of each verb, the bars; and two runs beside."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned columns, the first to the left and the others to the right."""
    lines = [list(columns), *map(list, rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def told(record: Record) -> str:
    """Return a run for people."""
    parts = [
        "\n".join(f"{name}: {value}" for name, value in record["conditions"].items()),
        table(("", "n", "median", "p95", "p99", "", "/ floor"), [*_rows(record)]),
        table(("where the time goes", "n", "median", "p95", "p99"), [*_spans(record)]),
        table(("bar", "measured", ""), [*_bars(record)]),
        "\n".join(f"not available: {name}: {why}" for name, why in record["missing"].items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def compared(before: Record, after: Record) -> str:
    """Return two runs beside each other, and what became of each figure."""
    left = {row["name"]: row for row in before["rows"]}
    right = {row["name"]: row for row in after["rows"]}
    names = [*left, *(name for name in right if name not in left)]
    rows = [_beside(name, left.get(name), right.get(name)) for name in names]
    head = ("", "A", "B", "", "B / A", "A / floor", "B / floor")
    differing = [
        f"{name}: {before['conditions'].get(name)} | {value}"
        for name, value in after["conditions"].items()
        if before["conditions"].get(name) != value
    ]
    return "\n\n".join(["\n".join(differing), table(head, rows)]).strip() + "\n"


def short(value: float | None) -> str:
    """Return a number with as many digits as say something."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _rows(record: Record) -> Iterator[tuple[str, ...]]:
    for row in record["rows"]:
        ratio = row["ratio"]["median"] if "ratio" in row else None
        tails = [short(row[key]) for key in ("median", "p95", "p99")]
        told = "" if ratio is None else short(ratio)
        yield (row["name"], str(row["n"]), *tails, row["unit"], told)


def _spans(record: Record) -> Iterator[tuple[str, ...]]:
    for row in record["spans"]:
        yield (row["name"], str(row["n"]), *(short(row[key]) for key in ("median", "p95", "p99")))


def _bars(record: Record) -> Iterator[tuple[str, ...]]:
    words = {True: "met", False: "NOT MET", None: "not measured"}
    for bar in record["bars"]:
        yield bar["name"], short(bar["value"]), words[bar["met"]]


def _beside(name: str, left: Record | None, right: Record | None) -> tuple[str, ...]:
    def of(row: Record | None, key: str) -> Any:  # noqa: ANN401  JSON
        return None if row is None else row.get(key)

    before, after = of(left, "median"), of(right, "median")
    change = short(after / before) if before and after is not None else "-"
    ratios = [short(of(of(row, "ratio"), "median")) for row in (left, right)]
    return name, short(before), short(after), of(left or right, "unit") or "", change, *ratios
