"""All that is known of an operation before anybody asks for it: how to read it, how to answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from emberkeep.aws.errors import unreadable
from emberkeep.aws.models import CORE, MICROVMS, Model, Operation, load
from emberkeep.aws.reading import Reader, Readers
from emberkeep.aws.routes import Labels, decoded
from emberkeep.aws.violations import Violations
from emberkeep.aws.writing import Writer, Writers

RUNTIMES: Final = "2026-10-01"  # operations of lambda-core that are known and not had
_NUMBERS: Final = frozenset({"integer", "long"})

Query = dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One operation, ready to be asked for."""

    operation: Operation
    model: Model
    reader: Reader
    writer: Writer | None  # None: an answer has no body
    body: frozenset[str]  # the members of it, as they are written
    query: Mapping[str, tuple[str, Callable[[list[str]], Any]]]

    def read(self, labels: Labels, query: str, body: bytes) -> dict[str, Any]:
        """Return the input by the names of the model; raise `AwsError` for one that is wrong."""
        given: dict[str, Any] = {}
        if body:
            document = _document(body)
            given = {key: document[key] for key in self.body & document.keys()}
        if query:
            for name, values in _parsed(query).items():
                if name in self.query:
                    wire, convert = self.query[name]
                    given[wire] = convert(values)
        given.update(labels)
        wrong = Violations()
        found: dict[str, Any] = self.reader(given, "", wrong)
        if wrong:
            raise wrong.error()
        return found

    def written(self, output: Mapping[str, Any]) -> bytes:
        """Return the body of a success."""
        return b"" if self.writer is None else msgspec.json.encode(self.writer(output))


def plans() -> dict[str, Plan]:
    """Return a plan for every operation that can be had, by name."""
    return {
        name: plan
        for service in (MICROVMS, CORE)
        for name, plan in _of_service(load(service)).items()
    }


def _of_service(model: Model) -> dict[str, Plan]:
    readers, writers = Readers(model), Writers(model)
    return {
        one.name: _plan(model, one, readers, writers)
        for one in model.operations.values()
        if one.segments[0] != RUNTIMES
    }


def _plan(model: Model, operation: Operation, readers: Readers, writers: Writers) -> Plan:
    shape = model.shapes[operation.input]
    members = shape.members.values()
    return Plan(
        operation=operation,
        model=model,
        reader=readers.structure(shape, tuple(members)),
        writer=writers.of(operation.output) if operation.output else None,
        body=frozenset(one.wire for one in members if one.location == "body"),
        query={
            one.wire: (one.wire, _from_query(model.shapes[one.shape].kind))
            for one in members
            if one.location == "querystring"
        },
    )


def _from_query(kind: str) -> Callable[[list[str]], Any]:
    if kind == "list":
        return lambda values: values
    if kind in _NUMBERS:
        return lambda values: _number(values[0])
    return lambda values: values[0]


def _number(text: str) -> int | str:
    """Return the number that `text` says, or `text` itself for the reader to refuse."""
    digits = text.removeprefix("-")
    is_number = digits.isascii() and digits.isdecimal() and len(digits) <= 20  # noqa: PLR2004
    return int(text) if is_number else text


def _parsed(query: str) -> Query:
    found: Query = {}
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            key = decoded(name.replace("+", " "))
            found.setdefault(key, []).append(decoded(value.replace("+", " ")))
    return found


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise unreadable("the body is not a JSON object")
    return document
