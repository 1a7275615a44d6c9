"""Launches and terminations leave of the host's things exactly as many as there were before."""

import asyncio
import json
import os
import socket
import statistics
import subprocess  # noqa: TID251  nft(8), to look
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from emberkeep.domain.egress import INTERNET, EgressPolicy
from emberkeep.node import orphans
from emberkeep.node.uids import HOST
from emberkeep_sdk import Emberkeep
from tests.bars.knobs import Figures, number
from tests.bars.servers import IMAGE, BarServer
from tests.unit.network.serving import INSTANCE, serving, settled
from tests.unit.network.world import world
from tests.vm.servers import as_root, eventually

pytestmark = [pytest.mark.bars, pytest.mark.timeout(3600), as_root]


def test_launches_leave_as_much_as_there_was(server: BarServer, ek: Emberkeep, figures: Figures):
    launches = number("LAUNCHES", 200)
    with ek.launch(IMAGE):  # the image's snapshot, and what is made ahead from now on
        pass
    _calm(server, ek)
    before, descriptors = _things(server), _descriptors(server.pid)
    seconds = []
    for count in range(launches):
        began = time.perf_counter()
        egress = (None, "none", ["203.0.113.0/24:443/tcp"])[count % 3]
        with ek.launch(IMAGE, egress=egress):
            seconds.append(time.perf_counter() - began)
    _calm(server, ek)
    with suppress(AssertionError):  # said below, with what is different
        eventually(lambda: _things(server) == before, within=60)
    figures("slots", launches=launches, launch_s=statistics.median(seconds), **before)

    assert _things(server) == before
    # a connection may be open just now; a leak would be one for each launch
    assert abs(_descriptors(server.pid) - descriptors) <= 3


async def test_slots_alone_leave_as_much_as_there_was(figures: Figures):
    count = number("SLOTS", 200)
    made, taken, changed = [], [], []
    with world():
        async with serving(slots=4) as slots:
            await settled(slots, ready=4)
            before = _of_network(INSTANCE), _descriptors(os.getpid())
            for name in map(str, range(count)):
                for figure, policy in ((taken, INTERNET), (changed, EgressPolicy.parse("1.1.1.1"))):
                    await settled(slots, ready=4)
                    began = time.perf_counter()
                    await slots.take(name, policy)
                    figure.append((time.perf_counter() - began) * 1000)
                    slots.give_back(name)
            await settled(slots, ready=4, held=0, leaving=0)
            began = time.perf_counter()
            await asyncio.to_thread(lambda: slots._disposed([slots._made(INTERNET)]))
            made.append((time.perf_counter() - began) * 1000)
            after = _of_network(INSTANCE), _descriptors(os.getpid())
    figures(
        "slots without VMs", slots=2 * count, taken_ms=statistics.median(taken),
        with_another_policy_ms=statistics.median(changed), made_and_removed_ms=made[0],
    )  # fmt: skip

    assert after[0] == before[0]
    assert abs(after[1] - before[1]) <= 3  # one for each slot would be a leak


def _calm(server: BarServer, ek: Emberkeep) -> None:
    """Wait until everything that is made ahead of time is there, and nothing is leaving."""

    def calm() -> bool:
        first = _things(server)
        time.sleep(1)
        return not ek.list() and ek.status()["ready"] and _things(server) == first

    eventually(calm, within=120)


def _things(server: BarServer) -> Mapping[str, int]:
    """Count what a server holds of the host."""
    instance = (server.data / "instance").read_text("ascii").strip()
    pids = [pid for pid, _ in orphans.marked(f"emberkeep:{instance}")]
    users = set()
    for pid in pids:
        with suppress(OSError):
            users |= {Path(f"/proc/{pid}").stat().st_uid} & {*HOST}
    return {
        **_of_network(instance),
        "namespaces": len(_namespaces(server.pid)),
        "groups": len(_groups(instance)),
        "users": len(users),
        "files": sum(
            1 for folder in ("microvms", "run") for _ in (server.data / folder).rglob("*")
        ),
    }


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


def _of_network(instance: str) -> Mapping[str, int]:
    begin = f"emk{instance[:6]}-"
    return {
        "devices": sum(name.startswith(begin) for _, name in socket.if_nameindex()),
        "rules": len(_listed(f"emberkeep_{instance}")),
        "elements": str(_listed(f"emberkeep_{instance}")).count(begin),
    }


def _listed(table: str) -> list[object]:
    words = ["nft", "-j", "list", "table", "inet", table]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout)["nftables"])


def _namespaces(pid: int) -> set[str]:
    found = set()
    for item in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found |= {str(item.readlink())} if str(item.readlink()).startswith("net:") else set()
    return found


def _groups(instance: str) -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").glob(f"**/emberkeep-{instance}/**/") if path]
