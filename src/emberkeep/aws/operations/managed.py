"""The base images that everybody has: the operations of spec §2.13."""

from typing import Any

from emberkeep.aws.call import Call
from emberkeep.aws.errors import not_found
from emberkeep.aws.operations.identifiers import managed_name
from emberkeep.control import texts
from emberkeep.control.managed import MANAGED, managed


async def list_images(call: Call) -> dict[str, Any]:
    """ListManagedMicrovmImages."""
    page, token = call.page(sorted(MANAGED.values(), key=_name, reverse=True), _name)
    items = [
        {
            "imageArn": call.caller.base_arn(one.name),
            "createdAt": one.created_at,
            "updatedAt": one.updated_at,
        }
        for one in page
    ]
    return {"items": items, "nextToken": token}


async def list_versions(call: Call) -> dict[str, Any]:
    """ListManagedMicrovmImageVersions: newest first, as bare numbers (spec §1.3)."""
    text = call.input["imageIdentifier"]
    name = managed_name(text)
    if name is None:
        raise not_found(texts.no_image(text))
    page, token = call.page(managed(call.caller, name).versions, lambda one: one[0])
    items = [
        {
            "imageArn": call.caller.base_arn(name),
            "imageVersion": str(number),
            "status": "AVAILABLE",
            "supportedCpuConfigurations": [{"architecture": call.context.architecture}],
            "createdAt": at,
            "updatedAt": at,
        }
        for number, at in page
    ]
    return {"items": items, "nextToken": token}


def _name(one: Any) -> str:  # noqa: ANN401
    return str(one.name)
