"""Which defences are in force, judged from what the kernel says."""

from dataclasses import replace

import pytest

from emberkeep.domain.confinement import (
    CAPABILITIES,
    CONTROLLER,
    CPU,
    DUMPS,
    FILES,
    IO,
    LIMITS,
    MEMORY,
    NAMESPACES,
    PIDS,
    PRIVILEGES,
    SPACES,
    SWAP,
    SYSTEM_CALLS,
    USER,
    Seen,
    cannot,
    defences,
    told,
)

WELL = Seen(
    users=frozenset({1_990_000_000}),
    groups=frozenset(),
    ours=0,
    capabilities=0,
    no_new_privileges=True,
    seccomp=2,
    namespaces=frozenset(SPACES),
    root="jail ro",
    limits={
        "open files": 256, "file size": 1 << 33, "locked memory": 0, "msgqueue size": 0,
        "core file size": 0,
    },
    bounds={MEMORY: "784 MiB", SWAP: "0 MiB", CPU: "2 CPUs", PIDS: "129 threads", IO: ""},
)  # fmt: skip


def test_a_vmm_that_is_held_well_lacks_nothing():
    assert [one.name for one in defences(WELL) if one.lacks] == []
    assert len(defences(WELL)) == 13


def test_a_bound_on_disk_io_that_nobody_asked_for_is_not_in_force_and_not_lacking():
    (io,) = (one for one in defences(WELL) if one.name == IO)

    assert (io.in_force, io.lacks) == (False, False)
    assert "vmm.io_mib_s" in io.detail
    assert [one.name for one in defences(replace(WELL, throttled=True)) if one.lacks] == [IO]


@pytest.mark.parametrize(
    ("lacking", "seen"),
    [
        (USER, replace(WELL, users=frozenset({0}))),
        (USER, replace(WELL, users=frozenset({5, 6}))),
        (USER, replace(WELL, groups=frozenset({27}))),
        (CAPABILITIES, replace(WELL, capabilities=1 << 21)),
        (PRIVILEGES, replace(WELL, no_new_privileges=False)),
        (SYSTEM_CALLS, replace(WELL, seccomp=1)),
        (NAMESPACES, replace(WELL, namespaces=frozenset(SPACES) - {"net"})),
        (FILES, replace(WELL, root="/dev/sda1 rw")),
        (FILES, replace(WELL, root="jail rw")),
        (LIMITS, replace(WELL, limits={**WELL.limits, "open files": None})),
        (DUMPS, replace(WELL, limits={**WELL.limits, "core file size": None})),
        *((name, replace(WELL, bounds={**WELL.bounds, name: ""})) for name in
          (MEMORY, SWAP, CPU, PIDS)),
    ],
)  # fmt: skip
def test_each_defence_can_be_found_lacking(lacking: str, seen: Seen):
    assert [one.name for one in defences(seen) if one.lacks] == [lacking]


def test_a_bound_that_cannot_be_had_says_why():
    seen = replace(WELL, bounds={}, missing=dict.fromkeys(CONTROLLER.values(), "no such thing"))

    (memory,) = (one for one in defences(seen) if one.name == MEMORY)
    assert memory.detail == "no such thing"


def test_what_cannot_be_had_is_known_before_anything_runs():
    assert cannot({}, second_user=True, throttled=True) == []
    lacking = cannot({"memory": "why", "io": "why not"}, second_user=False, throttled=False)
    assert [one.name for one in lacking] == [USER, MEMORY, SWAP]
    assert [one.name for one in cannot({"io": "x"}, second_user=True, throttled=True)] == [IO]
    assert told(lacking[1:2]) == "memory bound (why)"
