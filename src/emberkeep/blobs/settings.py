"""What can be configured of uploads: section `[uploads]` of docs/configuration.md."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """Bounds of what clients may leave here to be built."""

    largest_mib: Annotated[int, Meta(ge=1)] = 2048  # one of them
    total_mib: Annotated[int, Meta(ge=1)] = 16384  # all of them
    kept_s: Annotated[float, Meta(ge=0)] = 86400  # one that nothing refers to
