"""What configuration may say about the making of images."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactSettings:
    """Section `[images]`."""

    extra_ca_file: Path | None = None  # PEM: certificates that base images shall trust as well
    mirror: str | None = None  # of Debian; None: http://deb.debian.org/debian
    from_: dict[str, str] = field(default_factory=dict)  # names in FROM -> what to take instead
