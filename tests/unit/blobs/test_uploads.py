"""Uploads: named by their digest, whole or not there, bounded, dropped when nobody needs them."""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from emberkeep.blobs.settings import UploadSettings
from emberkeep.blobs.uploads import Uploads
from emberkeep.domain.errors import Invalid, NotFound, QuotaExceeded


async def said(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    made = Uploads(tmp_path / "uploads", UploadSettings(largest_mib=2, total_mib=3))
    made.prepare()
    return made


def everything(uploads: Uploads) -> list[str]:
    return sorted(path.name for path in uploads._root.rglob("*") if path.is_file())


async def test_what_comes_is_kept_under_its_digest(uploads: Uploads):
    content = bytes(range(256)) * 6000

    kept = await uploads.put(said(content[:7], content[7:900_000], content[900_000:]))

    assert (kept.digest, kept.size) == (sha(content), len(content))
    assert uploads.path(kept.digest).read_bytes() == content
    assert uploads.get(kept.digest) == kept


async def test_another_digest_is_refused_and_nothing_kept(uploads: Uploads):
    with pytest.raises(Invalid, match="has the digest"):
        await uploads.put(said(b"changed"), digest=sha(b"meant"))

    assert everything(uploads) == []


@pytest.mark.parametrize("digest", ["../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", ""])
async def test_a_digest_is_64_digits(uploads: Uploads, digest: str):
    with pytest.raises(Invalid, match="not a digest"):
        await uploads.put(said(b"x"), digest=digest)
    with pytest.raises(Invalid, match="not a digest"):
        uploads.path(digest)


async def test_one_that_breaks_off_leaves_nothing(uploads: Uploads):
    async def breaking() -> AsyncIterator[bytes]:
        yield b"x" * (1 << 20)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await uploads.put(breaking())

    assert everything(uploads) == []
    assert uploads._coming == 0


async def test_bounds_of_one_and_of_all(uploads: Uploads):
    with pytest.raises(QuotaExceeded, match="larger than 2 MiB"):
        await uploads.put(said(bytes(2 << 20), b"x"))

    await uploads.put(said(bytes(2 << 20)))
    with pytest.raises(QuotaExceeded, match="3 MiB together"):
        await uploads.put(said(b"x" * ((1 << 20) + 1)))
    await uploads.put(said(b"x" * (1 << 20)))


async def test_many_at_once_are_held_to_the_bound_of_all(uploads: Uploads):
    """The room is what is left now, not what was left when an upload began."""

    async def slow() -> AsyncIterator[bytes]:
        yield b"s" * (1 << 20)
        await uploads.put(said(b"x" * (2 << 20)))
        yield b"s" * (1 << 20)

    with pytest.raises(QuotaExceeded, match="3 MiB together"):
        await uploads.put(slow())


async def test_what_was_dropped_or_sent_twice_does_not_count(uploads: Uploads):
    for _ in range(4):
        kept = await uploads.put(said(bytes(1 << 20)))
    os.utime(uploads.path(kept.digest), (1000, 1000))
    uploads.forget(before=2000, keep=set())
    for letter in (b"a", b"b"):
        await uploads.put(said(letter * (1 << 20)))

    again = Uploads(uploads._root, uploads._settings)
    again.prepare()
    with pytest.raises(QuotaExceeded, match="3 MiB together"):
        await again.put(said(b"y" * (2 << 20)))


async def test_what_an_interruption_left_is_removed(uploads: Uploads):
    (uploads._root / "tmp" / "half").write_bytes(b"x")
    kept = await uploads.put(said(b"whole"))

    uploads.prepare()

    assert everything(uploads) == [kept.digest]


async def test_what_nobody_needs_is_dropped_after_a_while(uploads: Uploads):
    old, used, young = [await uploads.put(said(word)) for word in (b"old", b"used", b"young")]
    for one in (old, used):
        os.utime(uploads.path(one.digest), (1000, 1000))

    assert uploads.forget(before=2000, keep={used.digest}) == [old.digest]

    with pytest.raises(NotFound, match="nothing was uploaded"):
        uploads.path(old.digest)
    assert {used.digest, young.digest} == set(everything(uploads))


async def test_one_that_is_asked_for_stays_longer(uploads: Uploads):
    kept = await uploads.put(said(b"again"))
    os.utime(uploads.path(kept.digest), (1000, 1000))

    uploads.get(kept.digest)

    assert uploads.forget(before=2000, keep=set()) == []
