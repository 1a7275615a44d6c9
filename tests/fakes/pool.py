"""What a pool is filled from, without VMMs; and a clock that goes on when it is told to."""

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from emberkeep.domain.units import Memory, Size
from emberkeep.node.standby import Kind, Standby
from emberkeep.vmm.shape import Shape
from emberkeep.vmm.snapshot import Snapshot


class FakeClock:
    """`base.clock.Clock`."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def wall_ns(self) -> int:
        return self.monotonic_ns()

    def monotonic_ns(self) -> int:
        return int(self.now_s * 1e9)


class FakeSupply:
    """`node.pool.Supply`: says what is done, and answers as it is set."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.there: list[Standby] = []  # made and not discarded
        self.made_in_all = 0
        self.short = False
        self.room = 100
        self.calm = 60.0
        self.now: dict[Kind, Kind | None] = {}
        self.jobs: list[Coroutine[Any, Any, None]] = []
        self.fault: Exception | None = None

    async def made(self, kind: Kind, *, warm: bool) -> Standby:
        await asyncio.sleep(0)
        if self.fault:
            raise self.fault
        self.made_in_all += 1
        standby = FakeStandby(
            microvm_id=f"microvm-{self.made_in_all}", uid=self.made_in_all, kind=kind,
            machine=_ANY, live=_ANY if warm else None, held=ExitStack(), made_at=self.clock.now_s,
        )  # fmt: skip
        self.there.append(standby)
        return standby

    async def discarded(self, standby: Standby) -> None:
        await asyncio.sleep(0)
        self.there.remove(standby)

    def later(self, job: Coroutine[Any, Any, None]) -> None:
        self.jobs.append(job)

    def renewed(self, kind: Kind) -> Kind | None:
        return self.now.get(kind, kind)

    def has_room(self, size: Size, ready: Iterable[Size]) -> bool:
        return len(list(ready)) < self.room

    def memory_is_short(self) -> bool:
        return self.short

    def calm_s(self) -> float:
        return self.calm


class FakeStandby(Standby):
    """One that lives until it is told to die."""

    dead = False

    @property
    def alive(self) -> bool:
        return not self.dead


def kind(name: str = "debian-12", *, seal: str = "s1") -> Kind:
    """Return what a VMM may be made ready for."""
    shape: Any = replace(_SHAPE)
    full = Snapshot(
        path=Path("/images") / name / "512m-1c-key", kind="full", taken_by="10.0.2", shape=shape,
        base="", files={}, beside={}, seal=seal,
    )  # fmt: skip
    return Kind.of(full)


_ANY: Any = object()
_SHAPE = Shape(
    size=Size(Memory(512)), accelerator="tcg", machine="q35", cpu="c", host_cpu="", kernel="k",
    initramfs="i", cmdline="", disks=(), disk_gib=8,
)  # fmt: skip
