"""Places for trees with files of many owners, and tools that end together with all they started."""

import errno
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from emberkeep.artifacts.command import Commands

_TRIES: Final = 20
_PAUSE_S: Final = 0.1


def contained(argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` as root, or as root of the caller's subordinate ids.

    It has process and mount namespaces of its own: when it is killed, all it started and mounted
    is gone with it.
    """
    identity = [] if os.geteuid() == 0 else ["--map-auto", "--map-root-user"]
    return [
        "unshare", *identity, "--mount", "--propagation", "private",
        "--pid", "--fork", "--kill-child", "--mount-proc", "--", *argv,
    ]  # fmt: skip


def remove(commands: Commands, tree: Path) -> None:
    """Remove `tree` if it is there, files of subordinate ids included."""
    for attempt in range(_TRIES):
        try:
            shutil.rmtree(tree)
        except FileNotFoundError:
            return
        except PermissionError:
            commands.run(contained(["rm", "-rf", str(tree)]))
        except OSError as error:
            # a tool of a run that was killed wrote its last file
            if error.errno != errno.ENOTEMPTY or attempt == _TRIES - 1:
                raise
            time.sleep(_PAUSE_S)
