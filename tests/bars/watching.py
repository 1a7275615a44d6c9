"""The host's side of the witness: what it says, how right its clock is, whether its log is whole.

A lost, doubled or changed line, and one that was written while the microVM was suspended, shows.
"""

import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberkeep_sdk import MicroVM

PORT: Final = 7007
FOLDER: Final = "/var/tmp/witness"  # noqa: S108  in the guest
_PROGRAM: Final = "/usr/local/lib/witness.py"


@dataclass(frozen=True)
class Sight:
    """One answer of the witness; the clock's error is known to within `doubt_ms`."""

    count: int
    checksum: int
    pid: int
    error_ms: float
    doubt_ms: float


def begin(vm: MicroVM) -> None:
    """Start the witness in a microVM."""
    vm.files.write(_PROGRAM, Path(__file__).with_name("witness.py").read_bytes())
    vm.exec(["python3", _PROGRAM, FOLDER, str(PORT)], check=True, timeout=60)


def look(vm: MicroVM, *, times: int = 6) -> Sight:
    """Ask the witness; of several answers the one that came quickest is returned."""
    found = []
    with vm.connect(PORT) as stream:
        for _ in range(times):
            sent, begun = time.time_ns(), time.monotonic_ns()
            stream.send(b"?")
            text = b""
            while not text.endswith(b"\n"):
                piece = stream.recv()
                assert piece, "the witness is gone"
                text += piece
            took = time.monotonic_ns() - begun
            facts = json.loads(text)
            found.append(
                Sight(
                    count=facts["count"], checksum=facts["checksum"], pid=facts["pid"],
                    error_ms=(facts["wall_ns"] - sent - took / 2) / 1e6, doubt_ms=took / 2e6,
                )
            )  # fmt: skip
    return min(found, key=lambda sight: sight.doubt_ms)


@dataclass(frozen=True)
class Awake:
    """A time in which the microVM ran, at most: host clock, nanoseconds."""

    begin: int
    end: int


def judge(log: bytes, last: Sight, awake: Sequence[Awake], *, slack_ns: int) -> int:
    """Check that nothing of the log is lost, doubled or of a wrong time; return its lines."""
    lines = log.split(b"\n")[:-1]
    whole = b"\n".join(lines[: last.count]) + b"\n"
    assert len(lines) >= last.count, "the file is shorter than the witness knows"
    assert zlib.crc32(whole) == last.checksum, "the file is not what the witness has written"
    times = []
    for number, line in enumerate(lines):
        count, written = map(int, line.split(b" ")[:2])
        assert count == number, f"line {number} has count {count}"
        times.append(written)
    at = 0
    for number, wall in enumerate(times):
        while at + 1 < len(awake) and wall >= awake[at + 1].begin - slack_ns:
            at += 1
        within = awake[at].begin - slack_ns <= wall <= awake[at].end + slack_ns
        assert within, f"line {number} was written at a time at which the microVM did not run"
    return len(lines)
