"""A request as it came: what the signature is about, and what the parsers read."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request with its whole body; nothing of it is decoded."""

    method: str
    path: str  # as sent: percent-encoded
    query: str  # as sent, without "?"
    headers: tuple[tuple[str, str], ...]  # names in small letters, in the order they came
    body: bytes
    client: str  # the peer's IP address
    request_id: str

    def header(self, name: str) -> str | None:
        """Return the first header of that name (small letters), or None."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who asks, and for which region."""

    account: str
    key_id: str
    region: str
