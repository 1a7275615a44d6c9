"""When a workload without a ready hook is taken, and what is said of one that does not start."""

import pytest

from emberkeep.domain.images import BuildFailed, FailureCode
from emberkeep.node.readiness import Rest, check_started


def looks(rest: Rest, *uses: float, listening: bool) -> list[bool]:
    """Look once a second; `uses` are the seconds computed between the looks."""
    begun = rest.at_s or 100.0
    cpu = rest.cpu_s
    found = []
    for number, use in enumerate(uses, start=1):
        cpu += use
        found.append(rest.reached(cpu_s=cpu, at_s=begun + number, listening=listening))
    return found


def test_one_that_listens_and_is_quiet_is_at_rest_at_the_third_quiet_look():
    assert looks(Rest(), 5, 0, 0.01, 0, listening=True) == [False, False, False, True]


def test_one_that_computes_is_not_at_rest():
    assert not any(looks(Rest(), *[0.5] * 50, listening=True))


def test_a_busy_moment_begins_the_wait_anew():
    found = looks(Rest(), 0, 0, 0, 0.9, 0, 0, 0, listening=True)

    assert found == [*[False] * 6, True]


def test_one_that_does_not_listen_is_waited_for_longer():
    assert looks(Rest(), *[0] * 11, listening=False).index(True) == 10


def test_a_main_process_that_could_not_be_started_fails_the_build():
    console = [
        "SeaBIOS",
        "EMBERKEEP-FAILED: agent: executable file `serve` not found in $PATH: No such file",
    ]
    with pytest.raises(BuildFailed) as failure:
        check_started(console)

    assert failure.value.code is FailureCode.CONTAINER_BUILD_FAILED
    assert "executable file `serve` not found" in failure.value.reason


def test_a_workload_cannot_say_that_it_was_not_started():
    check_started(["workload: EMBERKEEP-FAILED: agent: crun ended with 1", "EMBERKEEP-READY"])
