"""What the connectors of a microVM mean for how it is reached, and what it reaches (spec §8.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from emberkeep.aws import arns, egress
from emberkeep.aws.call import Call
from emberkeep.aws.errors import AwsError, invalid, not_found
from emberkeep.domain.egress import INTERNET, NONE, EgressPolicy
from emberkeep.domain.errors import NotFound
from emberkeep.domain.microvms import MicroVM

HTTP: Final = "HTTP_INGRESS"
ALL: Final = "ALL_INGRESS"
SHELL: Final = "SHELL_INGRESS"
NOTHING: Final = "NO_INGRESS"
SHELL_REFUSED: Final = (
    "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM."
)
_ALL_REFUSED: Final = (
    "ALL_INGRESS cannot be combined with other ingress network connectors; use HTTP_INGRESS"
    " and/or SHELL_INGRESS instead"
)
_INGRESS: Final = frozenset({HTTP, ALL, SHELL, NOTHING})
_NAMES: Final[Mapping[EgressPolicy, str]] = {INTERNET: "INTERNET_EGRESS", NONE: "NO_EGRESS"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """How a microVM may be reached."""

    http: bool
    shell: bool


def ways(given: Sequence[str]) -> Ways:
    """Return what ingress connectors allow; raise `AwsError` for one there is not (spec §2.3)."""
    names = {_ingress(text) for text in given} or {HTTP}
    if NOTHING in names and len(names) > 1:
        raise invalid("NO_INGRESS cannot be combined with other ingress network connectors")
    return Ways(http=bool(names & {HTTP, ALL}), shell=bool(names & {SHELL, ALL}))


def shell_refusal(given: Sequence[str]) -> str | None:
    """Return why a microVM with these connectors has no shell; None: it may have one."""
    names = {text.rpartition(":")[2] for text in given}
    if ALL in names and len(names) > 1:
        return _ALL_REFUSED
    return None if not names or names & {SHELL, ALL} else SHELL_REFUSED


async def reach(call: Call, given: Sequence[str]) -> EgressPolicy | None:
    """Return what egress connectors allow together; None: none was named (spec §8.1).

    Raises `AwsError` for one there is not. Of several, the internet is more than what a VPC has,
    and that more than nothing.
    """
    found = [await _policy(call, text) for text in given]
    for policy in (INTERNET, *[one for one in found if one != NONE], NONE):
        if policy in found:
            return policy
    return None


def ingress_shown(vm: MicroVM, region: str) -> list[str]:
    """Return the ingress connectors of `vm` as ARNs, also if it was not launched with any."""
    if vm.terms.ingress:
        return list(vm.terms.ingress)
    shell = vm.endpoint is not None and vm.endpoint.ingress.shell
    return [
        arns.managed_connector(name, region=region) for name in ([HTTP, SHELL] if shell else [HTTP])
    ]


def egress_shown(vm: MicroVM, region: str) -> list[str]:
    """Return the egress connectors of `vm` as ARNs, also if it was not launched with any."""
    if vm.terms.egress:
        return list(vm.terms.egress)
    name = _NAMES.get(vm.egress, _NAMES[INTERNET])
    return [arns.managed_connector(name, region=region)]


async def _policy(call: Call, text: str) -> EgressPolicy:
    try:
        policy = await egress.policy(call, [text])
    except NotFound:
        raise not_found(f"Network connector not found for: {text}") from None
    return policy or INTERNET


def _ingress(text: str) -> str:
    connector = egress.parsed(text)
    owner, _, name = connector.name.partition(":")
    managed = connector.account == arns.AWS and owner == arns.MANAGED_CONNECTOR
    if managed and name in _INGRESS:
        return name
    if managed or connector.account == arns.AWS:
        raise invalid(f"Unrecognized managed network connector ARN: {text}")
    raise AwsError("ValidationException", f"Not an ingress network connector: {text}")
