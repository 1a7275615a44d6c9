"""The rounds: in each, the floor and every mode do the same once, so that drift hits all alike."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from bench import bars, floor
from bench.figures import Figures
from bench.servers import Private, Server
from emberkeep.vmm.snapshot import open_snapshot
from emberkeep_sdk import Emberkeep, EmberkeepError, MicroVM

IDLE_S: Final = 0.5  # from a command's end to where the microVM counts as idle
PINGS: Final = 20
EXECS: Final = 5
_FILLED_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """What a run works with."""

    image: str
    kit: floor.Kit
    servers: Mapping[str, Server]  # by mode
    clients: Mapping[str, Emberkeep]
    pooled: Mapping[str, int]  # by mode: processes that shall wait before a launch
    figures: Figures


def rounds(stand: Stand, count: int, *, cold: bool) -> None:
    """Measure `count` rounds, behind one that only warms up."""
    floor.warm(stand.kit)
    with floor.launched(stand.kit):
        pass
    for mode in stand.servers:
        warm_up(stand, mode)
    for number in range(1, count + 1):
        _bare(stand, number, cold=cold)
        modes = list(stand.servers)
        turn = number % len(modes) if modes else 0  # nobody is always behind the same other
        for mode in modes[turn:] + modes[:turn]:
            try:
                _one(stand, mode, number)
            except EmberkeepError as error:
                stand.figures.missing[f"{mode}, round {number}"] = str(error)
        print(f"  round {number} of {count}", flush=True)


def warm_up(stand: Stand, mode: str) -> None:
    """Launch twice: the image becomes active, its files warm, and what is to be ready is."""
    for _ in range(2):
        with stand.clients[mode].launch(stand.image) as vm:
            first_output(vm)
        settled(stand, mode)


def first_output(vm: MicroVM) -> float:
    """Run the command, and return the moment of the first byte of its output."""
    with vm.start(floor.COMMAND, stdin=False) as running:
        next(iter(running))
        at = time.perf_counter()
        running.wait()
    return at


def settled(stand: Stand, mode: str, *, live: int = 0) -> None:
    """Wait until the pools of a mode are full and its server is quiet."""
    wanted, deadline = stand.pooled[mode], time.monotonic() + _FILLED_S
    while wanted > _ready(stand.clients[mode]) and time.monotonic() < deadline:
        time.sleep(0.1)
    if not stand.servers[mode].settle(vmms=wanted + live) or wanted > _ready(stand.clients[mode]):
        stand.figures.add(f"not quiet before a measurement ({mode})", 1, unit="times")


def _ready(client: Emberkeep) -> int:
    return sum(one["waiting"] + one["warmed"] for one in client.status().get("ready", []))


def _bare(stand: Stand, number: int, *, cold: bool) -> None:
    figures, kit = stand.figures, stand.kit
    with floor.launched(kit) as vm:
        figures.add(bars.FLOOR, vm.ms, round_=number)
        time.sleep(IDLE_S)
        ms, pages = floor.written_ms(kit, vm)
        figures.add(bars.WRITE, ms, round_=number)
        figures.add("pages of that delta", pages, unit="pages", round_=number)
    with floor.launched(kit, repaired=False) as vm:
        figures.add(bars.UNREPAIRED, vm.ms, round_=number)
    if cold:
        figures.add(bars.COLD, floor.booted_ms(kit), round_=number)


def _one(stand: Stand, mode: str, number: int) -> None:
    """Launch, look, suspend, resume, ask, terminate."""
    figures, server = stand.figures, stand.servers[mode]
    for pid in server.vmms():
        ready = Private.of(pid).dirty
        figures.add(bars.ready(mode), ready, unit="MiB", round_=number)
    began = time.perf_counter()
    with stand.clients[mode].launch(stand.image) as vm:
        launched = time.perf_counter()
        _timed(figures, bars.launch(mode), number, began, launched, first_output(vm))
        settled(stand, mode, live=1)
        time.sleep(IDLE_S)
        if mode == next(iter(stand.servers)):
            _private(figures, vm, number)
        _suspended(stand, mode, vm, number)
        settled(stand, mode)
        began = time.perf_counter()
        vm.resume()
        resumed = time.perf_counter()
        _timed(figures, bars.resume(mode), number, began, resumed, first_output(vm))
        _spans(figures, vm, mode, number)
        if mode == next(iter(stand.servers)):
            _asked(figures, vm, number)
    server.settle(vmms=stand.pooled[mode])


def _timed(
    figures: Figures, row: str, number: int, began: float, returned: float, first: float
) -> None:
    figures.add(row, (first - began) * 1000, round_=number)
    figures.add_span(f"{row}: the call", (returned - began) * 1000, round_=number)
    figures.add_span(f"{row}: the command", (first - returned) * 1000, round_=number)


def _private(figures: Figures, vm: MicroVM, number: int) -> None:
    private = Private.of(int(vm.refresh().details["pid"]))
    figures.add(bars.PRIVATE, private.dirty, unit="MiB", round_=number)
    figures.add(bars.CLEAN, private.dirty + private.clean, unit="MiB", round_=number)


def _suspended(stand: Stand, mode: str, vm: MicroVM, number: int) -> None:
    figures = stand.figures
    began = time.perf_counter()
    vm.suspend()
    figures.add(bars.suspend(mode), (time.perf_counter() - began) * 1000, round_=number)
    figures.add(bars.SUSPENDED_BYTES, suspended_bytes(vm) / 2**20, unit="MiB", round_=number)
    if mode == next(iter(stand.servers)):
        home = stand.servers[mode].data / "microvms" / vm.id
        delta = open_snapshot(next(home.glob("delta-*")))
        resumed = floor.resumed_ms(stand.kit, delta, home / "overlay.qcow2")
        figures.add(bars.FLOOR_RESUME, resumed, round_=number)


def suspended_bytes(vm: MicroVM) -> int:
    """Return what a suspended microVM takes of the disk."""
    details = vm.refresh().details
    return int(details["delta_bytes"]) + int(details["disk_bytes"])


def _spans(figures: Figures, vm: MicroVM, mode: str, number: int) -> None:
    with suppress(EmberkeepError):  # an older server has none
        rows: Sequence[tuple[str, str]] = (
            ("launch", bars.launch(mode)), ("suspend", bars.suspend(mode)),
            ("resume", bars.resume(mode)),
        )  # fmt: skip
        timeline = vm.timeline()
        for verb, row in rows:
            for span in timeline.get(verb, []):
                figures.add_span(f"{row}: server: {span.name}", span.ms, round_=number)


def _asked(figures: Figures, vm: MicroVM, number: int) -> None:
    for _ in range(PINGS):
        began = time.perf_counter()
        figures.add(bars.PING, vm.ping(), round_=number)
        figures.add(bars.HTTP_PING, (time.perf_counter() - began) * 1000, round_=number)
    for _ in range(EXECS):
        began = time.perf_counter()
        vm.exec(["true"], check=True)
        figures.add(bars.EXEC, (time.perf_counter() - began) * 1000, round_=number)
