"""Layer caches: one for each image, kept only if put away in order, bounded."""

import asyncio
from contextlib import suppress

import pytest

from emberkeep.builder.caches import Caches, used

pytestmark = pytest.mark.anyio
MIB = 1 << 20


@pytest.fixture
def caches(tmp_path):
    return Caches(tmp_path / "cache", disk_gib=1, most=60 * MIB, most_of_all=80 * MIB)


def write(path, mib: int) -> None:
    with path.open("r+b") as file:
        file.seek(512 * MIB)
        file.write(b"x" * (mib * MIB))


async def test_what_was_put_away_in_order_is_there_again(caches):
    async with caches.lent("a", "i", fresh=False) as cache:
        assert cache.fresh
        inode = cache.path.stat().st_ino
        cache.clean = True

    async with caches.lent("a", "i", fresh=False) as cache:
        assert not cache.fresh
        assert cache.path.stat().st_ino == inode


async def test_what_was_not_is_dropped(caches):
    async with caches.lent("a", "i", fresh=False) as cache:
        pass

    assert not cache.path.exists()


async def test_one_is_never_lent_to_two(caches):
    entered = asyncio.Event()
    async with caches.lent("a", "i", fresh=False) as cache:
        cache.clean = True

        async def other() -> None:
            async with caches.lent("a", "i", fresh=False):
                entered.set()

        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await other()
        assert not entered.is_set()


async def test_accounts_and_images_have_their_own(caches):
    paths = set()
    for account, image in (("a", "i"), ("a", "j"), ("b", "i")):
        async with caches.lent(account, image, fresh=False) as cache:
            paths.add(cache.path)

    assert len(paths) == 3


async def test_one_that_has_grown_too_large_is_dropped(caches):
    async with caches.lent("a", "i", fresh=False) as cache:
        write(cache.path, 61)
        cache.clean = True

    assert not cache.path.exists()


async def test_of_all_the_longest_unused_goes(caches):
    paths = {}
    for image in ("i", "j", "k"):
        async with caches.lent("a", image, fresh=False) as cache:
            write(cache.path, 30)
            cache.clean = True
            paths[image] = cache.path

    assert not paths["i"].exists()
    assert paths["j"].exists()
    assert paths["k"].exists()


async def test_a_fresh_one_and_forgetting(caches):
    async with caches.lent("a", "i", fresh=False) as cache:
        cache.clean = True
    async with caches.lent("a", "i", fresh=True) as cache:
        assert cache.fresh
        cache.clean = True

    caches.forget("a", "i")
    caches.forget("a", "i")

    assert used(cache.path) == 0
