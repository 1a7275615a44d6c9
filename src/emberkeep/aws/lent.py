"""Credentials that moto's STS and IAM have given away: good here, too, for the same account."""

import re
import time
from calendar import timegm
from collections.abc import Iterator
from typing import Final

from emberkeep.domain.keys import AccessKey, Caller

_ONE: Final = re.compile(
    r"<(Credentials|AccessKey)>(?:(?!</\1>).)*?"
    r"<AccessKeyId>([A-Z0-9]{16,128})</AccessKeyId>(.*?)</\1>",
    re.DOTALL,
)
_SECRET: Final = re.compile(r"<SecretAccessKey>([^<]{16,128})</SecretAccessKey>")
_TOKEN: Final = re.compile(r"<SessionToken>([^<]{1,4096})</SessionToken>")
_UNTIL: Final = re.compile(r"<Expiration>(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)")
_LIFE_S: Final = 3600.0


def lent(answer: bytes, caller: Caller) -> Iterator[AccessKey]:
    """Return the credentials in an answer, as the caller's account may use them.

    It is always that account, whatever role was asked for: moto checks no trust policy.
    """
    now = time.time()
    for found in _ONE.finditer(answer.decode("utf-8", "replace")):
        rest = found[3]
        secret, token, until = (one.search(rest) for one in (_SECRET, _TOKEN, _UNTIL))
        if secret is None:
            continue
        yield AccessKey(
            id=found[2],
            secret=secret[1],
            account=caller.account,
            created_at=now,
            token=token[1] if token else None,
            expires_at=_seconds(until[1], now) if until else None,
        )


def _seconds(text: str, now: float) -> float:
    try:
        return timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return now + _LIFE_S
