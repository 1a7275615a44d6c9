"""Versions of images: the operations of spec §2.11 and §2.12."""

from datetime import UTC, datetime
from typing import Any

from emberkeep.aws.call import Call
from emberkeep.aws.operations.identifiers import image_name, version_number
from emberkeep.aws.operations.recipes import members
from emberkeep.control import texts
from emberkeep.domain.images import Version, VersionStatus


async def get(call: Call) -> dict[str, Any]:
    """GetMicrovmImageVersion."""
    name, number = image_name(call), version_number(call)
    return _shown(call, name, await call.images.version(call.caller, name, number))


async def list_(call: Call) -> dict[str, Any]:
    """ListMicrovmImageVersions: newest first."""
    name = image_name(call)
    page = await call.images.versions(call.caller, name, after=call.position(), limit=call.most())
    return {
        "items": [_shown(call, name, version) for version in page.items],
        "nextToken": call.token(page.after) if page.after is not None else None,
    }


async def update(call: Call) -> dict[str, Any]:
    """UpdateMicrovmImageVersion: whether new microVMs may be launched from it."""
    name, number = image_name(call), version_number(call)
    version = await call.images.set_status(
        call.caller, name, number, VersionStatus(call.input["status"])
    )
    return _shown(call, name, version)


async def delete(call: Call) -> dict[str, Any]:
    """DeleteMicrovmImageVersion."""
    name, number = image_name(call), version_number(call)
    version = await call.images.delete_version(call.caller, name, number)
    return {
        "imageIdentifier": call.caller.arn(name),
        "imageVersion": texts.number(version.number),
        "state": version.state,
    }


def _shown(call: Call, name: str, version: Version) -> dict[str, Any]:
    hour = datetime.fromtimestamp(version.updated_at, UTC).strftime("%y%m%d%H")
    return {
        **members(call, version.recipe),
        "imageArn": call.caller.arn(name),
        "imageVersion": texts.number(version.number),
        "state": version.state,
        "status": version.status,
        "stateReason": version.reason,
        "createdAt": version.created_at,
        "updatedAt": version.updated_at,
        "versionStateTimeBucket": f"{version.state}#{hour}",
    }
