"""What is wrong with the values of a request, all of it in one message, as AWS words it."""

from collections.abc import Iterable
from typing import Any, Final

from emberkeep.aws.errors import AwsError, invalid

NOT_NULL: Final = "Member must not be null"
_SHOWN: Final = 1024  # characters of a value
_LISTED: Final = 100  # violations of one request


class Violations:
    """Collects what constraints are not met; paths are those of the wire with a small start."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def missing(self, path: str) -> None:
        """Note that a member is needed and absent."""
        self._note(f"Value null at '{path}' failed to satisfy constraint: {NOT_NULL}")

    def add(self, path: str, value: object, rule: str, *, sensitive: bool) -> None:
        """Note that `value` breaks `rule`; a sensitive one is not shown."""
        shown = "" if sensitive else f" '{_cut(render(value))}'"
        self._note(f"Value{shown} at '{path}' failed to satisfy constraint: {rule}")

    def _note(self, text: str) -> None:
        self._count += 1
        if self._count <= _LISTED:
            self._found.append(text)

    def error(self) -> AwsError:
        """Return the answer to a request that breaks rules."""
        plural = "" if self._count == 1 else "s"
        return invalid(f"{self._count} validation error{plural} detected: {'; '.join(self._found)}")


def render(value: object) -> str:
    """Return a value as Java prints it: "[a, b]", "{k=v}", "true"."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={render(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(render, value)) + "]"
    return str(value)


def in_order_of_hash(names: Iterable[str]) -> list[str]:
    """Return names as a small java.util.HashMap walks them: that is AWS's order of violations.

    Recorded for CreateMicrovmImage: baseImageArn, codeArtifact, buildRoleArn (spec §2.8), which is
    neither the model's order nor the alphabet's.
    """
    return sorted(names, key=_bucket)


def _bucket(name: str) -> int:
    number = 0
    for character in name:
        number = (31 * number + ord(character)) & 0xFFFFFFFF
    return (number ^ (number >> 16)) & 15


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def small(name: str) -> str:
    """Return the name of a member as paths of violations have it."""
    return name[:1].lower() + name[1:]


def at(path: str, name: Any) -> str:  # noqa: ANN401  a name or a place in a list
    """Return the path of what is inside `path`."""
    return f"{path}.{name}" if path else str(name)
