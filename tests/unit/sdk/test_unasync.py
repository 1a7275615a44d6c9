"""The synchronous client is what the script makes of the asynchronous one."""

import sys
from pathlib import Path

from emberkeep.base import proc

ROOT = Path(__file__).parents[3]


def test_the_synchronous_client_is_fresh():
    script = [sys.executable, str(ROOT / "scripts" / "unasync.py"), "--check"]

    done = proc.run(script)

    assert (done.code, done.stdout) == (0, "")
