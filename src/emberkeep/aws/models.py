"""The service models of botocore, read once: which operations there are, and what shapes they have.

Only botocore's data is used, none of its code: importing that takes longer than our own start.
"""

import gzip
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import msgspec

MICROVMS: Final = "lambda-microvms"
CORE: Final = "lambda-core"
_VERSIONS: Final = {MICROVMS: "2025-09-09", CORE: "2026-04-30"}  # of the models we answer for
_FILE: Final = "service-2.json.gz"

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of a structure: where it stands in a request or an answer, and under which name."""

    name: str
    wire: str
    shape: str
    location: str  # "body", "uri", "querystring" or "header"
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A type of the model; what does not apply to its kind is empty."""

    name: str
    kind: str  # "structure", "list", "map", "string", "integer", "long", "boolean", "timestamp"
    members: Mapping[str, Member] = field(default_factory=dict)
    union: bool = False
    item: str = ""  # of a list
    key: str = ""  # of a map
    value: str = ""
    least: int | None = None  # a length, or a number
    most: int | None = None
    pattern: str | None = None
    words: tuple[str, ...] = ()  # of an enumeration
    sensitive: bool = False
    iso: bool = False  # a timestamp that is written as text
    status: int | None = None  # of an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a service can be asked for."""

    service: str
    name: str
    method: str
    segments: tuple[str, ...]  # of the path; a label stands in braces
    status: int  # of success
    input: str  # names of shapes; without an output there is no body
    output: str | None
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One service."""

    name: str
    operations: Mapping[str, Operation]
    shapes: Mapping[str, Shape]

    def error(self, name: str) -> Shape | None:
        """Return the shape of an error, or None for one of the protocol."""
        shape = self.shapes.get(name)
        return shape if shape is not None and shape.status is not None else None


@cache
def load(name: str) -> Model:
    """Return the model of `name`, read from botocore's data."""
    folder = importlib.resources.files("botocore") / "data" / name / _VERSIONS[name]
    raw = msgspec.json.decode(gzip.decompress((folder / _FILE).read_bytes()))
    return Model(
        name=name,
        operations={key: _operation(name, one) for key, one in raw["operations"].items()},
        shapes={key: _shape(key, one) for key, one in raw["shapes"].items()},
    )


def _operation(service: str, raw: Raw) -> Operation:
    http = raw["http"]
    return Operation(
        service=service,
        name=raw["name"],
        method=http["method"],
        segments=tuple(http["requestUri"].strip("/").split("/")),
        status=http.get("responseCode", 200),
        input=raw["input"]["shape"],
        output=raw["output"]["shape"] if "output" in raw else None,
        errors=tuple(one["shape"] for one in raw.get("errors", ())),
    )


def _shape(name: str, raw: Raw) -> Shape:
    required = frozenset(raw.get("required", ()))
    return Shape(
        name=name,
        kind=raw["type"],
        members={
            key: Member(
                name=key,
                wire=one.get("locationName", key),
                shape=one["shape"],
                location=one.get("location", "body"),
                required=key in required,
            )
            for key, one in raw.get("members", {}).items()
        },
        union=raw.get("union", False),
        item=raw.get("member", {}).get("shape", ""),
        key=raw.get("key", {}).get("shape", ""),
        value=raw.get("value", {}).get("shape", ""),
        least=raw.get("min"),
        most=raw.get("max"),
        pattern=raw.get("pattern"),
        words=tuple(raw.get("enum", ())),
        sensitive=raw.get("sensitive", False),
        iso=raw.get("timestampFormat") == "iso8601",
        status=raw.get("error", {}).get("httpStatusCode") if raw.get("exception") else None,
    )
