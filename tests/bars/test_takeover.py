"""Bar 3: a VMM that was taken over cannot change a byte of what microVMs share."""

import hashlib
import json
import os
import subprocess  # noqa: TID251  the intruder is a process of its own
import sys
from pathlib import Path

import pytest

from emberkeep_sdk import Emberkeep
from tests.bars.knobs import Figures
from tests.bars.servers import IMAGE, BarServer

pytestmark = [
    pytest.mark.bars,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become what a VMM is"),
]

# what must fail; of the rest (a private mapping, a mount in an own namespace) the digests judge
_NEVER = ("open", "reopen", "truncate", "chmod", "mmap shared", "mprotect shared", "madvise")


def test_a_vmm_that_was_taken_over_changes_nothing_that_is_shared(
    server: BarServer, ek: Emberkeep, figures: Figures
):
    with ek.launch(IMAGE, name="taken") as taken, ek.launch(IMAGE, name="victim") as victim:
        (snapshot,) = server.data.glob(f"images/{IMAGE}/{taken.refresh().details['snapshot']}")
        (pid,) = server.vmm_of(taken.id)
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        mapped = [line for line in maps if line.endswith("/image/memory.img")]
        shared = [*snapshot.iterdir(), *(server.data / "artifacts" / "blobs").iterdir()]
        before = {path: _state(path) for path in shared}
        assert mapped
        assert {line.split()[1][3] for line in mapped} == {"p"}

        uid = Path(f"/proc/{pid}").stat().st_uid

        tried = _played(pid)

        after = {path: _state(path) for path in shared}
        done = sorted(name for name, how in tried.items() if how == "done")
        figures("takeover", attempts=len(tried), refused=len(tried) - len(done), files=len(shared))
        assert after == before
        assert not [name for name in done if name.startswith(_NEVER)]
        assert int(tried["is uid"]) == uid != 0
        assert len(tried) > 100
        assert victim.exec(["python3", "-c", "print(6*7)"], check=True).stdout == "42\n"
        with ek.launch(IMAGE, name="later") as later:
            assert later.exec(["true"]).ok


def _played(pid: int) -> dict[str, str]:
    program = Path(__file__).with_name("intruder.py")
    done = subprocess.run(
        [sys.executable, "-I", str(program), str(pid)], capture_output=True, timeout=120, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _state(path: Path) -> tuple[object, ...]:
    """Return all of a file that must stay: bytes, and who may do what with them."""
    facts = path.stat()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return (
        digest, facts.st_ino, facts.st_mode, facts.st_uid, facts.st_gid, facts.st_size,
        facts.st_blocks, facts.st_nlink, facts.st_mtime_ns, tuple(os.listxattr(path)),
    )  # fmt: skip
