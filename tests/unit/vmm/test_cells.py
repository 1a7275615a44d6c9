"""A cell becomes what its spec says, confined: with `sleep` in the place of QEMU, as root."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from emberkeep.base import cgroups, proc
from emberkeep.base.groups import Tree
from emberkeep.domain.confinement import IO, SYSTEM_CALLS, defences
from emberkeep.domain.units import Memory, Size
from emberkeep.network.slot import network_slot
from emberkeep.vmm.bounds import bounds_of
from emberkeep.vmm.cells import Cell, Cells, removed
from emberkeep.vmm.jail import FIRST_FD
from emberkeep.vmm.settings import VmmSettings
from emberkeep.vmm.witness import seen

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a jail is built with root's powers")

BOUNDS = bounds_of(Size(Memory(128), 1), VmmSettings(), "")
UID = 1_990_065_000


@asynccontextmanager
async def cells() -> AsyncIterator[Cells]:
    """Give cells of this test alone; nothing of them may be left."""
    proc.adopt_orphans()
    tree = Tree(cgroups.found(), f"emberkeep-test-cells-{os.getpid()}")
    async with Cells(tree, mark="emberkeep-jail:test").open() as made:
        yield made
    assert tree.all() == []
    assert not [one for one in tree.found.hierarchies if (one.top / tree.name).exists()]


@contextmanager
def netns():
    with network_slot() as slot:
        yield slot.netns_fd


def spec(folder: Path, *argv: str, **more: Any) -> dict[str, Any]:
    root = folder / "root"
    root.mkdir(exist_ok=True)
    return {
        "argv": list(argv), "env": {}, "uid": UID, "groups": True, "root": str(root), "binds": [],
        "copies": [], "devices": ["null"], "nofile": 128, "fsize": 1 << 20, **more,
    }  # fmt: skip


async def become(cell: Cell, words: dict[str, Any], *fds: int, errors: int = 2) -> int | None:
    with netns() as space:
        return await cell.become(words, [errors, space, *fds], BOUNDS)


async def ended(pid: int, cell: Cell) -> None:
    await proc.gone(os.pidfd_open(pid))
    await removed(cell.group)


async def test_what_a_cell_becomes_is_confined(tmp_path: Path):
    async with cells() as made:
        cell = await made.take()
        pid = await become(cell, spec(tmp_path, "/usr/bin/sleep", "60"))
        assert pid is not None

        await until(lambda: named(pid, b"sleep"))
        told = defences(seen(pid, cell.group, missing=made.tree.found.missing))
        lacking = {one.name for one in told if not one.in_force}
        bounded = set(made.tree.found.missing)
        assert bounded or lacking == {SYSTEM_CALLS, IO}  # QEMU brings its own filter
        assert cell.group is None or cell.group.pids() == {pid}
        assert oom_score(pid) == 400
        await ended(pid, cell)


async def test_it_has_its_own_descriptors_and_no_other(tmp_path: Path):
    async with cells() as made:
        cell = await made.take()
        ours, theirs = socket.socketpair()
        with ours, theirs, (tmp_path / "log").open("wb") as log:
            pid = await become(
                cell, spec(tmp_path, "/usr/bin/sleep", "60"), theirs.fileno(), errors=log.fileno()
            )
            assert pid is not None
            await until(lambda: named(pid, b"sleep"))

            links = descriptors(pid)
            assert links.keys() == {"0", "1", "2", str(FIRST_FD)}
            assert links["2"].endswith("/log")
            await ended(pid, cell)


async def test_one_that_cannot_start_says_why(tmp_path: Path):
    async with cells() as made:
        for words, why in (
            (spec(tmp_path, "/no/such/thing"), b"cannot start /no/such/thing"),
            (spec(tmp_path, "/usr/bin/true", root="/no/such/folder"), b"No such file"),
        ):
            cell = await made.take()
            reading, writing = os.pipe()
            pid = await become(cell, words, errors=writing)
            os.close(writing)
            with os.fdopen(reading, "rb") as said:
                assert why in await asyncio.to_thread(said.read)
            if pid is not None:
                await ended(pid, cell)
            await cell.discard()


async def test_a_cell_that_has_ended_meanwhile_is_not_given():
    async with cells() as made:
        made.refill()
        spare = list(made._spare)
        assert spare
        for cell in spare:
            group = cell.group
            if group is not None:
                await until(group.pids)
                group.kill()
                await until(lambda group=group: not group.pids())

        taken = await made.take()

        assert made.tree.found.hierarchies == () or taken not in spare
        await taken.discard()


async def test_a_maker_that_was_killed_is_replaced(tmp_path: Path):
    async with cells() as made:
        assert made._maker is not None
        made._maker.kill()
        made._maker.wait()

        cell = await made.take()

        pid = await become(cell, spec(tmp_path, "/usr/bin/sleep", "60"))
        assert pid is not None
        await ended(pid, cell)


async def test_cells_that_nobody_used_are_gone_in_the_end():
    async with cells() as made:
        made.refill()
        groups = made.tree.all()
        assert len(groups) == 2 or not made.tree.found.hierarchies


async def test_what_an_earlier_server_left_is_swept(tmp_path: Path):
    async with cells() as made:
        left, kept = await made.take(), await made.take()
        pids = [await become(one, spec(tmp_path, "/usr/bin/sleep", "60")) for one in (left, kept)]
        assert None not in pids
        if not made.tree.found.hierarchies:
            pytest.skip("without control groups, only the command line tells")

        assert await made.sweep(but={pids[1] or 0}) == 1

        assert made.tree.of(pids[1] or 0) == kept.group
        await ended(pids[1] or 0, kept)


def named(pid: int, name: bytes) -> bool:
    return name in Path(f"/proc/{pid}/cmdline").read_bytes()


def oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def descriptors(pid: int) -> dict[str, str]:
    return {one.name: str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()}


async def until(what: Callable[[], object]) -> None:
    """Wait for what tells nobody when it happens."""

    def look() -> None:
        while not what():
            time.sleep(0.005)

    async with asyncio.timeout(20):
        await asyncio.to_thread(look)
