"""The server of a bar: one of its own, on a data folder of its own, with what it costs the host."""

import asyncio
import os
import shutil
import signal
import subprocess  # noqa: TID251  the server as its users have it
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberkeep.node import orphans
from tests.bars.knobs import PREFIX
from tests.vm.servers import Server, emberkeep

IMAGE: Final = "debian-12"


class BarServer(Server):
    """A server that may also be killed while it starts."""

    def __init__(self, data: Path, home: Path, *, env: Mapping[str, str] | None = None) -> None:
        home.mkdir(exist_ok=True)
        super().__init__(data, home, env=env)
        self.env = {name: text for name, text in self.env.items() if not name.startswith(PREFIX)}

    def killed_while_starting(self, after_s: float) -> None:
        """Start it, and kill it so many seconds later."""
        words = ["--data", str(self.data), "--listen", f"127.0.0.1:{self.port}"]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                emberkeep("up", *words), env=self.env, cwd=self.home, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        time.sleep(after_s)
        process.kill()
        process.wait()

    def home_of(self, microvm_id: str) -> Path:
        """Return the folder of a microVM."""
        return self.data / "microvms" / microvm_id

    def vmm_of(self, microvm_id: str) -> list[int]:
        """Return the processes of one microVM's VMM."""
        found = []
        for pid in self.vmms():
            with suppress(OSError):
                if microvm_id.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found


@dataclass(frozen=True)
class Io:
    """What a process has read and written by system calls so far (/proc/PID/io)."""

    read: int
    written: int

    @classmethod
    def of(cls, pid: int) -> "Io":
        """Ask the kernel."""
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        facts = {name: int(value) for name, value in (line.split(": ") for line in lines)}
        return cls(facts["rchar"], facts["wchar"])

    def __sub__(self, other: "Io") -> "Io":
        return Io(self.read - other.read, self.written - other.written)


def furnished(folder: Path, stock: Path, *, images: bool = True) -> Path:
    """Make a data folder with copies of the artifacts, and the images' snapshots, of `stock`.

    Not hard links: they would change the times of files that another server has verified.
    """
    folder.mkdir(mode=0o700, parents=True)
    for name in ("artifacts", "accelerator.json", *(["images"] if images else [])):
        if (stock / name).exists():
            words = ["cp", "-a", "--sparse=always", "--reflink=auto"]
            subprocess.run([*words, str(stock / name), str(folder)], check=True, timeout=300)
    return folder


@contextmanager
def lent(folder: Path) -> Iterator[Path]:
    """Give a data folder for the length of the block; no VMM of it and no file outlives that."""
    try:
        yield folder
    finally:
        with suppress(FileNotFoundError):
            word = (folder / "instance").read_text(encoding="ascii").strip()
            asyncio.run(orphans.end_all(f"emberkeep:{word}", but=frozenset()))
        shutil.rmtree(folder, ignore_errors=True)


def taken(path: Path) -> int:
    """Return the bytes that a file, or a folder with all in it, takes on the host's disk."""
    if not path.is_dir():
        return os.lstat(path).st_blocks * 512
    total = 0
    for item in path.rglob("*"):
        with suppress(FileNotFoundError):
            if not item.is_dir():
                total += os.lstat(item).st_blocks * 512
    return total


def kill(pid: int) -> None:
    """Kill a process; one that is gone is no error."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
