"""The base image: a Debian 12 root file system with Python, small but what people expect of one."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from emberkeep.artifacts import erofs, rooms
from emberkeep.artifacts.command import Commands
from emberkeep.artifacts.packages import KEYRING, SUITE, Mirror
from emberkeep.artifacts.workshop import Bench

NAME: Final = "image/debian-12"
PACKAGES: Final = ("ca-certificates", "netbase", "python3", "python3-pip", "python3-venv")
FINISH: Final = Path(__file__).with_name("finish.py")
DPKG_OPTIONS: Final = (  # as in Debian's own slim images
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
)

_MERGED_USR: Final = Path("/usr/share/mmdebstrap/hooks/merged-usr")

# what mmdebstrap says, and how far it is then
_PHASES: Final[Mapping[str, float]] = {
    "running apt-get update": 0.02,
    "downloading packages with apt": 0.1,
    "extracting archives": 0.2,
    "installing essential packages": 0.3,
    "installing remaining packages": 0.5,
    "running --customize-hook": 0.8,
    "cleaning package lists": 0.9,
    "creating tarball": 0.92,
}
_HOOK: Final = re.compile(r"running --customize-hook.*")
_PROXY: Final = re.compile(r'^(Acquire::https?::Proxy(?:::\S+)? ".+");$', re.MULTILINE)


def mmdebstrap_argv(
    target: Path, mirror: Mirror, *, certificates: Path | None, apt_options: Sequence[str]
) -> list[str]:
    """Return the command that writes the file system to `target`, a tar."""
    uploads = {"/tmp/finish.py": FINISH}  # noqa: S108  in the new root, which is nobody's yet
    if certificates is not None:
        uploads["/tmp/extra.pem"] = certificates  # noqa: S108
    hooks = [f"upload {shlex.quote(str(file))} {place}" for place, file in uploads.items()]
    hooks.append('chroot "$1" python3 -I -B /tmp/finish.py')
    # without it the system is merged by a package that brings 50 MB of Perl
    merged = [f"--hook-dir={_MERGED_USR}"] if _MERGED_USR.is_dir() else []
    return [
        # without root, it is root of a user namespace that is made around it
        "mmdebstrap", "--mode=root", "--variant=minbase", "--architectures=amd64",
        "--format=tar", f"--keyring={KEYRING}",
        f"--include={','.join(PACKAGES)}",
        *(f"--dpkgopt={option}" for option in DPKG_OPTIONS),
        *(f"--aptopt={option}" for option in apt_options),
        *merged, *(f"--customize-hook={hook}" for hook in hooks),
        SUITE, str(target), *mirror.sources,
    ]  # fmt: skip


def make(bench: Bench, mirror: Mirror, *, certificates: Path | None, inputs: str) -> Path:
    """Make the image; needs root, or user namespaces with subordinate ids."""
    commands, scratch = bench.commands, bench.scratch
    tar, image = scratch / "image.tar", scratch / "image.erofs"

    def line(text: str) -> None:
        if text.startswith("I: ") and (done := phase(text)):
            bench.note(_HOOK.sub("finishing", text[3:]), done)

    room = scratch / "mmdebstrap"
    room.mkdir()
    proxies = host_proxies(commands)
    commands.run(
        rooms.contained(
            mmdebstrap_argv(tar, mirror, certificates=certificates, apt_options=proxies)
        ),
        env={"SOURCE_DATE_EPOCH": str(erofs.EPOCH), "TMPDIR": str(room)},
        line=line,
    )
    bench.note("packing", 0.95)
    _pack(commands, tar, image, inputs=inputs)
    return image


def phase(line: str) -> float | None:
    """Return how much is done when mmdebstrap says `line`; None where that says nothing."""
    return next((done for words, done in _PHASES.items() if words in line), None)


def host_proxies(commands: Commands) -> list[str]:
    """Return the proxies that this host's apt is configured with, as options for another apt."""
    return _PROXY.findall(commands.run(["apt-config", "dump"]))


def _pack(commands: Commands, tar: Path, image: Path, *, inputs: str) -> None:
    root = tar.with_suffix(".root")
    unpack = [
        "tar", "--extract", "--same-permissions", "--numeric-owner", "--xattrs",
        "--xattrs-include=*", "--exclude=./dev/*", f"--directory={root}", f"--file={tar}",
    ]  # fmt: skip
    mkfs = erofs.mkfs_argv(str(image), str(root), inputs=inputs, all_root=False)
    steps = (["mkdir", str(root)], unpack, mkfs, ["rm", "-rf", str(root)])
    commands.run(
        rooms.contained(["sh", "-ec", "\n".join(shlex.join(step) for step in steps)]),
        env={"SOURCE_DATE_EPOCH": str(erofs.EPOCH)},
    )
