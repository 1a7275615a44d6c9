"""The builder's root: buildah, mkfs.erofs, Python and what runs them; unpacked, not installed."""

import re
import shutil
import ssl
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from emberkeep.artifacts import agent, debs, erofs
from emberkeep.artifacts.command import Commands
from emberkeep.artifacts.finish import certificates
from emberkeep.artifacts.workshop import Bench

NAME: Final = "builder"  # not below "image/": nobody launches from it
PACKAGES: Final = ("buildah", "ca-certificates", "erofs-utils", "python3")

# of the dependencies only these are needed: images are neither signed nor pushed here, and the
# kernel's own calls mount, freeze and trim
NEEDED: Final = re.compile(
    r"buildah|ca-certificates|erofs-utils|python3|python3-minimal|python3\.\d+(-minimal)?"
    r"|libpython3\.\d+-(minimal|stdlib)|golang-github-containers-(common|image)"
    r"|libc6|libgcc-s1|libgpgme11|libassuan0|libgpg-error0|libdevmapper1\.02\.1|libudev1"
    r"|libselinux1|libpcre2-8-0|libseccomp2|libsubid4|libcap2|zlib1g|liblz4-1|libuuid1|libzstd1"
    r"|liblzma5|libbz2-1\.0|libexpat1|libffi8|libssl3|libcrypt1|libmd0"
)
_SHARED: Final = ("usr/share/ca-certificates/mozilla/", "usr/share/containers/")
DROPPED: Final = tuple(it for it in agent.DROPPED if it not in {"usr/share/", "usr/sbin/", "etc/"})
_MOUNT_POINTS: Final = (
    "proc", "sys", "dev", "run", "tmp", "etc", "root", "var/tmp", "var/lib", "work", "bases",
)  # fmt: skip
_BUNDLE: Final = "etc/ssl/certs/ca-certificates.crt"
_FILES: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/hostname": "builder\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
    "etc/resolv.conf": "",
    "etc/machine-id": "",
    "etc/containers/policy.json": '{"default": [{"type": "insecureAcceptAnything"}]}\n',
}


def needed(identities: Sequence[str]) -> list[str]:
    """Return those packages ("name=version") that the builder's root is made of."""
    return [it for it in identities if NEEDED.fullmatch(it.partition("=")[0])]


def keep(path: str) -> bool:
    """Whether a file of those packages belongs into the builder's root."""
    if path.startswith("usr/share/"):
        return path.startswith(_SHARED)
    return not path.startswith(DROPPED) and not path.endswith((".a", ".pyc"))


def unpack_base(commands: Commands, files: Sequence[Path], root: Path) -> None:
    """Unpack `files` to `root` and compile what Python's library has."""
    debs.unpack(commands, files, root, keep=keep)
    for name in _MOUNT_POINTS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, text in _FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).unlink(missing_ok=True)
        (root / name).write_text(text)
    (root / agent.PACKAGE_PLACE).mkdir(parents=True, exist_ok=True)
    agent.compile_tree(commands, root, agent.PYTHON)


def make(bench: Bench, base: Path, inside: Path, *, extra: Path | None, inputs: str) -> Path:
    """Make the builder's root from the `base` (a tar) and the package `inside`."""
    commands = bench.commands
    root, image = bench.scratch / "root", bench.scratch / "builder.erofs"
    with tarfile.open(base) as tar:
        tar.extractall(root)  # noqa: S202  written by agent.pack_base, its digest is checked
    place = root / agent.PACKAGE_PLACE / inside.name
    shutil.copytree(inside, place, ignore=shutil.ignore_patterns("__pycache__"))
    agent.compile_tree(commands, root, f"{agent.PACKAGE_PLACE}/{inside.name}")
    _trust(root, extra)
    erofs.make(commands, image, root, inputs=inputs)
    return image


def _trust(root: Path, extra: Path | None) -> None:
    """Write the bundle that buildah trusts: Mozilla's certificates, and those of `extra`."""
    files = sorted((root / _SHARED[0]).glob("*.crt"))
    texts = [file.read_text("ascii") for file in files]
    if extra is not None:
        texts.append(extra.read_text("utf-8", errors="replace"))
    found = dict.fromkeys(der for text in texts for der in certificates(text))
    bundle = root / _BUNDLE
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(ssl.DER_cert_to_PEM_cert(der) for der in found), "ascii")
