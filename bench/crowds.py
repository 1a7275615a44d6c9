"""Many microVMs: at once, one behind the other without a pause, and alive side by side."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Final

from bench import bars
from bench.rounds import Stand, first_output, settled, suspended_bytes
from bench.servers import Server, available_mib, own_cpu_s
from emberkeep_sdk import EmberkeepError, MicroVM

_SPARE_MIB: Final = 3072  # of the host, which is not ours alone
_WATCHED_S: Final = 5.0
_HANDS: Final = 4


def together(stand: Stand, mode: str, number: int, *, size: int) -> None:
    """Launch `size` one after the other, then as many at once; compare what CPU they take.

    All of it counts: the first output, the end, and making anew what was ready.
    """
    figures, server = stand.figures, stand.servers[mode]

    def add(name: str, value: float, unit: str) -> None:
        figures.add(bars.at_once(name, mode), value, unit=unit, round_=number)

    settled(stand, mode)
    before = _cpu_s(server)
    for _ in range(size):
        with stand.clients[mode].launch(stand.image) as vm:
            first_output(vm)
        settled(stand, mode)
    add(bars.SINGLY_CPU, _cpu_s(server) - before, "s")
    before = _cpu_s(server)
    vms, times, failures = _all_at_once(stand, mode, size)
    _ended(vms)
    settled(stand, mode)
    add(bars.AT_ONCE_CPU, _cpu_s(server) - before, "s")
    add(bars.AT_ONCE_OK, len(vms), "")
    for failure in failures:
        figures.missing[bars.at_once(bars.AT_ONCE, mode)] = failure
    for each in times:
        add(bars.AT_ONCE_EACH, each, "s")
    add(bars.AT_ONCE, max(times, default=0.0), "s")


def sustained(stand: Stand, mode: str, seconds: float) -> None:
    """Launch, run a command and terminate without a pause, with as many hands as CPUs."""
    settled(stand, mode)
    done = count()
    began = time.perf_counter()
    until = began + seconds

    def work() -> float:
        with stand.servers[mode].client() as ek:
            while time.perf_counter() < until:
                with ek.launch(stand.image) as vm:
                    first_output(vm)
                next(done)
        return time.perf_counter()

    hands = os.cpu_count() or 1
    with ThreadPoolExecutor(hands) as pool:
        ends = [future.result() for future in [pool.submit(work) for _ in range(hands)]]
    took = max(ends) - began
    stand.figures.add(bars.sustained(mode), next(done) / took, unit="/s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """How many microVMs side by side: first so many idle, then all alive, some of them running."""

    idle: int
    alive: int
    running: int


def crowd(stand: Stand, mode: str, wanted: Crowd) -> None:
    """Have idle microVMs in memory, then more alive, all but some of them suspended."""
    figures, server = stand.figures, stand.servers[mode]
    settled(stand, mode)
    with ExitStack() as held:
        vms: list[MicroVM] = []
        held.callback(lambda: _ended(vms))
        _grown(stand, mode, vms, wanted.idle)
        server.settle(vmms=len(vms))
        if len(vms) == wanted.idle:
            figures.add(bars.idle(len(vms), "memory"), server.memory_mib(), unit="MiB")
            before = server.cpu_s()
            time.sleep(_WATCHED_S)
            used = (server.cpu_s() - before) / _WATCHED_S * 100
            figures.add(bars.idle(len(vms), "CPU"), used, unit="% of a CPU")
        _grown(stand, mode, vms, wanted.running)
        awake, asleep = list(vms), list[MicroVM]()
        while len(vms) < wanted.alive and _grown(
            stand, mode, vms, min(len(vms) + _HANDS, wanted.alive)
        ):
            fresh = vms[len(awake) + len(asleep) :]
            with ThreadPoolExecutor(_HANDS) as pool:
                list(pool.map(lambda vm: vm.suspend(), fresh))
            asleep += fresh
        for vm in asleep:
            figures.add(bars.SUSPENDED_BYTES, suspended_bytes(vm) / 2**20, unit="MiB")
        figures.add(bars.ALIVE_MEMORY, server.memory_mib(), unit="MiB")
        for vm in asleep[:: max(1, len(asleep) // 10)]:
            first_output(vm.resume())
        answering = sum(vm.ping() > 0 for vm in awake)
        figures.add(bars.ALIVE, answering + len(asleep), unit="")


def first_of_a_size(stand: Stand, mode: str, *, memory_mib: int) -> None:
    """Launch in a size that has no snapshot yet."""
    began = time.perf_counter()
    with stand.clients[mode].launch(stand.image, memory=memory_mib) as vm:
        stand.figures.add(bars.FIRST, (first_output(vm) - began) * 1000)


def _all_at_once(
    stand: Stand, mode: str, size: int
) -> tuple[list[MicroVM], list[float], list[str]]:
    """Launch from `size` threads; return microVMs, seconds until each answered, and failures."""
    vms: list[MicroVM] = []
    times: list[float] = []
    failures: list[str] = []
    start = threading.Barrier(size)

    def one() -> None:
        ek = stand.servers[mode].client()
        ek.status()  # a warm client
        start.wait()
        began = time.perf_counter()
        try:
            vm = ek.launch(stand.image)
            vms.append(vm)
            times.append(first_output(vm) - began)
        except EmberkeepError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=one) for _ in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return vms, times, failures


def _grown(stand: Stand, mode: str, vms: list[MicroVM], wanted: int) -> list[MicroVM]:
    """Launch until there are `wanted`; stop early where the host has no memory to spare."""
    while len(vms) < wanted:
        if available_mib() < _SPARE_MIB:
            stand.figures.missing[bars.ALIVE] = f"no memory to spare behind {len(vms)} microVMs"
            return []
        hands = min(_HANDS, wanted - len(vms))
        with ThreadPoolExecutor(hands) as pool:
            launch = stand.clients[mode].launch
            vms += pool.map(launch, [stand.image] * hands)
    return vms


def _ended(vms: list[MicroVM]) -> None:
    with ThreadPoolExecutor(_HANDS) as pool:
        list(pool.map(lambda vm: vm.terminate(), vms))


def _cpu_s(server: Server) -> float:
    """Return what all of it has used: server, VMMs, and the client."""
    return server.cpu_s() + own_cpu_s()
