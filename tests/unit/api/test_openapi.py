"""The description that the API gives of itself."""

import json
from pathlib import Path

from emberkeep.api import openapi
from emberkeep.api.app import OPERATIONS, SOCKETS

DOCS = Path(__file__).parents[3] / "docs" / "api.md"


def test_every_operation_is_described():
    described = openapi.document(OPERATIONS, "1.2.3")
    found = {
        (method.upper(), path) for path, methods in described["paths"].items() for method in methods
    }

    assert found == {(op.method, op.path) for op in OPERATIONS}
    assert (described["openapi"], described["info"]["version"]) == ("3.1.0", "1.2.3")


def test_every_reference_leads_somewhere():
    described = openapi.document(OPERATIONS, "1")
    text = json.dumps(described)
    named = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}

    assert named
    assert named <= set(described["components"]["schemas"])


def test_operations_have_names_and_words_of_their_own():
    described = openapi.document(OPERATIONS, "1")
    all_of_them = [one for methods in described["paths"].values() for one in methods.values()]
    ids = [one["operationId"] for one in all_of_them]

    assert len(set(ids)) == len(ids)
    assert all(one["summary"].endswith(".") for one in all_of_them)


def test_parameters_and_bodies_are_described():
    paths = openapi.document(OPERATIONS, "1")["paths"]
    launch = paths["/v1/microvms"]["post"]
    read = paths["/v1/microvms/{ref}/files"]["get"]

    assert launch["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Launch"
    }
    assert list(launch["responses"]) == ["201", "default"]
    assert [(one["name"], one["in"], one["required"]) for one in read["parameters"]] == [
        ("ref", "path", True),
        ("path", "query", True),
        ("offset", "query", False),
        ("length", "query", False),
    ]
    assert list(paths["/v1/microvms/{ref}/signal"]["post"]["responses"]) == ["204", "default"]


def test_every_operation_is_in_the_documentation():
    text = DOCS.read_text()
    for op in OPERATIONS:
        assert f"`{op.method} {op.path.replace('/v1/microvms/{ref}', '…')}" in text, op.path
    for socket in SOCKETS:
        assert f"`{socket.path}`" in text
