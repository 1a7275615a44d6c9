"""Images, versions and builds as rows of their tables, and back."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, RowMapping, Table, and_

from emberkeep.domain.images import (
    Build,
    BuildState,
    FailureCode,
    Image,
    ImageState,
    Root,
    Sizes,
    Version,
    VersionState,
    VersionStatus,
)
from emberkeep.domain.records import Record, Token, recipe_of, recipe_text
from emberkeep.store.schema import builds, image_versions, images

Row = Mapping[str, Any] | RowMapping
TABLES: Final[Mapping[type[Record], Table]] = {
    Image: images,
    Version: image_versions,
    Build: builds,
}


def same(record: Record) -> ColumnElement[bool]:
    """Return the condition that a row is the one of `record`, in whatever state."""
    if isinstance(record, Version):
        columns = image_versions.c
        return and_(columns.image_id == record.image_id, columns.number == record.number)
    return TABLES[type(record)].c.id == record.id


def row_of(record: Record) -> dict[str, Any]:
    """Return the columns of `record`: texts, numbers, and JSON for what is more."""
    plain = {one.name: getattr(record, one.name) for one in fields(record)}
    if isinstance(record, Image):
        return plain | {"tags": _json(dict(record.tags))}
    if isinstance(record, Version):
        return plain | {"recipe": recipe_text(record.recipe), "root": _json(record.root)}
    return plain | {"sizes": _json(record.sizes)}


def image_of(row: Row) -> Image:
    """Read a row of `images`."""
    tags = msgspec.json.decode(row["tags"])
    return Image(**{**row, "state": ImageState(row["state"]), "tags": tags})


def version_of(row: Row) -> Version:
    """Read a row of `image_versions`."""
    root = row["root"]
    values = {
        "recipe": recipe_of(row["recipe"]),
        "root": None if root is None else msgspec.json.decode(root, type=Root),
        "state": VersionState(row["state"]),
        "status": VersionStatus(row["status"]),
    }
    return Version(**{**row, **values})


def build_of(row: Row) -> Build:
    """Read a row of `builds`."""
    code, sizes = row["code"], row["sizes"]
    values = {
        "state": BuildState(row["state"]),
        "code": None if code is None else FailureCode(code),
        "sizes": None if sizes is None else msgspec.json.decode(sizes, type=Sizes),
    }
    return Build(**{**row, **values})


def token_row(token: Token) -> dict[str, Any]:
    """Return the columns of `token`; the answer is kept as it was given."""
    answer = {"image": row_of(token.image), "version": row_of(replace(token.version, root=None))}
    return {
        "account": token.account,
        "operation": token.operation,
        "token": token.token,
        "fingerprint": token.fingerprint,
        "image_id": token.image.id,
        "answer": msgspec.json.encode(answer).decode(),
        "at": token.at,
    }


def token_of(row: Row) -> Token:
    """Read a row of `image_tokens`."""
    answer = msgspec.json.decode(row["answer"])
    return Token(
        account=row["account"],
        operation=row["operation"],
        token=row["token"],
        fingerprint=row["fingerprint"],
        image=image_of(answer["image"]),
        version=version_of(answer["version"]),
        at=row["at"],
    )


def _json(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
