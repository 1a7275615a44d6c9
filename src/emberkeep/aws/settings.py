"""What can be configured of the AWS face: see docs/configuration.md."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """Section `[auth]`: who is let in."""

    open: bool = False  # everybody on this machine, without a key; for development alone


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """Section `[aws]`: how far the face goes to please clients that were written for AWS."""

    other_architectures: bool = True  # images that ask for another one are built for this host's
    moto: bool = False  # S3, STS, IAM and CloudWatch Logs at the same endpoint
