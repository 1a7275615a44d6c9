"""`python -m bench.image`: launches of a built image, beside a bare script.

The image's application takes 20 s to begin. In each round: a launch up to the first byte of its
answer over HTTPS, and the same by a script without Emberkeep (`bench.floor`), over the guest
channel. Options as `python -m bench`, of which `--source` and `-n` count here.
"""

import shutil
import ssl
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench import bars, floor
from bench.__main__ import POOL, qemu_of
from bench.figures import Bar, Figures, record
from bench.microvm import asked
from bench.options import environment, parse
from bench.servers import Server, furnished
from bench.tables import told
from emberkeep.vmm.snapshot import open_snapshot
from emberkeep_sdk import Emberkeep, Hooks

_PORT: Final = 8080
_SLOW: Final = f"""\
FROM debian-12
COPY application.py /srv/app.py
CMD ["sh", "-c", "sleep 20; exec python3 /srv/app.py {_PORT}"]
"""
_FIRST: Final = "launch of a built image, first answer"
_FLOOR: Final = "floor: launch, first answer"
_WANTED: Final = (Bar(row=_FIRST, to=_FLOOR, limit=1.5),)


def main(words: list[str]) -> int:
    """Measure, print the table, and return 1 where the bar is not met."""
    options = parse(words)
    figures = Figures()
    with ExitStack() as held:
        work = Path(tempfile.mkdtemp(prefix="ekbench-", dir=options.work))
        held.callback(shutil.rmtree, work, ignore_errors=True)
        env = {**environment(options), "EMBERKEEP_ENDPOINTS_PORT": "0"}
        env |= {f"EMBERKEEP_POOL_{name}": str(n) for name, n in POOL[bars.NOTHING].items()}
        data = furnished(work / "data", options.source)
        server = held.enter_context(Server(data, env).up())
        ek = held.enter_context(server.client())
        _built(ek, work)
        key = next(one for one in (data / "images").iterdir() if "." in one.name)
        kit = floor.Kit(
            **qemu_of(data, env, work), full=open_snapshot(next(key.glob("[!.]*"))),
            folder=work / "floor",
        )  # fmt: skip
        floor.warm(kit)
        trust = ssl.create_default_context(cadata=ek.authority())
        for number in range(options.n + 1):
            server.settle()
            bare = floor.answered_ms(kit, _PORT)
            began = time.perf_counter()
            with ek.launch("slow") as vm:
                good = asked(vm, trust, vm.token(_PORT).headers)
                took = (time.perf_counter() - began) * 1000
            if number and good is not None:
                figures.add(_FLOOR, bare, round_=number)
                figures.add(_FIRST, took, round_=number)
    result = record(figures, _WANTED, {_FIRST: _FLOOR}, {"options": " ".join(words)})
    print(told(result))
    return int(any(bar["met"] is False for bar in result["bars"]))


def _built(ek: Emberkeep, work: Path) -> None:
    """Build the image: its application answers what it is asked only once it has begun."""
    folder = work / "slow"
    folder.mkdir()
    (folder / "Dockerfile").write_text(_SLOW)
    shutil.copy(Path(__file__).with_name("application.py"), folder)
    ek.images.build(folder, name="slow", memory=512, hooks=Hooks(port=_PORT, ready=60))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
