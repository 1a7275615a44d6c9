"""Tokens for endpoints and shells (spec §2.6, §2.7)."""

from collections.abc import Mapping
from typing import Any, Final

from emberkeep.aws.call import Call
from emberkeep.aws.connecting import SHELL_REFUSED, shell_refusal
from emberkeep.aws.errors import invalid
from emberkeep.aws.operations.microvms import ended, known
from emberkeep.domain.endpoints import HIGHEST, Ports
from emberkeep.domain.errors import Unavailable
from emberkeep.domain.microvms import MicroVM, State

_LONGEST_MIN: Final = 60
_HEADER: Final = "X-aws-proxy-auth"


async def create(call: Call) -> dict[str, Any]:
    """CreateMicrovmAuthToken."""
    vm = await _reachable(call)
    minutes = _minutes(call)
    if vm.endpoint is not None and not vm.endpoint.ingress.http:
        raise invalid(
            "Endpoint access requires HTTP_INGRESS network connector to be configured on the"
            " MicroVM."
        )
    ports = [_ports(one) for one in call.input["allowedPorts"]]
    return _token(call, vm, ports, minutes)


async def create_shell(call: Call) -> dict[str, Any]:
    """CreateMicrovmShellAuthToken."""
    vm = await _reachable(call)
    minutes = _minutes(call)
    refusal = shell_refusal(vm.terms.ingress)
    if refusal is not None:
        raise invalid(refusal)
    if vm.endpoint is None or not vm.endpoint.ingress.shell:
        raise invalid(SHELL_REFUSED)
    return _token(call, vm, None, minutes)


async def _reachable(call: Call) -> MicroVM:
    vm = await known(call)
    if vm.state in {State.TERMINATING, State.TERMINATED}:
        raise ended(vm)
    return vm


def _minutes(call: Call) -> int:
    minutes: int = call.input["expirationInMinutes"]
    if minutes > _LONGEST_MIN:
        raise invalid(f"ExpirationMinutes {minutes} exceeded max allowed of {_LONGEST_MIN}.")
    return minutes


def _ports(given: Mapping[str, Any]) -> Ports:
    if "port" in given:
        return Ports(given["port"], given["port"])
    if "range" in given:
        return Ports(given["range"]["startPort"], given["range"]["endPort"])
    return Ports(1, HIGHEST)


def _token(call: Call, vm: MicroVM, ports: list[Ports] | None, minutes: int) -> dict[str, Any]:
    """Make a token for `ports`; None: for the shell."""
    if call.context.endpoints is None:
        raise Unavailable("endpoints are switched off", hint="endpoints.enabled = true")
    covered = [Ports(1, HIGHEST)] if ports is None else ports
    token, _ = call.context.endpoints.token(vm, covered, life_s=60.0 * minutes, shell=ports is None)
    return {"authToken": {_HEADER: token}}
