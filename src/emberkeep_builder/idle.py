"""The builder's main process: runs once through what every build needs, then waits for ever.

A build starts from the snapshot of it, so that buildah and the modules are in the page cache.
"""

import signal
import subprocess  # noqa: TID251  it runs in the builder's microVM
from typing import Final

import emberkeep_builder.main  # noqa: F401  read and compiled now, not in every build

_TOOLS: Final = (("buildah", "--version"), ("mkfs.erofs", "--help"))


def main() -> None:
    """Let the tools of a build be read and linked once; end when the microVM does."""
    for argv in _TOOLS:
        subprocess.run(argv, check=False, capture_output=True)  # noqa: S603  as written above
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the first process: what is left over is reaped
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
