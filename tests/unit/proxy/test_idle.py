"""When a microVM goes to sleep by itself."""

from dataclasses import replace
from pathlib import Path

import pytest

from emberkeep.domain.endpoints import Endpoint, IdlePolicy, Ingress
from emberkeep.domain.microvms import MicroVM, State
from emberkeep.proxy.idle import Verb, due
from tests.fakes.endpoints import keeping
from tests.fakes.values import microvm


def one(state: State, **policy: float) -> MicroVM:
    ingress = Ingress(idle=IdlePolicy(**policy))
    endpoint = Endpoint(address="127.16.0.1", label="x", ingress=ingress)
    return microvm(state=state, since=100.0, endpoint=endpoint)


@pytest.mark.parametrize(
    ("vm", "active_at", "now", "verb"),
    [
        (one(State.RUNNING), 0, 10_000, None),
        (one(State.RUNNING, max_idle_s=60), 0, 159, None),
        (one(State.RUNNING, max_idle_s=60), 0, 160, Verb.SUSPEND),
        (one(State.RUNNING, max_idle_s=60), 150, 160, None),
        (one(State.RUNNING, max_idle_s=60), 50, 160, Verb.SUSPEND),  # it has run since 100
        (one(State.RUNNING, max_idle_s=60, suspended_s=0), 0, 160, Verb.TERMINATE),
        (one(State.SUSPENDED, max_idle_s=60), 0, 10_000, None),
        (one(State.SUSPENDED, suspended_s=60), 0, 159, None),
        (one(State.SUSPENDED, suspended_s=60), 0, 160, Verb.TERMINATE),
        (one(State.SUSPENDING, max_idle_s=60, suspended_s=60), 0, 10_000, None),
        (microvm(state=State.RUNNING), 0, 10_000, None),
    ],
)
def test_what_is_due(vm: MicroVM, active_at: float, now: float, verb: Verb | None):
    assert due(vm, active_at=active_at, now=now) is verb


async def test_an_idle_microvm_is_suspended(tmp_path: Path):
    async with keeping(tmp_path) as keep:
        vm = keep.microvms.add(ingress=Ingress(idle=IdlePolicy(max_idle_s=3600)))
        keep.microvms.vms[vm.id] = replace(vm, since=vm.since - 3600)

        await keep.microvms.changed(vm.id, State.SUSPENDED)


async def test_activity_outlives_the_server(tmp_path: Path):
    (tmp_path / "endpoint-activity.json").write_text('{"microvm-1": 100.0, "microvm-2": 0}')
    async with keeping(tmp_path) as keep:
        assert keep.proxy._idle.active_at("microvm-1") == 110  # as late as it may have been
        assert keep.proxy._idle.active_at("microvm-2") == 0
