"""Objects of S3: what is refused before anything is asked, and where credentials are made."""

import threading
from pathlib import Path

import pytest

from emberkeep.blobs.s3 import S3, Login
from emberkeep.blobs.settings import S3Settings
from emberkeep.domain.images import BuildFailed, FailureCode


class Lender:
    """Remembers in which thread credentials were asked for; there are none to be had."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def __call__(self, account: str) -> Login:
        self.threads.append(threading.current_thread())
        raise LookupError(account)


async def test_credentials_are_lent_where_all_else_happens_to_keys(tmp_path: Path):
    lender = Lender()
    s3 = S3(S3Settings(endpoint="http://127.0.0.1:1"), lend=lender)
    with pytest.raises(LookupError):
        await s3.fetch("s3://bucket/a..b/..c", tmp_path / "zip")

    assert lender.threads == [threading.current_thread()]


@pytest.mark.parametrize(
    "key", ["../moto-api/data.json", "a/../../x", "..", "a/..", "./a", "a/./b"]
)
async def test_a_key_that_would_become_another_one_is_refused(tmp_path: Path, key: str):
    lender = Lender()
    s3 = S3(S3Settings(endpoint="http://127.0.0.1:1"), lend=lender)
    with pytest.raises(BuildFailed) as raised:
        await s3.fetch(f"s3://bucket/{key}", tmp_path / "zip")

    assert raised.value.code is FailureCode.S3_INVALID_OBJECT
    assert lender.threads == []
