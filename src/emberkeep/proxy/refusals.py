"""The answers that are the proxy's own (spec §7.6): plain text, never cached."""

from dataclasses import dataclass
from typing import Final

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that does not reach the application, and what its client is told."""

    status: int
    text: str = ""

    def headers(self, request_id: bytes) -> Headers:
        """Return the headers that go with it."""
        return [
            (b"content-type", b"text/plain"),
            (b"content-length", str(len(self.body)).encode()),
            (b"cache-control", b"private, no-store"),
            (b"x-amzn-requestid", request_id),
        ]

    @property
    def body(self) -> bytes:
        """The text as it is sent."""
        return self.text.encode("utf-8", "replace")


class Refused(Exception):
    """A request ends here, with `refusal` for an answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


MISSING: Final = Refusal(403, "Request missing authentication")
FAILED: Final = Refusal(403, "Token authentication failed")
PORT_DENIED: Final = Refusal(403, "Access to port denied")
BAD_REQUEST: Final = Refusal(400, "Bad request")
TOO_SLOW: Final = Refusal(408, "Request timeout")
ELSEWHERE: Final = Refusal(421, "Misdirected request")
HEADER_TOO_LARGE: Final = Refusal(431, "Request header fields too large")
TOO_MANY: Final = Refusal(429, "Too many requests")
NO_ANSWER: Final = Refusal(502)
INTERNAL: Final = Refusal(500, "Internal server error")


def bad_port(given: str) -> Refusal:
    """Return the answer to a port that is none."""
    shown = "".join(c if c.isprintable() and c.isascii() else "?" for c in given[:40])
    return Refusal(400, f"Invalid x-aws-proxy-port: {shown}")
