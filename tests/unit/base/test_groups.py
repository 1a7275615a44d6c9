"""The control groups of a server: on folders that stand for them, and as root on the real ones."""

import asyncio
import os
import signal
import subprocess  # noqa: TID251  processes to be put into groups
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emberkeep.base import cgroups
from emberkeep.base.cgroups import Found, Hierarchy
from emberkeep.base.groups import Tree

REAL = cgroups.found()
real = pytest.mark.skipif(
    os.geteuid() != 0 or not REAL.hierarchies, reason="no control groups can be made here"
)


def unified(top: Path, *enabled: str) -> Tree:
    """Return a tree of version 2 on a folder that can hand on memory and pids."""
    (top / "cgroup.controllers").write_text("memory pids")
    (top / "cgroup.subtree_control").write_text(" ".join(enabled))
    names = frozenset({"memory", "pids"})
    return Tree(Found(hierarchies=(Hierarchy(top=top, version=2, controllers=names),)), "ours")


def test_what_a_group_cannot_hand_on_is_missing(tmp_path: Path):
    tree = unified(tmp_path, "memory", "pids")
    base = tmp_path / "ours"
    base.mkdir()
    (base / "cgroup.controllers").write_text("memory")
    (base / "cgroup.subtree_control").write_text("memory")

    offer = tree.prepare()

    assert offer.missing == {"pids": f"{tmp_path} does not hand it on"}
    assert [one.controllers for one in offer.hierarchies] == [{"memory"}]


def test_a_group_with_others_in_it_hands_nothing_on(tmp_path: Path):
    tree = unified(tmp_path)
    (tmp_path / "cgroup.type").write_text("domain")
    (tmp_path / "cgroup.procs").write_text("1\n")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "cgroup.subtree_control").write_text("")

    offer = tree.prepare()

    assert (tmp_path / "cgroup.subtree_control").read_text() == ""
    assert "other processes are in" in offer.missing["memory"]


def test_the_server_steps_aside_to_hand_controllers_on(tmp_path: Path):
    tree = unified(tmp_path)
    (tmp_path / "cgroup.type").write_text("domain")
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "cgroup.subtree_control").write_text("")

    tree.prepare()

    assert (tmp_path / "server" / "cgroup.procs").read_text() == "0"


def test_a_place_that_is_none_is_missing(tmp_path: Path):
    nowhere = Hierarchy(top=tmp_path / "no", version=1, controllers=frozenset({"cpu"}))
    tree = Tree(Found(hierarchies=(nowhere,)), "ours")

    offer = tree.prepare()

    assert offer.hierarchies == ()
    assert "No such file" in offer.missing["cpu"]


def test_a_group_that_cannot_be_made_whole_is_not_made(tmp_path: Path):
    tops = [tmp_path / "a", tmp_path / "b"]
    for top in tops:
        top.mkdir()
    found = Found(hierarchies=tuple(Hierarchy(top=top, version=1) for top in tops))
    tree = Tree(found, "ours")
    tree.prepare()
    (tmp_path / "b" / "ours" / "one").mkdir()

    with pytest.raises(FileExistsError):
        tree.make("one")

    assert not (tmp_path / "a" / "ours" / "one").exists()


@contextmanager
def prepared() -> Iterator[Tree]:
    """Give a real tree of this test alone; nothing of it may be left."""
    tree = Tree(REAL, f"emberkeep-test-{os.getpid()}")
    bases = [one.top / tree.name for one in REAL.hierarchies]
    tree.prepare()
    try:
        yield tree
    finally:
        tree.sweep(but=set())
        tree.close()
        assert not [base for base in bases if base.exists()]


def inside(tree: Tree, name: str, command: str = "exec sleep 60") -> "subprocess.Popen[bytes]":
    """Start a shell that is in a group from its first instruction on."""
    entrances = tree.make(name).entrances()

    def enter() -> None:
        for fd in entrances:
            os.write(fd, b"0")

    try:
        return subprocess.Popen(["sh", "-c", command], preexec_fn=enter, pass_fds=entrances)  # noqa: PLW1509
    finally:
        for fd in entrances:
            os.close(fd)


@real
def test_who_is_in_a_group_is_found_and_ended():
    with prepared() as tree:
        process = inside(tree, "one")

        (group,) = tree.all()
        assert group.pids() == {process.pid}
        assert tree.of(process.pid) == group
        assert tree.of(os.getpid()) is None
        assert tree.sweep(but=set()) == 1
        assert process.wait(10) == -signal.SIGKILL
        assert tree.all() == []


@real
def test_a_sweep_spares_the_groups_of_those_it_is_told():
    with prepared() as tree:
        kept, other = inside(tree, "kept"), inside(tree, "other")
        empty = tree.make("empty")

        tree.sweep(but={kept.pid})

        assert [group.name for group in tree.all()] == ["kept"]
        assert kept.poll() is None
        assert other.wait(10) == -signal.SIGKILL
        assert empty.remove()
        kept.kill()
        kept.wait(10)


@real
def test_one_that_forks_without_end_is_ended():
    with prepared() as tree:
        process = inside(tree, "bomb", "while :; do sleep 1 & done")
        group = tree.all()[0]

        assert group.end()
        assert process.wait(10) != 0  # killed, or ended because it could not fork
        assert group.pids() == set()


@real
def test_two_servers_do_not_meet():
    with prepared() as ours:
        theirs = Tree(REAL, f"{ours.name}-other")
        theirs.prepare()
        process = inside(theirs, "one")

        ours.sweep(but=set())

        assert process.poll() is None
        assert ours.of(process.pid) is None
        theirs.sweep(but=set())
        theirs.close()
        process.wait(10)


@real
async def test_the_folder_of_a_server_stays_while_a_group_is_left():
    with prepared() as tree:
        process = inside(tree, "one")

        tree.close()

        assert [group.name for group in tree.all()] == ["one"]
        process.kill()
        await asyncio.to_thread(process.wait)
