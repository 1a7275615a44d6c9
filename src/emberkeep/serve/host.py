"""What this host runs VMs with: QEMU, its version, the accelerator, and the parts of a VM."""

import hashlib
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Final

from emberkeep.artifacts.artifacts import Artifact, Artifacts
from emberkeep.base import proc
from emberkeep.domain.errors import Unavailable
from emberkeep.node.berths import Parts
from emberkeep.vmm.settings import VmmSettings
from emberkeep.vmm.shape import version_of

LEAST_QEMU: Final = (8, 2)
_VERSION: Final = re.compile(r"version (\d+\.\d+\.\d+)")
_IMAGES: Final = "image/"
_HOST_CPU: Final = ("vendor_id", "cpu family", "model", "stepping", "flags")


def qemu_binary(settings: VmmSettings) -> tuple[Path, str]:
    """Find QEMU and its version; raise `Unavailable` where it is missing or too old."""
    found = shutil.which(settings.qemu)
    if found is None:
        raise Unavailable(
            f"QEMU is not installed: there is no {settings.qemu!r}",
            hint="run: make setup — or name it in emberkeep.toml: vmm.qemu",
        )
    binary = Path(found).absolute()
    try:
        result = proc.run([os.fspath(binary), "--version"], timeout=30)
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"{binary} cannot be run: {error}", hint="check vmm.qemu") from error
    match = _VERSION.search(result.stdout)
    if not result.ok or match is None:
        raise Unavailable(
            f"{binary} does not tell its version: {(result.stderr or result.stdout).strip()[:200]}",
            hint="check vmm.qemu",
        )
    if version_of(match[1]) < LEAST_QEMU:
        raise Unavailable(
            f"QEMU {match[1]} ({binary}) is too old: 8.2 or later is needed",
            hint="run: make setup (on Debian 12 it takes QEMU from bookworm-backports)",
        )
    return binary, match[1]


def visible_to(binary: Path) -> tuple[Path, ...]:
    """Return the folders a QEMU outside /usr needs: its own, or the prefix of its installation."""
    real = binary.resolve()
    folders = {_installation(path) for path in (real, binary) if not path.is_relative_to("/usr")}
    return tuple(sorted(folders))


def _installation(binary: Path) -> Path:
    """Return the folder that must be seen for `binary` to run, and never the whole host."""
    prefix, root = binary.parent.parent, Path("/")
    if prefix != root and (prefix / "share" / "qemu").is_dir():
        return prefix
    if binary.parent == root or not binary.parent.stat().st_mode & stat.S_IXOTH:
        return binary  # alone: of a private folder the VMM's user could reach nothing
    return binary.parent


def host_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return a word that differs where `-cpu host` would show the guest another CPU."""
    facts: dict[str, str] = {}
    for line in cpuinfo.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    text = "\n".join(facts.get(name, "") for name in _HOST_CPU)
    return f"{facts.get('model name', 'CPU')} #{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def parts(artifacts: Artifacts, settings: VmmSettings) -> Parts:
    """Gather what VMs are made of; raise `Unavailable` where setup has not been run."""
    images = {
        name.removeprefix(_IMAGES): artifacts.get(name)
        for name in artifacts.names()
        if name.startswith(_IMAGES)
    }
    return Parts(
        kernel=_own_or_ours("kernel", settings.kernel, artifacts),
        initramfs=_own_or_ours("initramfs", settings.initramfs, artifacts),
        agent=artifacts.get("agent"),
        images=images,
        blobs=artifacts.blobs,
    )


def _own_or_ours(name: str, own: Path | None, artifacts: Artifacts) -> Artifact:
    if own is None:
        return artifacts.get(name)
    try:
        with own.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unavailable(
            f"vmm.{name} cannot be read: {own} ({error.strerror})", hint="check emberkeep.toml"
        ) from error
    return Artifact(name=name, path=own, digest=digest)
