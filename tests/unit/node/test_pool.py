"""How many VMMs are made ready."""

from pathlib import Path

import pytest

from emberkeep.node.pool import memory_is_short, wanted
from emberkeep.node.settings import PoolSettings


@pytest.mark.parametrize(
    ("least", "lately", "count"), [(0, 9, 0), (1, 0, 1), (1, 3, 3), (2, 1, 2), (1, 99, 8)]
)
def test_as_configured_and_as_lately_asked_for(least, lately, count):
    assert wanted(PoolSettings(most=8), least=least, lately=lately) == count


@pytest.mark.parametrize(("available_kib", "short"), [(1024 * 1024 - 1, True), (2 << 20, False)])
def test_memory_the_host_needs_is_given_up(tmp_path: Path, available_kib, short):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 9999999 kB\nMemAvailable:  {available_kib} kB\n")

    assert memory_is_short(PoolSettings(least_available_mib=1024), meminfo) is short
