"""Answers as AWS gives them: body, and the headers that clients look for."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from emberkeep.aws.errors import STATUSES, AwsError
from emberkeep.aws.models import CORE, Model

Headers = list[tuple[bytes, bytes]]
_JSON: Final = b"application/json"
_SPELLINGS: Final = ("message", "Message")


def headers(request_id: str, body: bytes, *, error: str | None = None) -> Headers:
    """Return the headers of an answer; one without a body has no type either."""
    found = [
        (b"x-amzn-requestid", request_id.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    if body:
        found.append((b"content-type", _JSON))
    if error is not None:
        found.append((b"x-amzn-errortype", error.encode("latin-1", "replace")))
    return found


def failure(error: AwsError, model: Model, request_id: str) -> tuple[int, Headers, bytes]:
    """Return status, headers and body of an answer that is not a success."""
    shape = model.error(error.type)
    status = error.status or (shape.status if shape else None) or STATUSES.get(error.type, 400)
    body = msgspec.json.encode(_members(error, model))
    found = headers(request_id, body, error=error.type)
    if error.retry_after is not None:
        found.append((b"retry-after", str(error.retry_after).encode()))
    return status, found, body


def _members(error: AwsError, model: Model) -> Mapping[str, Any]:
    shape = model.error(error.type)
    known = [one for one in shape.members.values() if one.location == "body"] if shape else []
    names = [one.wire for one in known]
    said = dict(error.members)
    if not any(one in said for one in _SPELLINGS):
        said = {next((one for one in names if one in _SPELLINGS), "message"): error.message, **said}
    if model.name == CORE:
        return {"Type": "User", **said} if "Type" in names and status_is_users(shape) else said
    return said | {name: None for name in names if name not in said}


def status_is_users(shape: Any) -> bool:  # noqa: ANN401
    """Tell whether a failure is the client's."""
    return bool(shape and shape.status and shape.status < 500)  # noqa: PLR2004
