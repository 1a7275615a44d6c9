"""What of a file is in memory, and what of it a microVM had to do with."""

import mmap
import os
from pathlib import Path

import pytest

from emberkeep.node.touched import _coarse, _within
from emberkeep.vmm.pages import PAGE, GuestMemory, Run
from emberkeep.vmm.residence import is_cold, let_cool, read_ahead, resident


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(64 * PAGE + 100))
    with path.open("rb") as it:
        os.fsync(it.fileno())
    return path


def test_what_was_written_is_in_memory(file: Path):
    assert resident(file) == [Run(0, 65)]
    assert not is_cold(file, [Run(0, 65)])


def test_an_empty_file_has_no_pages(tmp_path: Path):
    (tmp_path / "empty").touch()

    assert resident(tmp_path / "empty") == []


def test_what_was_let_go_is_cold_until_it_is_read_ahead(file: Path):
    let_cool(file)
    if resident(file):
        pytest.skip("this file system keeps its files in memory")
    assert is_cold(file, [Run(3, 2)])

    read_ahead(file, [Run(3, 2)])
    for page in (3, 4):  # as a reader would: it waits for what is under way
        with file.open("rb") as it:
            os.pread(it.fileno(), 1, page * PAGE)
    assert not is_cold(file, [Run(3, 2)])


def test_pages_that_were_read_or_written_are_touched(tmp_path: Path):
    path = tmp_path / "memory.img"
    path.write_bytes(bytes(8192 * PAGE))
    with path.open("rb") as it:
        mapped = mmap.mmap(it.fileno(), 0, flags=mmap.MAP_PRIVATE,
                           prot=mmap.PROT_READ | mmap.PROT_WRITE)  # fmt: skip
    with mapped:
        mapped[5 * PAGE] = 1
        assert mapped[4096 * PAGE] == 0
        touched = GuestMemory(os.getpid(), path.stat()).touched()
    pages = {page for run in touched for page in range(run.first, run.first + run.count)}

    assert {5, 4096} <= pages
    assert 8191 not in pages  # nobody was near it


def test_holes_are_not_worth_reading(tmp_path: Path):
    path = tmp_path / "sparse"
    with path.open("wb") as it:
        it.truncate(100 * PAGE)
        for first, count in ((10, 5), (50, 10)):
            it.seek(first * PAGE)
            it.write(b"x" * (count * PAGE))

    assert _within([Run(0, 12), Run(13, 40), Run(55, 45)], path) == [
        Run(10, 2), Run(13, 2), Run(50, 3), Run(55, 5),
    ]  # fmt: skip


def test_what_lies_close_together_is_one_piece():
    assert _coarse([Run(0, 2), Run(60, 1), Run(400, 1)]) == [Run(0, 61), Run(400, 1)]
