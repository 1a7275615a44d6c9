"""The fields of a request, each checked as it is taken."""

import math
from typing import Any

from emberkeep_guest.errors import OperationFailed

_PATH_MAX = 4096


class Request:
    """One request; a field of another type than the operation wants is the caller's mistake."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields
        self.op = self.text("op")

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._fields.get(name) is not None

    def text(self, name: str, default: str | None = None) -> str:
        """Return a string without zero bytes."""
        value = self._fields.get(name)
        if value is None and default is not None:
            return default
        return _text(name, value)

    def path(self, name: str = "path") -> str:
        """Return an absolute path."""
        value = self.text(name)
        if not value.startswith("/") or len(value) > _PATH_MAX:
            raise OperationFailed("invalid", f"{name}: not an absolute path: {value[:200]!r}")
        return value

    def integer(
        self, name: str, default: int | None = None, *, least: int = 0, most: int = 2**63 - 1
    ) -> int:
        """Return an integer between `least` and `most`."""
        value = self._fields.get(name)
        if value is None:
            value = default
        if type(value) is not int or not least <= value <= most:
            raise OperationFailed("invalid", f"{name}: not an integer in {least}..{most}")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean, false when it is absent."""
        value = self._fields.get(name, False)
        if not isinstance(value, bool):
            raise OperationFailed("invalid", f"{name}: not true or false")
        return value

    def seconds(self, name: str) -> float | None:
        """Return a positive number of seconds, or None."""
        value = self._fields.get(name)
        if value is None:
            return None
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise OperationFailed("invalid", f"{name}: not a positive number of seconds")
        return float(value)

    def texts(self, name: str) -> list[str]:
        """Return a list of strings."""
        value = self._fields.get(name)
        if not isinstance(value, list):
            raise OperationFailed("invalid", f"{name}: not a list")
        return [_text(name, item) for item in value]

    def environment(self, name: str) -> dict[str, str]:
        """Return a mapping of variables, empty when it is absent."""
        value = self.fields(name) if self.has(name) else {}
        for key, item in value.items():
            if not _text(name, key) or "=" in key:
                raise OperationFailed("invalid", f"{name}: {key!r} cannot be a variable")
            _text(name, item)
        return value

    def fields(self, name: str) -> dict[str, Any]:
        """Return an object."""
        value = self._fields.get(name)
        if not isinstance(value, dict):
            raise OperationFailed("invalid", f"{name}: not an object")
        return value

    def within(self, name: str) -> "Request":
        """Return the object in a field as a request of its own."""
        return Request({**self.fields(name), "op": self.op})


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise OperationFailed("invalid", f"{name}: not a string (without zero bytes)")
    return value
