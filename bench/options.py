"""What can be chosen for a run, on the command line of `python -m bench`."""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import bars

PARTS: Final = ("launch", "cold", "together", "sustained", "crowd")
_VMM: Final = ("qemu", "kernel", "initramfs", "accelerator", "cpu", "machine", "visible")
_RESULTS: Final = Path(__file__).parent / "results"


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    add = parser.add_argument
    add("-n", type=int, default=20, help="rounds of launch, suspend, resume (20)")
    add("--parts", type=_listed(PARTS), help=f"some of: {','.join(PARTS)}; crowd only with --full")
    add("--modes", type=_listed(tuple(bars.READY)), default=list(bars.READY),
        help="some of: nothing,waiting,warmed")  # fmt: skip
    add("--full", action="store_true", help="also 50 idle and 200 alive: some 5 GiB, 15 minutes")
    add("--together", type=int, default=20, help="launches at once (20)")
    add("--bursts", type=int, default=3, help="how often so many at once (3)")
    add("--sustained-s", type=float, default=20, help="seconds of launches without a pause (20)")
    add("--idle", type=int, default=50, help="idle microVMs whose memory is measured (50)")
    add("--alive", type=int, default=200, help="microVMs alive side by side (200)")
    add("--running", type=int, default=50, help="of those alive, how many are not suspended (50)")
    add("--image", default="debian-12")
    add("--source", type=Path, help="a data folder that `emberkeep setup` has filled")
    add("--work", type=Path, default=Path("/var/tmp"), help="where to work; removed at the end")  # noqa: S108
    add("--json", type=Path, help="where to write the figures (bench/results/TIME.json)")
    for name in _VMM:
        add(f"--{name}", help=f"as the setting vmm.{name}")
    options = parser.parse_args(words)
    options.parts = options.parts or [one for one in PARTS if one != "crowd" or options.full]
    options.json = options.json or _RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    return options


def environment(options: argparse.Namespace) -> dict[str, str]:
    """Return the environment of the servers: of ours, only what is of the VMM, and the options."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EMBERKEEP_") or name.startswith("EMBERKEEP_VMM_")
    }
    chosen = {f"EMBERKEEP_VMM_{name.upper()}": getattr(options, name) for name in _VMM}
    return {**ours, **{name: str(value) for name, value in chosen.items() if value}}


def _listed(known: Sequence[str]) -> "type[list[str]]":
    def read(text: str) -> list[str]:
        chosen = [one for one in text.split(",") if one]
        for one in chosen:
            if one not in known:
                raise argparse.ArgumentTypeError(f"{one!r} is none of {', '.join(known)}")
        return chosen

    return read  # type: ignore[return-value]  # argparse only calls it
