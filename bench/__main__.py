"""`python -m bench`: measure, print one table, keep the figures; `compare A B` prints two runs."""

import json
import shutil
import signal
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from bench import bars, crowds, floor, tables
from bench.conditions import conditions, load
from bench.figures import Figures, record
from bench.options import environment, parse
from bench.rounds import Stand, rounds, warm_up
from bench.servers import NotUp, Server, furnished
from emberkeep.artifacts.artifacts import Artifacts
from emberkeep.serve import config
from emberkeep.serve.host import parts, qemu_binary
from emberkeep.vmm.snapshot import open_snapshot
from emberkeep_sdk import EmberkeepError

POOL: Final[Mapping[str, Mapping[str, int]]] = {
    bars.NOTHING: {"WAITING": 0, "WARMED": 0},
    # one, also behind many launches: what is ready must be the same for each
    bars.WAITING: {"WAITING": 1, "WARMED": 0, "MOST": 1},
    bars.WARMED: {"WAITING": 0, "WARMED": 1, "MOST": 1},
}


def main(words: list[str]) -> int:
    """Run what `words` say and return the exit status: 1 where a bar is not met."""
    if words[:1] == ["compare"]:
        before, after = (json.loads(Path(word).read_bytes()) for word in words[1:3])
        print(tables.compared(before, after), end="")
        return 0
    options = parse(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    figures = Figures()
    with _stand(options, figures) as stand:
        told = conditions(stand.kit.full, stand.kit.qemu)
        told["options"] = " ".join(words) or "none"
        try:
            _measured(stand, options)
        except EmberkeepError as error:
            figures.missing["all that was to follow"] = str(error)
        told["load at the end"] = load()
        accelerator = stand.kit.full.shape.accelerator
    wanted = bars.bars(accelerator=accelerator, together=options.together)
    result = record(figures, wanted, bars.RATIOS, told)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n" + tables.told(result) + f"\nfigures: {options.json}")
    return int(any(bar["met"] is False for bar in result["bars"]))


def _measured(stand: Stand, options: Namespace) -> None:
    """Measure the chosen parts, in this order."""
    first = next(iter(stand.servers))
    if "launch" in options.parts:
        rounds(stand, options.n, cold="cold" in options.parts)
    else:
        for mode in stand.servers:
            warm_up(stand, mode)
    if "cold" in options.parts:
        print("  the first launch of a size", flush=True)
        crowds.first_of_a_size(stand, first, memory_mib=768)
    if "together" in options.parts:
        _bursts(stand, options.bursts, options.together)
    if "sustained" in options.parts:
        _sustained(stand, options.sustained_s)
    if "crowd" in options.parts:
        print(f"  {options.idle} idle, {options.alive} alive", flush=True)
        wanted = crowds.Crowd(idle=options.idle, alive=options.alive, running=options.running)
        crowds.crowd(stand, first, wanted)


def _bursts(stand: Stand, bursts: int, size: int) -> None:
    for number in range(1, bursts + 1):
        for mode in stand.servers:
            print(f"  {size} at once ({mode}), {number} of {bursts}", flush=True)
            crowds.together(stand, mode, number, size=size)


def _sustained(stand: Stand, seconds: float) -> None:
    for mode in stand.servers:
        print(f"  launches without a pause ({mode})", flush=True)
        crowds.sustained(stand, mode, seconds)


@contextmanager
def _stand(options: Namespace, figures: Figures) -> Iterator[Stand]:
    """Bring up a server for each mode; end and remove all of it, whatever happens."""
    env = environment(options)
    if "endpoints.port" in list(config.keys()):
        env["EMBERKEEP_ENDPOINTS_PORT"] = "0"  # side by side, each needs a port of its own
    work = Path(tempfile.mkdtemp(prefix="ekbench-", dir=options.work))
    with ExitStack() as held:
        held.callback(shutil.rmtree, work, ignore_errors=True)
        source = options.source or config.load().data
        seed = furnished(work / "seed", source)
        print("  making the image's snapshot", flush=True)
        kit = kit_of(seed, env, options.image, work)
        servers = _servers(held, options.modes, kit, work, figures, env)
        clients = {mode: held.enter_context(server.client()) for mode, server in servers.items()}
        pooled = {mode: POOL[mode]["WAITING"] + POOL[mode]["WARMED"] for mode in servers}
        yield Stand(
            image=options.image, kit=kit, servers=servers, clients=clients, pooled=pooled,
            figures=figures,
        )  # fmt: skip


def kit_of(seed: Path, env: Mapping[str, str], image: str, work: Path) -> floor.Kit:
    """Have the image's snapshot made, and gather what the bare script needs."""
    shutil.rmtree(seed / "images", ignore_errors=True)
    with Server(seed, env).up() as server, server.client() as ek, ek.launch(image):
        pass
    full = open_snapshot(next((seed / "images" / image).glob("[!.]*")))
    return floor.Kit(**qemu_of(seed, env, work), full=full, folder=work / "floor")


def qemu_of(data: Path, env: Mapping[str, str], work: Path) -> dict[str, Any]:
    """Find the QEMU and the artifacts that a server on `data` would use."""
    settings = config.load({"data": data}, environ={"HOME": str(work), **env})
    qemu, _ = qemu_binary(settings.vmm)
    return {"qemu": qemu, "parts": parts(Artifacts(data / "artifacts"), settings.vmm)}


def _servers(
    held: ExitStack,
    modes: list[str],
    kit: floor.Kit,
    work: Path,
    figures: Figures,
    env: Mapping[str, str],
) -> dict[str, Server]:
    """Start a server for each mode that this checkout has."""
    seed = kit.full.path.parents[2]
    has_pools = "pool.waiting" in list(config.keys())
    servers: dict[str, Server] = {}
    for mode in modes:
        if not has_pools and mode != bars.NOTHING:
            figures.missing[bars.launch(mode)] = "this server has no pools"
            continue
        pool = {f"EMBERKEEP_POOL_{name}": str(count) for name, count in POOL[mode].items()}
        server = Server(furnished(work / mode, seed), {**env, **(pool if has_pools else {})})
        try:
            servers[mode] = held.enter_context(server.up())
        except NotUp as why:
            figures.missing[bars.launch(mode)] = str(why)
    return servers


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
