"""The same as an ordinary user: what needs no root of these tests passes there, too.

Whoever runs the bars as root names such a user in EMBERKEEP_BARS_USER; the user must be able to
read the checkout and its Python, and to open /dev/net/tun.
"""

import os
import pwd
import re
import shutil
import subprocess  # noqa: TID251  pytest, as that user
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bars.knobs import word
from tests.bars.servers import furnished
from tests.vm.servers import environment

pytestmark = [
    pytest.mark.bars,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.geteuid() != 0 or not word("USER"),
        reason="run as root: name an ordinary user in EMBERKEEP_BARS_USER",
    ),
]

_CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def place(stock: Path) -> Iterator[Path]:
    """Return a folder of that user with all artifacts in it."""
    user = pwd.getpwnam(word("USER"))
    folder = Path(tempfile.mkdtemp(prefix="ek-hostile-"))
    furnished(folder / "data", stock, images=False)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_an_ordinary_user_is_as_safe(place: Path):
    user = pwd.getpwnam(word("USER"))
    become = [
        "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups",
    ]  # fmt: skip
    words = [
        sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", "vm and not bars",
        f"--basetemp={place / 'tmp'}", "tests/hostile",
    ]  # fmt: skip
    env = environment(place, EMBERKEEP_TEST_DATA=str(place / "data"))
    done = subprocess.run(
        [*become, *words], cwd=_CHECKOUT, env=env, timeout=1500, check=False,
        capture_output=True, text=True,
    )  # fmt: skip

    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout[-4000:]
    assert passed is not None
    assert int(passed[1]) >= 6
