"""Where the server is and how to be let in: arguments, variables, then the credentials file."""

import configparser
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from emberkeep_sdk._errors import Invalid

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:9700"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """An endpoint without a trailing slash, and "access_key_id.secret" if there is one."""

    endpoint: str
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Invalid(
                f"not an endpoint: {self.endpoint!r}", hint=f"write it as {DEFAULT_ENDPOINT}"
            )

    @property
    def loopback(self) -> bool:
        """Whether the server is on this machine; then no proxy is asked."""
        return _is_loopback(self.endpoint)

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    @property
    def websocket(self) -> str:
        """The endpoint for streams."""
        return "ws" + self.endpoint.removeprefix("http")


def find_access(
    endpoint: str | None = None,
    api_key: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Access:
    """Put together what arguments, EMBERKEEP_* variables and the credentials file say.

    The key of the file is for the server it was written by: it is not sent to another host.
    """
    variables = os.environ if environ is None else environ  # noqa: TID251  this is the SDK's one place
    filed = _read_file(credentials_path(variables))
    chosen = endpoint or variables.get("EMBERKEEP_ENDPOINT") or filed.endpoint
    chosen = chosen.rstrip("/")
    key = api_key or variables.get("EMBERKEEP_API_KEY")
    if not key and (chosen == filed.endpoint or _is_loopback(chosen)):
        key = filed.api_key
    return Access(endpoint=chosen, api_key=key or None)


def credentials_path(environ: Mapping[str, str]) -> Path:
    """Return where the server leaves the credentials of the user who ran it."""
    home = environ.get("HOME") or str(Path.home())
    return Path(home) / ".config" / "emberkeep" / "credentials"


def _read_file(path: Path) -> Access:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except OSError:
        return Access(endpoint=DEFAULT_ENDPOINT)
    except (configparser.Error, UnicodeDecodeError) as wrong:
        raise Invalid(
            f"cannot read the credentials in {path}: {wrong}",
            hint="mend or remove the file; a starting server writes it anew",
        ) from wrong
    section = parser["default"] if parser.has_section("default") else {}
    key_id, secret = section.get("aws_access_key_id"), section.get("aws_secret_access_key")
    return Access(
        endpoint=section.get("endpoint_url", DEFAULT_ENDPOINT).rstrip("/"),
        api_key=f"{key_id}.{secret}" if key_id and secret else None,
    )


def _is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
