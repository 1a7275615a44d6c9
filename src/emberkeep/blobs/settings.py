"""What can be configured of uploads and S3: sections of docs/configuration.md."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from emberkeep.domain.roles import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """Bounds of what clients may leave here to be built."""

    largest_mib: Annotated[int, Meta(ge=1)] = 2048  # one of them
    total_mib: Annotated[int, Meta(ge=1)] = 16384  # all of them
    kept_s: Annotated[float, Meta(ge=0)] = 86400  # one that nothing refers to


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Where objects are fetched from; what is not said is found as the AWS SDKs find it."""

    endpoint: Annotated[str, Meta(pattern=r"^https?://[^/?#]+/?$")] | None = None  # None: AWS
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: Secret | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"  # path, if there is an endpoint
    every_account: bool = False  # may use these credentials; otherwise the first one alone
    timeout_s: Annotated[float, Meta(gt=0)] = 600.0  # of one object
    largest_mib: Annotated[int, Meta(ge=1)] = 2048
