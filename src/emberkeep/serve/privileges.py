"""Without root the server becomes root of a user namespace of its own: one code path for both."""

import os
import sys
from pathlib import Path
from typing import Final

from emberkeep.base import proc
from emberkeep.domain.errors import Unavailable

_ONE: Final = ("--user", "--map-root-user")
_MANY: Final = (*_ONE, "--map-auto")  # with the caller's subordinate users: one for each VMM


def obtain(data: Path) -> None:
    """Return as root, of the host or of a user namespace; in the latter case by starting anew.

    Raises `Unavailable` where the host allows neither.
    """
    if os.geteuid() == 0:
        return
    options = _possible()
    # `data` is said in so many words: the default is another one for root
    environment = {**os.environ, "EMBERKEEP_DATA": os.fspath(data)}  # noqa: TID251  handed on
    command = [sys.executable, "-m", "emberkeep.cli.main", *sys.argv[1:]]
    os.execvpe("unshare", ["unshare", *options, "--", *command], environment)  # noqa: S606, S607


def _possible() -> tuple[str, ...]:
    """Find out which kind of user namespace this user may have."""
    why = ""
    for options in (_MANY, _ONE):
        try:
            result = proc.run(["unshare", *options, "--", "true"], timeout=20)
        except (OSError, TimeoutError) as error:
            why = str(error)
            continue
        if result.ok:
            return options
        why = result.stderr.strip().splitlines()[-1] if result.stderr.strip() else "refused"
    raise Unavailable(
        f"an ordinary user needs user namespaces to run microVMs, and has none here: {why[:200]}",
        hint="run as root, or allow them (on Ubuntu 24.04: sysctl -w"
        " kernel.apparmor_restrict_unprivileged_userns=0); see: emberkeep doctor",
    )
