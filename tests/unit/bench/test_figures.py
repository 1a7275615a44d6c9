"""Samples become medians, tails and ratios; ratios compare only what was measured together."""

import json
from typing import Any

import pytest
from bench import bars, tables
from bench.figures import Bar, Figures, percentile, record


def measured(**rows: list[tuple[int, float]]) -> Figures:
    figures = Figures()
    for name, samples in rows.items():
        for number, value in samples:
            figures.add(name, value, round_=number)
    return figures


def recorded(figures: Figures, *wanted: Bar, ratios: dict[str, str] | None = None) -> Any:
    return json.loads(json.dumps(record(figures, wanted, ratios or {}, {"cpu": "one"})))


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1.0), (50, 3.0), (95, 4.8), (99, 4.96), (100, 5.0)]
)
def test_percentiles_lie_between_neighbours(percent: float, value: float):
    assert percentile([5, 1, 4, 2, 3], percent) == pytest.approx(value)


def test_one_sample_is_all_percentiles():
    assert percentile([7.0], 99) == 7.0


def test_a_ratio_is_taken_within_each_round():
    figures = measured(ours=[(1, 20.0), (2, 300.0), (3, 30.0)], floor=[(1, 10.0), (2, 100.0)])

    assert figures.ratio("ours", "floor") == 2.5


def test_several_samples_of_a_round_count_as_their_median():
    figures = measured(ours=[(1, 10.0), (1, 20.0), (1, 90.0)], floor=[(1, 10.0)])

    assert figures.ratio("ours", "floor") == 2.0


def test_what_shares_no_round_has_no_ratio():
    figures = measured(ours=[(1, 20.0)], floor=[(2, 10.0)])

    assert figures.ratio("ours", "floor") is None
    assert figures.ratio("ours", "nothing") is None


def test_a_bar_is_judged_by_the_ratio_or_the_median():
    figures = measured(ours=[(1, 14.0)], floor=[(1, 10.0)], alive=[(0, 200.0)])

    told = recorded(
        figures,
        Bar(row="ours", to="floor", limit=1.3),
        Bar(row="ours", limit=14),
        Bar(row="alive", limit=200, least=True),
        Bar(row="never", limit=1),
    )

    assert [(bar["value"], bar["met"]) for bar in told["bars"]] == [
        (1.4, False), (14.0, True), (200.0, True), (None, None),
    ]  # fmt: skip


def test_the_record_keeps_every_sample():
    figures = measured(ours=[(1, 1.0), (2, 3.0)], floor=[(1, 1.0), (2, 1.0)])

    row = recorded(figures, ratios={"ours": "floor"})["rows"][0]

    assert (row["n"], row["median"], row["samples"]) == (2, 2.0, [[1, 1.0], [2, 3.0]])
    assert row["ratio"] == {"to": "floor", "median": 2.0}


def test_the_table_has_rows_parts_bars_and_what_is_missing():
    figures = measured(ours=[(1, 1234.5)], floor=[(1, 1000.0)])
    figures.add_span("ours: vmm", 12.5)
    figures.missing["theirs"] = "there is none"

    text = tables.told(recorded(figures, Bar(row="ours", limit=1), ratios={"ours": "floor"}))

    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "ours 1 1234 1234 1234 ms 1.23" in lines
    assert "ours: vmm 1 12.5 12.5 12.5" in lines
    assert "ours ≤ 1 1234 NOT MET" in lines
    assert "not available: theirs: there is none" in lines


def test_two_runs_are_compared_row_by_row():
    before = recorded(measured(ours=[(1, 10.0)], old=[(1, 1.0)]))
    after = recorded(measured(ours=[(1, 5.0)], new=[(1, 2.0)]))

    lines = [" ".join(line.split()) for line in tables.compared(before, after).splitlines()]

    assert lines[1:] == [
        "ours 10.0 5.00 ms 0.50 - -", "old 1.00 - ms - - -", "new - 2.00 ms - - -",
    ]  # fmt: skip


def test_a_bar_has_rows_that_are_measured():
    names = {bars.PING, bars.idle(50, "memory"), bars.ALIVE}
    names |= {row(mode) for mode in bars.READY for row in (bars.launch, bars.resume, bars.suspend)}
    at_once = (bars.AT_ONCE_OK, bars.AT_ONCE_CPU)
    names |= {bars.at_once(one, mode) for mode in bars.READY for one in at_once}

    assert {bar.row for bar in bars.bars(accelerator="tcg", together=20)} <= names
    assert bars.PING not in {bar.row for bar in bars.bars(accelerator="kvm", together=20)}
