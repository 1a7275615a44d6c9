"""The console's files, read once, with the headers that keep a browser strict about them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

STATIC: Final = Path(__file__).parent / "static"
INDEX: Final = "index.html"

# Nothing inline, nothing from elsewhere, no frame around us, no form that is sent by itself.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A file as it is answered."""

    content: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read one."""
        content = path.read_bytes()
        return cls(
            content=content,
            media_type=_TYPES[path.suffix],
            etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        )


def pages(folder: Path = STATIC) -> Mapping[str, Page]:
    """Return every file that a browser may have, by its path below the console."""
    found = {
        path.relative_to(folder).as_posix(): Page.of(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix in _TYPES
    }
    return MappingProxyType({"": found[INDEX], **found})
