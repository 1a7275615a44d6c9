"""How often an account may call an operation: beyond that it is told when to come again."""

import math
from collections.abc import Callable, Mapping
from typing import Final

from emberkeep.aws.errors import AwsError
from emberkeep.aws.models import CORE, load
from emberkeep.domain.quotas import Bucket

_TEXT: Final = "Rate exceeded"


class Throttle:
    """Buckets of calls, one for each account and operation, in memory alone."""

    def __init__(self, rates: Mapping[str, float], now: Callable[[], float]) -> None:
        self._rates = rates
        self._now = now
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def admit(self, account: str, operation: str) -> None:
        """Count a call; raise `AwsError` (429, Retry-After) for one too many (spec §2.1)."""
        rate = self._rates.get(operation)
        if rate is None:
            return
        now = self._now()
        bucket = self._buckets.setdefault((account, operation), Bucket(rate, now))
        wait_s = bucket.wait_s(now)
        if wait_s:
            ours = operation in load(CORE).operations
            kind = "TooManyRequestsException" if ours else "ThrottlingException"
            raise AwsError(kind, _TEXT, retry_after=math.ceil(wait_s))
