"""For developers: `python -m emberkeep.artifacts FOLDER [NAME ...]` makes artifacts and links them.

After a change of the agent or of init.sh, `python -m emberkeep.artifacts FOLDER agent initramfs`
takes a second or two: what comes from packages is kept.
"""

import asyncio
import sys
from pathlib import Path

from emberkeep.artifacts import ALL, Artifacts, ArtifactSettings, Event
from emberkeep.domain.errors import EmberkeepError


def main() -> int:
    """Make the artifacts named on the command line; leave links to them in the folder."""
    folder, *names = sys.argv[1:]
    artifacts = Artifacts(Path(folder) / "artifacts")
    try:
        asyncio.run(artifacts.build(names or ALL, _print, ArtifactSettings()))
    except EmberkeepError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
        return 1
    for name in names or ALL:
        link = Path(folder) / name.replace("/", "-")
        link.unlink(missing_ok=True)
        link.symlink_to(artifacts.get(name).path)
    return 0


def _print(event: Event) -> None:
    done = "" if event.fraction is None else f" {event.fraction:.0%}"
    sys.stdout.write(
        f"{event.elapsed_s:7.1f} s  {event.step}: {event.phase} {event.detail}{done}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
