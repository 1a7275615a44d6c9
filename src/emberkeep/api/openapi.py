"""The OpenAPI document, made from the table of operations."""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from emberkeep.api.errors import ErrorBody
from emberkeep.api.guard import OPEN
from emberkeep.api.operations import Operation

_MICROVM: Final = (
    "an id, a unique beginning of one (4 digits at least), or the name of a live microVM"
)
_REFERENCE: Final = "#/components/schemas/{name}"


def document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """Return the document that describes `operations`."""
    bodies = [one for op in operations for one in (op.body, op.reply) if one is not None]
    kinds = dict.fromkeys([*bodies, ErrorBody])
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for op in operations:
        paths.setdefault(op.path, {})[op.method.lower()] = _described(op, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Emberkeep",
            "version": version,
            "description": "MicroVMs that are launched, suspended and resumed. Commands"
            " (/v1/microvms/{ref}/exec) and ports (/v1/microvms/{ref}/ports/{port}) are"
            " WebSockets, described in docs/api.md.",
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "ACCESS_KEY_ID.SECRET_ACCESS_KEY",
                }
            },
        },
    }


def _described(op: Operation, schema_of: dict[type, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": f"{op.act.__module__.rpartition('.')[2]}_{op.act.__name__}",
        "summary": (op.act.__doc__ or "").strip().partition("\n")[0],
        "parameters": [*_path_parameters(op), *_query_parameters(op)],
        "responses": {
            str(op.status if op.reply or op.gives else _empty(op)): _answered(op, schema_of),
            "default": {
                "description": "an error",
                "content": {"application/json": {"schema": schema_of[ErrorBody]}},
            },
        },
    }
    if op.body or op.takes:
        schema: dict[str, Any] = schema_of[op.body] if op.body else {}
        media = op.takes or "application/json"
        found["requestBody"] = {"required": True, "content": {media: {"schema": schema}}}
    if op.path in OPEN:
        found["security"] = []
    return found


def _empty(op: Operation) -> int:
    return 204 if op.status == 200 else op.status  # noqa: PLR2004  the default


def _answered(op: Operation, schema_of: dict[type, dict[str, Any]]) -> dict[str, Any]:
    if op.gives:
        return {"description": "the content", "content": {op.gives: {"schema": {}}}}
    if op.reply:
        media = {"application/json": {"schema": schema_of[op.reply]}}
        return {"description": "done", "content": media}
    return {"description": "done"}


def _path_parameters(op: Operation) -> list[dict[str, Any]]:
    refs = "the name of an image" if op.path.startswith("/v1/images/") else _MICROVM
    about = {"ref": refs, "version": "its number", "build": "an id", "digest": "its SHA-256",
             "key": "an id"}  # fmt: skip
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": about[name],
            "schema": {"type": "string"},
        }
        for name in re.findall(r"{(\w+)}", op.path)
    ]


def _query_parameters(op: Operation) -> list[dict[str, Any]]:
    if op.query is None:
        return []
    (_, components) = msgspec.json.schema_components([op.query])
    schema = components[op.query.__name__]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": kind}
        for name, kind in schema["properties"].items()
    ]
