"""Who asks: a placeholder until signatures are verified."""

import re
from collections.abc import Awaitable, Callable
from typing import Final

from emberkeep.aws.errors import AwsError
from emberkeep.aws.received import Identity, Received

Authenticate = Callable[[Received], Awaitable[Identity]]

_SCOPE: Final = re.compile(r"Credential=([^/,\s]+)/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")


async def authenticate(request: Received) -> Identity:
    """Return who `request` says it is from; raise `AwsError` where it says nothing."""
    found = _SCOPE.search(request.header("authorization") or "")
    if found is None:
        raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token")
    return Identity(account="000000000000", key_id=found[1], region=found[2])
