"""What the records of images owe those who write and read them: all of a change, or nothing."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from emberkeep.domain.egress import EgressPolicy
from emberkeep.domain.errors import Conflict, Unavailable
from emberkeep.domain.events import Event, Kind
from emberkeep.domain.images import (
    Build,
    BuildState,
    FailureCode,
    Hooks,
    Image,
    ImageState,
    Main,
    Recipe,
    Root,
    Sizes,
    Version,
    VersionState,
)
from emberkeep.domain.records import Change, Token, fingerprint
from emberkeep.domain.units import Memory
from emberkeep.store import Stores, opened

RECIPE = Recipe(
    base="al2023-1",
    base_version=1,
    code="s3://bucket/key",
    memory=Memory(4096),
    architectures=("ARM_64",),
    egress=EgressPolicy.parse("203.0.113.0/24:443/tcp [2001:db8::1]:53/udp"),
    egress_connectors=("arn:aws:lambda:us-east-1:aws:network-connector:x:INTERNET_EGRESS",),
    environment={"A": "ü"},
    every_capability=True,
    hooks=Hooks(port=9000, ready=60),
    build_role="arn:aws:iam::000000000000:role/build",
    description="what it is",
    logging={"cloudWatch": {"logGroup": "g"}},
    region="eu-west-1",
)
ROOT = Root(
    disks=(("image", "a" * 64), ("layer1", "b" * 64)),
    main=Main(argv=("python3", "app.py"), env={"PATH": "/bin"}, cwd="/srv", user="1000:1000"),
    managed=True,
    bytes=12345,
    notes=("HEALTHCHECK has no effect",),
)
IMAGE = Image(
    id="i-1", account="000000000000", name="web", versions=1, tags={"a": "b"},
    created_at=1.5, updated_at=2.5,
)  # fmt: skip
VERSION = Version(
    image_id="i-1", number=1, recipe=RECIPE, root=ROOT, inputs="x", created_at=1.5, updated_at=2.5
)
BUILD = Build(
    id="b-1", image_id="i-1", version=1, step="build", code=FailureCode.DISK_STORAGE_FULL,
    reason="full", sizes=Sizes(memory=1, code=2, disk=3), attempts=2, created_at=1.5,
    started_at=2.5, ended_at=3.5,
)  # fmt: skip
EVENT = Event(at=1.0, kind=Kind.IMAGE_CREATING, image="web")


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    async with opened(tmp_path / "emberkeep.db") as stores:
        yield stores


async def test_what_is_written_is_read_and_survives(tmp_path: Path):
    async with opened(tmp_path / "emberkeep.db") as stores:
        await stores.images.commit(Change(add=(IMAGE, VERSION, BUILD), events=(EVENT,)))
    async with opened(tmp_path / "emberkeep.db") as stores:
        records = stores.images
        stored = await records.build("b-1")

        assert stored is not None
        assert (stored.image, stored.version, stored.build) == (IMAGE, VERSION, BUILD)
        assert await records.image("000000000000", "web") == await records.by_id("i-1") == IMAGE
        assert await records.version("i-1", 1) == VERSION
        assert await records.builds("i-1", 1) == [BUILD]
        assert [e.kind for e in await stores.events.after(0, microvm_id=None, limit=9)] == [
            EVENT.kind
        ]


async def test_nothing_is_found_where_nothing_is(stores: Stores):
    records = stores.images
    assert await records.image("000000000000", "web") is None
    assert await records.by_id("i-1") is None
    assert await records.version("i-1", 1) is None
    assert await records.build("b-1") is None
    assert await records.token("a", "b", "c") is None
    assert await records.under_way() == await records.deleting() == []


async def test_one_row_of_another_revision_stops_all(stores: Stores):
    await stores.images.commit(Change(add=(IMAGE, VERSION, BUILD)))
    version = VERSION.to(VersionState.IN_PROGRESS, at=9.0)
    late = replace(BUILD.to(BuildState.IN_PROGRESS), revision=7)
    with pytest.raises(Conflict):
        await stores.images.commit(Change(save=(version, late), events=(EVENT,)))

    assert await stores.images.version("i-1", 1) == VERSION
    assert await stores.events.after(0, microvm_id=None, limit=9) == []
    with pytest.raises(Conflict):
        await stores.images.commit(Change(remove=(BUILD, replace(VERSION, revision=5))))
    assert await stores.images.builds("i-1", 1) == [BUILD]


async def test_a_name_is_given_once_for_each_account(stores: Stores):
    await stores.images.commit(Change(add=(IMAGE,)))
    with pytest.raises(Conflict):
        await stores.images.commit(Change(add=(replace(IMAGE, id="i-2"), VERSION)))
    assert await stores.images.version("i-1", 1) is None
    await stores.images.commit(Change(add=(replace(IMAGE, id="i-2", account="1" * 12),)))

    assert await stores.images.count("000000000000") == 1
    assert len(await stores.images.every_image()) == 2


async def test_of_many_writers_one_wins(stores: Stores):
    await stores.images.commit(Change(add=(IMAGE, VERSION, BUILD)))
    won = []

    async def take(attempt: int) -> None:
        build = replace(BUILD.to(BuildState.IN_PROGRESS), attempts=attempt)
        try:
            await stores.images.commit(Change(save=(build,)))
        except Conflict:
            return
        won.append(attempt)

    async with anyio.create_task_group() as group:
        for attempt in range(10):
            group.start_soon(take, attempt)

    assert len(won) == 1
    assert [build.attempts for build in await stores.images.builds("i-1", 1)] == won


async def test_pages_of_images_and_versions(stores: Stores):
    images = [replace(IMAGE, id=name, name=name) for name in "dbca"]
    versions = [replace(VERSION, number=number) for number in (1, 2, 3)]
    await stores.images.commit(Change(add=(*images, *versions)))
    records = stores.images

    assert [i.name for i in await records.images(IMAGE.account, limit=2)] == ["a", "b"]
    assert [i.name for i in await records.images(IMAGE.account, after="b", limit=9)] == ["c", "d"]
    assert [v.number for v in await records.versions("i-1", limit=2)] == [3, 2]
    assert [v.number for v in await records.versions("i-1", before=3, limit=9)] == [2, 1]


async def test_what_is_under_way_is_found_oldest_first(stores: Stores):
    other = replace(IMAGE, id="i-2", account="1" * 12)
    rows = [
        replace(BUILD, id="done", state=BuildState.FAILED),
        replace(BUILD, id="young", created_at=9.0, state=BuildState.IN_PROGRESS),
        replace(BUILD, id="old", created_at=1.0),
        replace(BUILD, id="theirs", image_id="i-2", created_at=5.0),
    ]
    await stores.images.commit(
        Change(add=(IMAGE, other, VERSION, replace(VERSION, image_id="i-2"), *rows))
    )
    mine = await stores.images.under_way(IMAGE.account)
    every = await stores.images.under_way()

    assert [stored.build.id for stored in mine] == ["old", "young"]
    assert [stored.build.id for stored in every] == ["old", "theirs", "young"]
    assert every[1].image == other


async def test_what_is_to_go_is_found(stores: Stores):
    whole = replace(IMAGE, id="i-2", name="b", state=ImageState.DELETING)
    part = replace(VERSION, state=VersionState.DELETING)
    await stores.images.commit(Change(add=(IMAGE, whole, replace(IMAGE, id="i-3", name="c"), part)))

    assert {image.id for image in await stores.images.deleting()} == {"i-1", "i-2"}


async def test_a_token_lasts_as_long_as_it_may(stores: Stores):
    asked = fingerprint("Create", "web", RECIPE, {"a": "b"})
    token = Token(
        account=IMAGE.account, operation="Create", token="t", fingerprint=asked,  # noqa: S106
        image=IMAGE, version=replace(VERSION, root=None), at=5.0,
    )  # fmt: skip
    records = stores.images
    await records.commit(Change(add=(IMAGE, VERSION, BUILD), token=token))
    assert await records.token(IMAGE.account, "Create", "t") == token
    assert await records.token(IMAGE.account, "Update", "t") is None
    await records.commit(Change(token=replace(token, at=8.0)))  # used again when it had run out
    assert await records.forget_tokens(7.0) == 0
    assert await records.forget_tokens(9.0) == 1
    await records.commit(Change(token=token))
    await records.commit(Change(remove=(IMAGE, VERSION, BUILD)))
    assert await records.token(IMAGE.account, "Create", "t") is None


def test_fingerprints_tell_what_is_asked_for():
    same = fingerprint("Create", "web", RECIPE, {"a": "1", "b": "2"})
    assert fingerprint("Create", "web", replace(RECIPE), {"b": "2", "a": "1"}) == same
    others = [
        fingerprint("Update", "web", RECIPE, {"a": "1", "b": "2"}),
        fingerprint("Create", "other", RECIPE, {"a": "1", "b": "2"}),
        fingerprint("Create", "web", replace(RECIPE, egress=None), {"a": "1", "b": "2"}),
        fingerprint("Create", "web", RECIPE, {"a": "1"}),
    ]
    assert len({same, *others}) == 5


async def test_nothing_is_changed_if_its_event_cannot_be_written(stores: Stores, tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "emberkeep.db")) as raw, raw:
        raw.execute("ALTER TABLE events RENAME TO lost")
    with pytest.raises(Unavailable):
        await stores.images.commit(Change(add=(IMAGE,), events=(EVENT,)))

    assert await stores.images.by_id("i-1") is None
