"""What can be configured of the AWS face: see section `[aws]` of docs/configuration.md."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """How far the face goes to please clients that were written for AWS."""

    other_architectures: bool = True  # images that ask for another one are built for this host's
