"""URLs that boto3 presigns for S3 when nobody says otherwise: signature version 2, in the query."""

import hmac
import re
from typing import Any, Final, Protocol
from urllib.parse import unquote_plus, urlsplit

from botocore.auth import HmacV1Auth  # type: ignore[import-untyped]
from botocore.compat import HTTPHeaders  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]

from emberkeep.aws.claims import LONGEST_S, pairs
from emberkeep.aws.errors import AwsError
from emberkeep.aws.sigv4 import Asked
from emberkeep.domain.keys import AccessKey, Caller

_EXPIRES: Final = re.compile(r"[0-9]{1,12}")
_INVALID: Final = "InvalidSignatureException"


class Keys(Protocol):
    """What knows keys, and the time."""

    def key(self, key_id: str, token: str | None) -> AccessKey:
        """Return the key of that id, or raise `AwsError`."""

    def now(self) -> float:
        """Return seconds since the epoch."""

    def used(self, key: AccessKey) -> None:
        """Note that a key was used."""


def by_version_2(asked: Asked, keys: Keys) -> Caller | None:
    """Return who has presigned a URL in this old way; None if it is not signed so.

    Raises `AwsError` for one that is wrong or over.
    """
    given = {unquote_plus(name): unquote_plus(value) for name, value in pairs(asked.query)}
    if not {"AWSAccessKeyId", "Signature", "Expires"} <= given.keys():
        return None
    key = keys.key(given["AWSAccessKeyId"], given.get("x-amz-security-token"))
    expires = given["Expires"]
    left = int(expires) - keys.now() if _EXPIRES.fullmatch(expires) else -1
    if not 0 < left <= LONGEST_S:
        raise AwsError("AccessDenied", "Request has expired", status=403)
    expected = _Presigned(key, expires).signature(asked)
    said = given["Signature"].encode(errors="replace")
    if not hmac.compare_digest(expected.encode(), said):
        raise AwsError(
            _INVALID,
            "The request signature we calculated does not match the signature you provided."
            " Check your key and signing method.",
            status=403,
        )
    keys.used(key)
    return key.caller


def _moved(query: str) -> dict[str, str]:
    """Return what was a header when the URL was signed, and is in its query now."""
    given = {unquote_plus(name).lower(): unquote_plus(value) for name, value in pairs(query)}
    kept = {"content-md5", "content-type"}
    return {name: one for name, one in given.items() if name in kept or name.startswith("x-amz-")}


class _Presigned(HmacV1Auth):  # type: ignore[misc]  # botocore has no types
    """botocore's own signer, asked for the signature of a URL as it came."""

    def __init__(self, key: AccessKey, expires: str) -> None:
        super().__init__(Credentials(key.id, key.secret, key.token))
        self._expires = expires

    def signature(self, asked: Asked) -> str:
        """Return what the signature should have been."""
        headers: Any = HTTPHeaders()
        for name, value in {**_moved(asked.query), **asked.headers}.items():
            headers[name] = value
        split = urlsplit(f"http://h{asked.path}?{asked.query}")
        return str(self.get_signature(asked.method, split, headers))

    def _get_date(self) -> str:
        return self._expires
