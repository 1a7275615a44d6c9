"""The base images that everybody has (spec §2.13)."""

from typing import Any, Final

from emberkeep.aws import arns
from emberkeep.aws.call import Call

BASES: Final = ("al2023-1", "debian-12")
_SINCE: Final = 1781654400.0  # 2026-06-17: when AWS's own was first there


async def list_images(call: Call) -> dict[str, Any]:
    """ListManagedMicrovmImages."""
    items = [
        {
            "imageArn": arns.image(name, account=arns.AWS, region=call.region),
            "createdAt": _SINCE,
            "updatedAt": _SINCE,
        }
        for name in sorted(BASES, reverse=True)
    ]
    page, token = call.page(items, lambda one: one["imageArn"])
    return {"items": page, "nextToken": token}
