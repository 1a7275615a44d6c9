"""Tags of images: the operations of spec §2.15."""

from typing import Any

from emberkeep.aws.arns import IMAGE, Arn
from emberkeep.aws.call import Call
from emberkeep.aws.errors import not_found
from emberkeep.control import texts


async def tag(call: Call) -> dict[str, Any]:
    """TagResource: those that are there get the new value."""
    await call.images.tag(call.caller, _image(call), call.input["Tags"])
    return {}


async def untag(call: Call) -> dict[str, Any]:
    """UntagResource."""
    await call.images.untag(call.caller, _image(call), call.input["TagKeys"])
    return {}


async def list_(call: Call) -> dict[str, Any]:
    """ListTags."""
    image = await call.images.get(call.caller, _image(call))
    return {"Tags": image.tags}


def _image(call: Call) -> str:
    text = call.input["Resource"]
    arn = Arn.parse(text)
    if arn.kind != IMAGE or arn.account != call.account:
        raise not_found(texts.no_image(text))
    return arn.name
