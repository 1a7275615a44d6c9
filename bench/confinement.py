"""`python -m bench.confinement`: what confinement and the network slot add to a launch.

One node in this process launches and terminates, in turn: with both, with the jail on a tap that
was made before, and with neither: QEMU as a plain child of this process, as its user, with its
seccomp sandbox off. The last two exist here alone; no setting of a server leads there.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.servers import furnished
from emberkeep.base import proc
from emberkeep.base.groups import Tree
from emberkeep.domain.requests import LaunchRequest
from emberkeep.network.slot import network_slot
from emberkeep.node.node import Node
from emberkeep.serve import config
from emberkeep.serve.app import _node, _stores
from emberkeep.vmm.bounds import Bounds
from emberkeep.vmm.jail import FIRST_FD

NEITHER, JAIL, BOTH = "neither", "jail, tap made before", "jail and slot"
_LIMIT: Final = 1.20
_ASIDE: Final = 600  # above what this process has open
_PAUSE_S: Final = 0.7  # what is made ahead is made again


class Loose:
    """Takes the place of `Cells`: what it gives becomes QEMU without any jail."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.group = None

    async def take(self) -> "Loose":
        """Give itself: there is nothing to wait in."""
        return self

    def refill(self) -> None:
        """Nothing is made ahead."""

    async def discard(self) -> None:
        """Nothing was made."""

    async def become(self, spec: Mapping[str, Any], fds: Sequence[int], _: Bounds) -> int:
        """Start QEMU."""
        places = {target: source for source, target, _ in spec["binds"]}
        words = [_found(word, places) for word in spec["argv"]]
        at = words.index("-sandbox")
        del words[at : at + 2]
        aside = [(_ASIDE + at, FIRST_FD + at, fd) for at, fd in enumerate(fds[2:])]
        moves: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, fds[0], out) for out in (1, 2)]
        moves += [(os.POSIX_SPAWN_DUP2, fd, place) for place, _, fd in aside]
        moves += [(os.POSIX_SPAWN_DUP2, place, number) for place, number, _ in aside]
        moves += [(os.POSIX_SPAWN_CLOSE, place) for place, _, _ in aside]
        start = partial(os.posix_spawn, words[0], words, spec["env"], setsid=True)
        return start(file_actions=moves)


def _found(word: str, places: Mapping[str, str]) -> str:
    for target, source in places.items():
        word = word.replace(target, source)
    return word


async def measured(node: Node, image: str, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each launch, by kind, round by round."""
    confined, lent = node.ground.hypervisor.host, node.ground.slots.lent
    loose = replace(confined, cells=Loose(confined.cells.tree))  # type: ignore[arg-type]
    found: dict[str, list[float]] = {NEITHER: [], JAIL: [], BOTH: []}
    for number in range(-1, rounds):  # the first round warms up
        order = list(found)
        order = order[number % 3 :] + order[: number % 3]
        for kind in order:
            await asyncio.sleep(_PAUSE_S)
            with ExitStack() as held:
                if kind != BOTH:
                    tap = held.enter_context(network_slot())

                    @asynccontextmanager
                    async def made(*_: object, tap: Any = tap) -> AsyncGenerator[Any]:  # noqa: ANN401
                        yield tap

                    node.ground.slots.lent = made  # type: ignore[method-assign,assignment]
                node.ground.hypervisor.host = loose if kind == NEITHER else confined
                began = time.perf_counter()
                vm = await node.launch(LaunchRequest(image=image))
                took = (time.perf_counter() - began) * 1000
                node.ground.hypervisor.host = confined
                node.ground.slots.lent = lent  # type: ignore[method-assign]
                await node.terminate(vm.id)
            if number >= 0:
                found[kind].append(took)
                print(f"  {number + 1:3}  {kind:22} {took:7.1f} ms", flush=True)
    return found


async def _run(options: argparse.Namespace, data: Path) -> dict[str, list[float]]:
    settings = config.load(
        {"data": data, "pool.waiting": 0, "pool.warmed": 0}, environ={"HOME": str(data)}
    )
    async with _stores(settings) as stores, _node(settings, stores) as node:
        return await measured(node, options.image, options.n)


def main() -> int:
    """Measure, print, and return 1 where the bar is not met."""
    parser = argparse.ArgumentParser("python -m bench.confinement", description=__doc__)
    parser.add_argument("-n", type=int, default=20, help="rounds (20)")
    parser.add_argument("--image", default="debian-12")
    parser.add_argument("--source", type=Path, help="a data folder that `emberkeep setup` filled")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"))  # noqa: S108
    parser.add_argument("--json", type=Path, help="where to write every sample")
    options = parser.parse_args()
    if os.geteuid():
        parser.error("run it as root: without, there is nothing to compare with")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    proc.adopt_orphans()
    work = Path(tempfile.mkdtemp(prefix="ekconf-", dir=options.work))
    try:
        data = furnished(work / "data", options.source or config.load().data)
        found = asyncio.run(_run(options, data))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return _told(found)


def _told(found: Mapping[str, list[float]]) -> int:
    ratio = 0.0
    print()
    for kind, values in found.items():
        ratios = [ours / bare for ours, bare in zip(values, found[NEITHER], strict=True)]
        ratio = statistics.median(ratios)
        print(
            f"{kind:22} median {statistics.median(values):7.1f} ms, least {min(values):7.1f},"
            f" beside {NEITHER}: {ratio:.3f}"
        )
    print(f"bar: {BOTH} <= {_LIMIT:g} of {NEITHER}: {'met' if ratio <= _LIMIT else 'NOT MET'}")
    return int(ratio > _LIMIT)


if __name__ == "__main__":
    sys.exit(main())
