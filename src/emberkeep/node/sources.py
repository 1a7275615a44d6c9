"""What can be launched without any build: the base images."""

from emberkeep.domain.errors import NotFound
from emberkeep.domain.images import Main, Root, Source
from emberkeep.domain.microvms import MicroVM
from emberkeep.node.berths import Parts


def base_source(parts: Parts, name: str) -> Source:
    """Return the base image `name`, or raise `NotFound`."""
    artifact = parts.images.get(name)
    if artifact is None:
        names = ", ".join(sorted(parts.images)) or "none yet, run: emberkeep setup"
        raise NotFound(f"there is no image {name[:80]!r}", hint=f"images here: {names}")
    root = Root(disks=(("image", artifact.digest),), main=Main(), managed=True, bytes=0)
    return Source(image=name, key=name, root=root)


class BaseSources:
    """`domain.ports.Sources` where nothing but base images is known."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def find(self, ref: str, account: str) -> Source:  # noqa: ARG002  they are everybody's
        """Return the base image `ref`, or raise `NotFound`."""
        return base_source(self._parts, ref)

    async def of(self, vm: MicroVM) -> Source:
        """Return the base image that `vm` was launched from, or raise `NotFound`."""
        return base_source(self._parts, vm.image)
