"""Which control groups a host offers, told from its tables; the trees are ordinary folders."""

import os
from pathlib import Path

import pytest

from emberkeep.base.cgroups import Hierarchy, found

pytestmark = pytest.mark.skipif(
    not hasattr(os, "setxattr"), reason="a delegated group is marked by an attribute"
)


class Host:
    """A host made of folders: mount what you like, be where you like."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        self.proc.mkdir()
        self._mounts: list[str] = []
        self._groups: list[str] = []

    def mount(self, name: str, options: str, *, own: str = "/", root: str = "/") -> Path:
        """Mount a hierarchy of version 1, or of version 2 where `options` begin with "2"."""
        version2 = options.startswith("2")
        point = self.group(name)
        kind = "cgroup2 cgroup2 rw" if version2 else f"cgroup cgroup rw,{options}"
        self._mounts.append(f"30 20 0:26 {root} {point} rw,relatime shared:1 - {kind}")
        self._groups.append(f"0::{own}" if version2 else f"3:{options}:{own}")
        (self.proc / "mountinfo").write_text("\n".join(self._mounts) + "\n")
        (self.proc / "cgroup").write_text("\n".join(self._groups) + "\n")
        return point

    def group(self, name: str, *controllers: str) -> Path:
        path = self.root / "sys" / name
        path.mkdir(parents=True, exist_ok=True)
        (path / "cgroup.procs").write_text("")
        (path / "cgroup.controllers").write_text(" ".join(controllers))
        return path


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_version_2_at_the_top(host: Host):
    top = host.mount("unified", "2", own="/user.slice/a")
    host.group("unified", "cpuset", "cpu", "io", "memory", "pids")

    all_of_them = frozenset({"cpu", "io", "memory", "pids"})
    assert found(host.proc).hierarchies == (Hierarchy(top=top, version=2, controllers=all_of_them),)
    assert found(host.proc).missing == {}


def test_a_group_that_was_delegated_is_where_ours_lie(host: Host):
    host.mount("unified", "2", own="/system.slice/emberkeep.service")
    host.group("unified", "cpu", "io", "memory", "pids")
    own = host.group("unified/system.slice/emberkeep.service", "memory", "pids")
    os.setxattr(own, "user.delegate", b"1")

    (only,) = found(host.proc).hierarchies
    assert only == Hierarchy(top=own, version=2, controllers=frozenset({"memory", "pids"}))
    assert found(host.proc).missing == dict.fromkeys(("cpu", "io"), f"it is not delegated to {own}")


def test_the_group_above_ours_may_be_the_delegated_one(host: Host):
    host.mount("unified", "2", own="/system.slice/emberkeep.service/server")
    above = host.group("unified/system.slice/emberkeep.service", "memory")
    host.group("unified/system.slice/emberkeep.service/server")
    os.setxattr(above, "user.delegate", b"1")

    assert [one.top for one in found(host.proc).hierarchies] == [above]


def test_version_1_has_a_hierarchy_for_each(host: Host):
    memory = host.mount("memory", "memory", own="/deep/inside")
    cpu = host.mount("cpu", "cpu,cpuacct")
    host.mount("blkio", "blkio")
    host.mount("freezer", "freezer")

    offer = found(host.proc)
    assert {one.top for one in offer.hierarchies} == {memory, cpu, host.root / "sys" / "blkio"}
    blkio = offer.of("io")
    assert blkio is not None
    assert blkio.version == 1
    assert offer.missing == {"pids": "no hierarchy of control groups has it"}


def test_both_versions_at_once(host: Host):
    unified = host.mount("unified", "2")
    host.group("unified", "pids")
    memory = host.mount("memory", "memory")

    offer = found(host.proc)
    assert (offer.of("pids"), offer.of("memory")) == (
        Hierarchy(top=unified, version=2, controllers=frozenset({"pids"})),
        Hierarchy(top=memory, version=1, controllers=frozenset({"memory"})),
    )


def test_version_2_without_a_controller_is_left_out_beside_version_1(host: Host):
    host.mount("unified", "2")
    host.mount("memory", "memory")

    assert {one.version for one in found(host.proc).hierarchies} == {1}


def test_version_2_without_any_controller_still_finds_processes_again(host: Host):
    top = host.mount("unified", "2")

    offer = found(host.proc)
    assert [one.top for one in offer.hierarchies] == [top]
    assert set(offer.missing) == {"memory", "cpu", "pids", "io"}


def test_a_hierarchy_that_is_mounted_twice_counts_once(host: Host):
    first = host.mount("memory", "memory")
    host.mount("again", "memory")

    assert [one.top for one in found(host.proc).hierarchies] == [first]


def test_a_group_outside_of_what_is_seen_is_none_of_ours(host: Host):
    top = host.mount("unified", "2", own="/../../elsewhere")
    host.group("unified", "memory")

    assert [one.top for one in found(host.proc).hierarchies] == [top]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_what_may_not_be_written_is_missing(host: Host):
    for name, options in (("unified", "2"), ("memory", "memory")):
        host.mount(name, options).chmod(0o555)
    host.group("unified")
    (host.root / "sys" / "unified" / "cgroup.controllers").write_text("pids")

    offer = found(host.proc)
    assert offer.hierarchies == ()
    assert "not delegated" in offer.missing["pids"]
    assert "cannot be written" in offer.missing["memory"]


def test_a_host_without_any(tmp_path: Path):
    offer = found(tmp_path)

    assert offer.hierarchies == ()
    assert set(offer.missing) == {"memory", "cpu", "pids", "io"}
