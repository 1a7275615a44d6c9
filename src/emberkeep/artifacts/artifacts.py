"""What microVMs are made of, as the rest of the server asks for it."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberkeep.artifacts.blobs import Blobs, checked
from emberkeep.artifacts.events import Progress
from emberkeep.artifacts.settings import ArtifactSettings
from emberkeep.base.aio import in_thread
from emberkeep.domain.errors import Corrupt, NotFound, Unavailable

ALL: Final = ("kernel", "initramfs", "agent", "image/debian-12", "builder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file that is what it is called, and never changes."""

    name: str
    path: Path
    digest: str


class Artifacts:
    """The artifacts of one data directory (its folder `artifacts`)."""

    def __init__(self, root: Path) -> None:
        self._blobs = Blobs(root)

    @property
    def blobs(self) -> Path:
        """The folder of all files by digest, those of earlier artifacts too."""
        return self._blobs.root / "blobs"

    def get(self, name: str) -> Artifact:
        """Return an artifact; `Unavailable` if there is none, `Corrupt` if its size is wrong."""
        entry = self._blobs.index().get(name)
        if entry is None:
            raise Unavailable(f"there is no {name} yet", hint="run: emberkeep setup")
        path = checked(name, entry, self._blobs.path(entry.digest))
        return Artifact(name=name, path=path, digest=entry.digest)

    def verify(self, name: str) -> Artifact:
        """Return an artifact whose every byte was checked, or raise `Corrupt`."""
        artifact = self.get(name)
        entry = self._blobs.index()[name]
        if not self._blobs.intact(entry, thorough=True):
            raise Corrupt(
                f"the artifact {name} is damaged ({artifact.path})",
                hint="repair it: emberkeep setup",
            )
        return artifact

    def find(self, digest: str) -> Path:
        """Return the file with this digest, an earlier artifact's too; else `NotFound`."""
        path = self._blobs.path(digest)
        if "/" in digest or not path.is_file():
            raise NotFound(
                f"an artifact that is needed is no longer here (digest {digest[:16]}…)",
                hint="put the earlier data back, or make the image's snapshot again",
            )
        return path

    def keep(self, file: Path) -> str:
        """Take over a finished file of the same file system for good; return its digest."""
        return self._blobs.add(file)[0]

    def names(self) -> tuple[str, ...]:
        """Return the names of what is there."""
        return tuple(name for name in self._blobs.index() if not name.startswith("part/"))

    async def build(
        self,
        wanted: Collection[str],
        progress: Progress,
        settings: ArtifactSettings,
        *,
        fresh: bool = False,
    ) -> None:
        """Make what is not there or damaged; with `fresh`, all of it, from the newest packages."""
        # the makers are many modules, and every command of the CLI would load them with this one
        from emberkeep.artifacts.setup import setup  # noqa: PLC0415

        await setup(self._blobs, wanted, progress, settings, fresh=fresh)

    async def verify_all(self) -> dict[str, str]:
        """Return what is wrong with each artifact that is there; "" where nothing is."""
        return {name: await in_thread(self._fault, name) for name in self.names()}

    def _fault(self, name: str) -> str:
        try:
            self.verify(name)
        except Corrupt as error:
            return error.message
        return ""


def wanted(*, kernel: Path | None, initramfs: Path | None) -> tuple[str, ...]:
    """Return what setup must make where configuration brings its own kernel or initramfs."""
    own = {"kernel": kernel, "initramfs": initramfs}
    return tuple(name for name in ALL if own.get(name) is None)
