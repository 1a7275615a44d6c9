"""When the memory of what is only ready is given up."""

from pathlib import Path

import pytest

from emberkeep.node.pressure import memory_is_short
from emberkeep.node.settings import PoolSettings


def proc(folder: Path, *, available_kib: int, stalled: str | None) -> Path:
    """Make a /proc as a host shows it; `stalled` is the average of 10 s, None: no PSI here."""
    (folder / "meminfo").write_text(
        f"MemTotal: 9999999 kB\nMemAvailable:  {available_kib} kB\nBuffers: 1 kB\n"
    )
    if stalled is not None:
        (folder / "pressure").mkdir()
        (folder / "pressure" / "memory").write_text(
            f"some avg10={stalled} avg60=0.00 avg300=0.00 total=1\n"
            "full avg10=99.00 avg60=0.00 avg300=0.00 total=1\n"
        )
    return folder


@pytest.mark.parametrize(
    ("available_kib", "stalled", "short"),
    [
        (1024 * 1024 - 1024, None, True),
        (2 << 20, None, False),
        (2 << 20, "0.00", False),
        (2 << 20, "10.00", False),
        (2 << 20, "10.01", True),
        (1, "0.00", True),
    ],
)
def test_little_memory_or_stalls_for_it(tmp_path: Path, available_kib, stalled, short):
    settings = PoolSettings(least_available_mib=1024, most_stalled_percent=10)

    assert (
        memory_is_short(settings, proc(tmp_path, available_kib=available_kib, stalled=stalled))
        is short
    )
