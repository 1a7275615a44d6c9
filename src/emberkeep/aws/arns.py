"""The names of things as AWS writes them: "arn:aws:lambda:REGION:ACCOUNT:KIND:NAME" (spec §1.2)."""

from dataclasses import dataclass
from typing import Final, Self

from emberkeep.domain.errors import Invalid

IMAGE: Final = "microvm-image"
CONNECTOR: Final = "network-connector"
AWS: Final = "aws"  # in the account's place: what everybody has
MANAGED_CONNECTOR: Final = "aws-network-connector"
_FIELDS: Final = 7


@dataclass(frozen=True, slots=True)
class Arn:
    """The name of an image or of a connector, all over."""

    region: str
    account: str
    kind: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an ARN of Lambda's; raise `Invalid` for any other text."""
        fields = text.split(":", _FIELDS - 1)
        if len(fields) != _FIELDS or fields[0] != "arn" or not all(fields):
            raise Invalid(f"Invalid ARN format: {text}")
        _, partition, service, region, account, kind, name = fields
        if not partition.startswith("aws") or service != "lambda":
            raise Invalid(f"Invalid ARN format: {text}")
        return cls(region, account, kind, name)

    def __str__(self) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account}:{self.kind}:{self.name}"


def image(name: str, *, account: str, region: str) -> str:
    """Return the ARN of an image; managed ones belong to the account "aws"."""
    return str(Arn(region, account, IMAGE, name))


def connector(name: str, *, account: str, region: str) -> str:
    """Return the ARN of a customer's connector."""
    return str(Arn(region, account, CONNECTOR, name))


def managed_connector(name: str, *, region: str) -> str:
    """Return the ARN of one of AWS's own connectors, "INTERNET_EGRESS" for one (spec §8.1)."""
    return str(Arn(region, AWS, CONNECTOR, f"{MANAGED_CONNECTOR}:{name}"))
