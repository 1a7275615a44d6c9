"""Dirty pages of a private file mapping, seen from outside, on a real process."""

import contextlib
import mmap
import os
from pathlib import Path

import pytest

from emberkeep.domain.errors import GuestError, Unavailable
from emberkeep.vmm import pages
from emberkeep.vmm.pages import PAGE, GuestMemory, Run, joined

COUNT = 20_000


@contextlib.contextmanager
def mapper(path: Path, dirty: list[int]):
    """A process that maps `path` privately, reads all of it and writes the pages `dirty`."""
    ready_r, ready_w = os.pipe()
    leave_r, leave_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(leave_w)
        fd = os.open(path, os.O_RDONLY)
        memory = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        sum(memory[n * PAGE] for n in range(COUNT))
        for n in dirty:
            memory[n * PAGE] = 0xAB
        os.write(ready_w, b"x")
        os.read(leave_r, 1)
        os._exit(0)
    os.close(leave_r)
    try:
        os.read(ready_r, 1)
        yield pid
    finally:
        os.close(leave_w)
        os.waitpid(pid, 0)
        os.close(ready_r)
        os.close(ready_w)


@pytest.fixture
def memory_file(tmp_path):
    path = tmp_path / "memory.img"
    path.write_bytes(b"\x11" * (COUNT * PAGE))
    return path


@pytest.fixture(params=["scan", "whole"])
def way(request, monkeypatch):
    if request.param == "whole":
        monkeypatch.setattr(pages, "_dirty_ranges", pages._read_whole)
    return request.param


def test_only_written_pages_are_dirty(memory_file, way):
    with mapper(memory_file, [0, 3, 4, 5, 700, COUNT - 1]) as pid:
        memory = GuestMemory(pid, memory_file.stat())
        runs = memory.dirty()
        data = dict(memory.read(runs))

    assert runs == [Run(0, 1), Run(3, 3), Run(700, 1), Run(COUNT - 1, 1)]
    assert data[700] == b"\xab" + b"\x11" * (PAGE - 1)
    assert len(data[3]) == 3 * PAGE


def test_more_ranges_than_the_kernel_tells_at_once(memory_file, way):
    written = list(range(1, COUNT, 2))
    with mapper(memory_file, written) as pid:
        runs = GuestMemory(pid, memory_file.stat()).dirty()

    assert runs == [Run(n, 1) for n in written]


def test_an_untouched_mapping_is_clean(memory_file, way):
    with mapper(memory_file, []) as pid:
        assert GuestMemory(pid, memory_file.stat()).dirty() == []


def test_what_is_written_from_outside_is_dirty_and_not_in_the_file(memory_file):
    with mapper(memory_file, []) as pid:
        memory = GuestMemory(pid, memory_file.stat())
        memory.write([(9, b"\x22" * (2 * PAGE))])

        assert memory.dirty() == [Run(9, 2)]
        assert dict(memory.read([Run(9, 2)]))[9] == b"\x22" * (2 * PAGE)
    assert set(memory_file.read_bytes()) == {0x11}


def test_a_process_that_does_not_map_the_file_is_refused(memory_file):
    with pytest.raises(GuestError):
        GuestMemory(os.getpid(), memory_file.stat())


def test_no_right_to_the_memory_is_told(memory_file):
    if os.geteuid() != 0:
        pytest.skip("needs a process of another user")
    with mapper(memory_file, []) as pid:
        memory = GuestMemory(pid, memory_file.stat())
        os.seteuid(65534)
        try:
            with pytest.raises(Unavailable):
                memory.dirty()
        finally:
            os.seteuid(0)


def test_runs_that_touch_are_joined():
    assert joined([Run(5, 1), Run(1, 2), Run(3, 2), Run(9, 1)]) == [Run(1, 5), Run(9, 1)]


def test_pages_that_are_mapped_twice_are_counted_once():
    assert joined([Run(5, 10), Run(0, 7), Run(6, 2), Run(20, 1)]) == [Run(0, 15), Run(20, 1)]
