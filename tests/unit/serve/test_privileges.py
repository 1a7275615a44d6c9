"""Which user namespace a server without root goes into."""

import os
import subprocess  # noqa: TID251  processes of an earlier server
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emberkeep.serve.privileges import earlier

_WAIT = "import sys; print(flush=True); sys.stdin.read()"


@contextmanager
def left_over(mark: str, *way: str) -> Iterator[int]:
    """Run what an earlier server could have left; yield its pid."""
    argv = [*way, sys.executable, "-c", _WAIT, mark]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        if process.stdout.readline() != b"\n":
            pytest.skip("user namespaces are not allowed here")
        yield process.pid
        process.kill()


def test_the_namespace_of_what_runs_on_is_entered_again(tmp_path: Path):
    (tmp_path / "instance").write_text("0123abcd\n")
    with left_over("emberkeep:0123abcd:vm", "unshare", "--user", "--map-root-user") as pid:
        fd = earlier(tmp_path)
        assert fd is not None
        found, theirs = os.fstat(fd).st_ino, Path(f"/proc/{pid}/ns/user").stat().st_ino
        os.close(fd)

    assert found == theirs


def test_that_of_pasta_will_do_as_well(tmp_path: Path):
    (tmp_path / "instance").write_text("0123abcd")
    with left_over("emberkeep-pasta:0123abcd:7/", "unshare", "--user", "--map-root-user"):
        fd = earlier(tmp_path)

    assert fd is not None
    os.close(fd)


@pytest.mark.parametrize(
    ("instance", "way"),
    [
        ("another", ("unshare", "--user", "--map-root-user")),
        ("", ("unshare", "--user", "--map-root-user")),
        ("0123abcd", ("env",)),
        ("0123abcd", ("unshare", "--user")),
    ],
    ids=["another server's", "no instance", "our own namespace", "we are not its root"],
)
def test_no_other_namespace_is_entered(tmp_path: Path, instance: str, way: tuple[str, ...]):
    (tmp_path / "instance").write_text(instance)
    with left_over("emberkeep:0123abcd:vm", *way):
        assert earlier(tmp_path) is None


def test_without_a_data_folder_there_is_none(tmp_path: Path):
    assert earlier(tmp_path / "none") is None
