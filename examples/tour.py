"""A tour of Emberkeep, step by step, with the time each takes.

Needs a server (emberkeep up --detach), and PyPI for the Flask example. `make run` ends with it.
"""

import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import rich.markup
from rich.console import Console
from rich.table import Table

from emberkeep_sdk import BuildFailed, Emberkeep, EmberkeepError, Hooks, MicroVM

IMAGE = "debian-12"
FLASK = Path(__file__).with_name("flask")
HOOKS = Hooks(port=8080, ready=120, validate=60, run=20, resume=20, suspend=20, terminate=20)


class Tour:
    """The steps so far: printed as they are taken, timed."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.table = Table("step", "what happened", "time", box=None, padding=(0, 2, 0, 0))
        self.table.columns[0].no_wrap = True
        self.table.columns[2].justify = "right"

    def tell(self, text: str) -> None:
        """Show the last line of `text` beside what is under way."""
        lines = [line for line in text.replace("\r", "\n").split("\n") if line.strip()]
        if lines:
            self.status.update(rich.markup.escape(lines[-1][: self.console.width - 4]))

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time the block; what it appends is what happened."""
        happened: list[str] = []
        start = time.perf_counter()
        with self.console.status(name) as self.status:
            yield happened
        elapsed_ms = (time.perf_counter() - start) * 1000
        self.table.add_row(f"[bold]{name}", " ".join(happened), f"{elapsed_ms:,.0f} ms")


def main() -> int:
    """Take the tour; return 0 if all went as it should."""
    tour = Tour()
    try:
        with Emberkeep() as ek:
            _see(tour, ek)
            _build(tour, ek)
    except EmberkeepError as error:
        if isinstance(error, BuildFailed):
            tour.console.print(error.log, markup=False)
        tour.console.print(f"[red]error:[/] {error.message}")
        if error.hint:
            tour.console.print(f"[cyan]hint:[/] {error.hint}")
        return 1
    finally:
        if tour.table.rows:
            tour.console.print()
            tour.console.print(tour.table)
    tour.console.print("\nNow your turn:  [bold]emberkeep images build examples/repl --name repl")
    return 0


def _see(tour: Tour, ek: Emberkeep) -> None:
    with tour.step("server") as happened:
        happened.append(f"answers at {ek.endpoint}")
    with tour.step("the image's snapshot") as happened:
        new = not ek.images()[0].snapshots
        ek.launch(IMAGE).terminate()
        happened.append("booted once and taken" if new else "was there already")
    with tour.step("launch, run, terminate") as happened, ek.launch(IMAGE) as vm:
        result = vm.exec(["python3", "-c", "print(2**100)"], check=True)
        happened.append(f"2**100 = {result.stdout.strip()}")
    with tour.step("launch") as happened:
        vm = ek.launch(IMAGE)
        happened.append(f"{vm.name}, {vm.facts.memory_mib} MiB, from a snapshot")
    try:
        _commands(tour, vm)
        _state(tour, vm)
        _terminal(tour, vm)
        _copies(tour, vm)
    finally:
        with tour.step("terminate") as happened:
            vm.terminate()
            happened.append("nothing of it is left")


def _build(tour: Tour, ek: Emberkeep) -> None:
    with tour.step("build an image") as happened:
        build = ek.images.build(FLASK, name="flask", memory=1024, hooks=HOOKS, tell=tour.tell)
        happened.append(f"{build.ref}, from examples/flask and its Dockerfile")
    with tour.step("launch it") as happened:
        vm = ek.launch(build.ref)
        happened.append(f"{vm.name}, warmed up, told its id by the run hook")
    try:
        _endpoint(tour, ek, vm)
    finally:
        with tour.step("terminate") as happened:
            vm.terminate()
            happened.append("behind its terminate hook")


def _endpoint(tour: Tour, ek: Emberkeep, vm: MicroVM) -> None:
    token, trust = vm.token(8080), ssl.create_default_context(cadata=ek.authority())
    with httpx.Client(
        base_url=vm.url, headers=token.headers, verify=trust, trust_env=False, timeout=60
    ) as web:
        visits = _visits(tour, web.get)
        with tour.step("suspend") as happened:
            vm.suspend()
            happened.append("behind its suspend hook")
        with tour.step("resume") as happened:
            vm.resume()
            happened.append("behind its resume hook")
        if _visits(tour, web.get) != visits + 1:
            raise EmberkeepError("the application has lost count")
        with tour.step("its hooks, so far") as happened:
            happened.append(", ".join(web.get("/hooks").raise_for_status().json()))


def _visits(tour: Tour, get: Callable[[str], httpx.Response]) -> int:
    with tour.step("GET / over HTTPS") as happened:
        told = get("/").raise_for_status().json()
        happened.append(f"visit {told['visits']} of session {told['session']}")
    return int(told["visits"])


def _commands(tour: Tour, vm: MicroVM) -> None:
    with tour.step("exec") as happened:
        result = vm.exec(". /etc/os-release; echo $PRETTY_NAME", check=True)
        happened.append(result.stdout.strip())
    with tour.step("exec, warm") as happened:
        result = vm.exec(["cat"], stdin="streams both ways", check=True)
        happened.append(result.stdout)
    with tour.step("exec, with a timeout") as happened:
        result = vm.exec("sleep 60", timeout=0.2)
        happened.append("sleep 60 was killed" if result.timed_out else "was NOT killed")


def _state(tour: Tour, vm: MicroVM) -> None:
    with tour.step("write a file") as happened:
        vm.files.write("/data/x.txt", b"kept")
        happened.append("/data/x.txt")
    count = "i=0; while :; do i=$((i+1)); echo $i >> /data/count; sleep 0.1; done"
    vm.exec(f"({count}) >/dev/null 2>&1 &", check=True)
    with tour.step("suspend") as happened:
        vm.suspend()
        happened.append("no memory, no CPU, nothing lost")
    with tour.step("resume") as happened:
        vm.resume()
        happened.append("it goes on where it was")
    with tour.step("read it back") as happened:
        happened.append(repr(vm.files.read_text("/data/x.txt")))
    with tour.step("a process of before") as happened:
        counted = [vm.exec(["tail", "-1", "/data/count"]).stdout.strip() for _ in range(2)]
        happened.append(f"counts on: {' … '.join(counted)}")


def _terminal(tour: Tour, vm: MicroVM) -> None:
    with tour.step("a terminal") as happened:
        with vm.pty(["stty", "size"], rows=33, cols=99) as running:
            said = b"".join(piece for _, piece in running)
        happened.append(f"of {' x '.join(said.decode().split())}")


def _copies(tour: Tour, vm: MicroVM) -> None:
    with tempfile.TemporaryDirectory() as folder, tour.step("copy 16 MiB both ways") as happened:
        here = Path(folder) / "large.bin"
        here.write_bytes(bytes(range(256)) * (16 << 12))
        vm.files.upload(here, "/data/large.bin")
        vm.files.download("/data/large.bin", Path(folder) / "back.bin")
        same = here.read_bytes() == (Path(folder) / "back.bin").read_bytes()
        happened.append("the same bytes came back" if same else "they DIFFER")


if __name__ == "__main__":
    sys.exit(main())
