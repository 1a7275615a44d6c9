"""Bar 8: an ordinary user, with nothing but user namespaces: run, suspend, resume.

Whoever runs the bars as root names such a user in EMBERKEEP_BARS_USER; the user must be able to
read the checkout and its Python.
"""

import os
import pwd
import shutil
import subprocess  # noqa: TID251  the command line as its users have it
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.bars.knobs import PREFIX, Figures, word
from tests.bars.servers import furnished
from tests.vm.servers import emberkeep, environment

pytestmark = [pytest.mark.bars, pytest.mark.timeout(1800)]

PORT: Final = 9871


@pytest.fixture
def user() -> pwd.struct_passwd:
    """Return an ordinary user that may have user namespaces and taps."""
    name = word("USER")
    if os.geteuid() == 0 and not name:
        pytest.skip("run as root: name an ordinary user in EMBERKEEP_BARS_USER")
    found = pwd.getpwnam(name) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    for what in (["unshare", "--user", "--map-root-user", "true"], ["test", "-w", "/dev/net/tun"]):
        if subprocess.run(_as(found, what), check=False, capture_output=True).returncode:
            pytest.skip(f"{found.pw_name} cannot: {' '.join(what)}")
    return found


@pytest.fixture
def place(user: pwd.struct_passwd, stock: Path) -> Iterator[Path]:
    """Return a folder of that user with a data folder in it."""
    folder = Path(tempfile.mkdtemp(prefix="ek-rootless-"))
    furnished(folder / "data", stock, images=False)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_an_ordinary_user_runs_suspends_and_resumes(
    user: pwd.struct_passwd, place: Path, figures: Figures
):
    cli = _Cli(user, place)
    took = {"up": cli("up", "--detach", "--listen", f"127.0.0.1:{PORT}", told="is ready")}
    try:
        took["first_run"] = cli("run", "debian-12", "--", "echo", "one", told="one\n")
        took["run"] = cli("run", "debian-12", "--", "echo", "two", told="two\n")
        took["launch"] = cli("launch", "debian-12", "--name", "r", told="r")
        cli("exec", "r", "--", "sh", "-c", "echo kept > /run/x", told="")
        took["suspend"] = cli("suspend", "r", told="")
        took["resume"] = cli("resume", "r", told="")
        cli("exec", "r", "--", "cat", "/run/x", told="kept\n")
        uid = cli.vmm_uid()
        figures(
            "rootless", user=user.pw_name, vmm_uid=uid, **{f"{k}_s": v for k, v in took.items()}
        )
        assert uid != 0
        _mapped(user, uid)
    finally:
        cli("down", "--terminate", told="ended")
    assert list((place / "data" / "microvms").iterdir()) == []


class _Cli:
    """`emberkeep` as that user calls it."""

    def __init__(self, user: pwd.struct_passwd, place: Path) -> None:
        self._user, self._place = user, place
        ours = environment(place, EMBERKEEP_DATA=str(place / "data"))
        self._env = {name: text for name, text in ours.items() if not name.startswith(PREFIX)}

    def __call__(self, *words: str, told: str) -> float:
        """Run it; return how many seconds it took."""
        begun = time.monotonic()
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                _as(self._user, emberkeep(*words)), env=self._env, cwd=self._place, timeout=300,
                check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
            output.seek(0)
            text = output.read().decode()
        assert done.returncode == 0, text
        assert told in text
        return time.monotonic() - begun

    def vmm_uid(self) -> int:
        """Return the user of the one VMM that runs, as the host knows it."""
        mark = (self._place / "data" / "instance").read_text().strip().encode()
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                try:
                    words = (folder / "cmdline").read_bytes()
                except OSError:
                    continue
                if b"emberkeep:" + mark in words and b"qemu" in words.split(b"\0")[0]:
                    return folder.stat().st_uid
        raise AssertionError("no VMM runs")


def _mapped(user: pwd.struct_passwd, uid: int) -> None:
    """Check that `uid` is the user's own, or one of the subordinate users given to them."""
    ranges = [line.split(":") for line in Path("/etc/subuid").read_text().splitlines() if line]
    own = [
        range(int(first), int(first) + int(count))
        for name, first, count in ranges
        if name in {user.pw_name, str(user.pw_uid)}
    ]
    assert uid == user.pw_uid or any(uid in one for one in own)


def _as(user: pwd.struct_passwd, words: list[str]) -> list[str]:
    if os.geteuid() == user.pw_uid:
        return words
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", *words]
