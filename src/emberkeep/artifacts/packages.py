"""Fetch Debian packages by a private apt: any Debian-like host, its state untouched, no root."""

import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from emberkeep.artifacts.command import Commands
from emberkeep.domain.errors import EmberkeepError, Unavailable

SUITE: Final = "bookworm"
DEFAULT_MIRROR: Final = "http://deb.debian.org/debian"
DEFAULT_SECURITY: Final = "http://deb.debian.org/debian-security"
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_HOST_SOURCES: Final = Path("/etc/apt")
_URI: Final = re.compile(r"https?://[^\s\]]+")
_PRINTED: Final = re.compile(r"'[^']+' (\S+\.deb) \d+")

_CONFIGURATION: Final = """\
Dir::State "{home}/state";
Dir::State::status "{home}/status";
Dir::Cache "{home}/cache";
Dir::Etc::sourcelist "{home}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Log "{home}/log";
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "1";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Where packages come from: the archive, and its security updates ("" where there are none)."""

    archive: str
    security: str

    @property
    def sources(self) -> tuple[str, ...]:
        """The lines of a sources.list."""
        signed = f"deb [signed-by={KEYRING}]"
        lines = [f"{signed} {self.archive} {suite} main" for suite in (SUITE, f"{SUITE}-updates")]
        if self.security:
            lines.append(f"{signed} {self.security} {SUITE}-security main")
        return tuple(lines)


def find_mirror(commands: Commands, configured: str, scratch: Path) -> Mirror:
    """Return the configured mirror, else the host's own, else Debian's, with security updates."""
    archive = configured.rstrip("/") or host_mirror() or DEFAULT_MIRROR
    for security in dict.fromkeys((f"{archive}-security", DEFAULT_SECURITY)):
        if _serves(commands, f"{security}/dists/{SUITE}-security/InRelease", scratch):
            return Mirror(archive=archive, security=security)
    return Mirror(archive=archive, security="")


def host_mirror(folder: Path = _HOST_SOURCES) -> str:
    """Return the first mirror of a Debian host's own sources; "" if the host is no Debian."""
    if platform.freedesktop_os_release().get("ID") != "debian":
        return ""
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    texts = [file.read_text(errors="replace") for file in files if file.is_file()]
    for line in "\n".join(texts).splitlines():
        if line.startswith(("deb ", "URIs:")):
            for uri in _URI.findall(line):
                if uri.rstrip("/").endswith("/debian"):
                    return str(uri).rstrip("/")
    return ""


def _serves(commands: Commands, url: str, scratch: Path) -> bool:
    target = scratch / "inrelease"
    try:
        commands.run(["/usr/lib/apt/apt-helper", "download-file", url, str(target)])
    except EmberkeepError:
        return False
    return True


class Packages:
    """Packages of the pinned suite, resolved as for an empty system."""

    def __init__(self, commands: Commands, home: Path, mirror: Mirror) -> None:
        self._commands = commands
        self._home = home
        self._mirror = mirror
        self._option = ("-c", str(home / "apt.conf"))

    def update(self) -> None:
        """Read the mirror's lists of packages, signatures checked."""
        if not KEYRING.exists():
            raise Unavailable(
                f"the keys of the Debian archive are not installed ({KEYRING})",
                hint="install debian-archive-keyring: make setup",
            )
        for folder in ("state/lists/partial", "cache/archives/partial", "log"):
            (self._home / folder).mkdir(parents=True, exist_ok=True)
        (self._home / "status").touch()
        (self._home / "sources.list").write_text("\n".join(self._mirror.sources) + "\n")
        (self._home / "apt.conf").write_text(_CONFIGURATION.format(home=self._home))
        self._commands.run(["apt-get", *self._option, "update", "--error-on=any", "-qq"])

    def closure(self, names: Sequence[str]) -> list[str]:
        """Return `names` and all they depend on as "name=version", sorted."""
        lines: list[str] = []
        install = ("install", "--print-uris", "-qq", "-y", *names)
        self._commands.run(["apt-get", *self._option, *install], line=lines.append)
        return sorted(_identity(file) for file in _PRINTED.findall("\n".join(lines)))

    def fetch(self, identities: Sequence[str], note: Callable[[str], None]) -> list[Path]:
        """Download these packages ("name=version") and return their files, checked by apt."""
        folder = self._home / "debs"
        folder.mkdir(exist_ok=True)
        self._commands.run(
            ["apt-get", *self._option, "-o", "Acquire::Retries=3", "download", *identities],
            cwd=folder,
            line=note,
        )
        files = {_identity(file.name): file for file in folder.glob("*.deb")}
        return [files[identity] for identity in identities]


def _identity(file: str) -> str:
    name, version, _ = unquote(file).split("_")
    return f"{name}={version}"
