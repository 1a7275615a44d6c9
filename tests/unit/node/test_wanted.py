"""What a launch stands on before it has a row: it is in use, and not removed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emberkeep.control.fleet import Fleet
from emberkeep.domain.errors import Conflict, GuestError, NotFound
from emberkeep.domain.images import Main, Root, Source
from emberkeep.domain.requests import LaunchRequest
from emberkeep.domain.units import Memory, Size
from emberkeep.node import lives, node, temporary
from emberkeep.node.temporary import Errand
from tests.unit.node.test_ends import World, world

KEY = "0b5f2bd4-9c1e-4a70-8f6e-111111111111.4"
SOURCE = Source(
    image="web", key=KEY, version=4, root=Root(disks=(), main=Main(), managed=True, bytes=0)
)
REQUEST = LaunchRequest(image="web", source=SOURCE)


class Seen:
    """Notes what is in use at a step, and fails there."""

    def __init__(self, w: World) -> None:
        self._fleet = Fleet(w.node)
        self.keys: set[str] = set()

    async def step(self, *_: object, **__: object) -> Any:
        self.keys = set(self._fleet.in_use())
        with pytest.raises(Conflict):
            await self._fleet.forget(KEY)
        raise GuestError("so far and no further")


async def test_what_is_launched_is_in_use_before_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with world(tmp_path / "data") as w:
        seen = Seen(w)
        monkeypatch.setattr(node, "prepared", seen.step)
        with pytest.raises(GuestError, match="so far"):
            await w.node.launch(REQUEST)

        assert seen.keys == {KEY, w.vm.image_key}
        assert w.node.in_use() == {w.vm.image_key}


async def test_what_is_accepted_is_in_use_before_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def prepared(*_: object) -> None:
        return

    async with world(tmp_path / "data") as w:
        seen = Seen(w)
        monkeypatch.setattr(lives, "prepared", prepared)
        monkeypatch.setattr(lives, "recorded", seen.step)
        with pytest.raises(GuestError, match="so far"):
            await w.node.run(REQUEST)

        assert seen.keys == {KEY, w.vm.image_key}
        assert w.node.in_use() == {w.vm.image_key}


async def test_what_runs_without_a_row_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with world(tmp_path / "data") as w:
        seen = Seen(w)
        monkeypatch.setattr(w.ground.images, "_snapshot", seen.step)
        with pytest.raises(GuestError, match="so far"):
            await w.node.take(SOURCE, print)
        assert KEY in seen.keys

        monkeypatch.setattr(node, "validated", seen.step)
        seen.keys.clear()
        with pytest.raises(GuestError, match="so far"):
            await w.node.validate(SOURCE, print)
        assert KEY in seen.keys

        monkeypatch.setattr(w.ground.images, "snapshot", seen.step)
        seen.keys.clear()
        errand = Errand(source=SOURCE, size=Size(Memory(512)))
        with pytest.raises(GuestError, match="so far"):
            async with temporary.temporary(w.ground, errand):
                pass
        assert KEY in seen.keys
        assert w.node.in_use() == {w.vm.image_key}


async def test_what_two_want_is_wanted_until_both_are_done(tmp_path: Path):
    async with world(tmp_path / "data") as w:
        images = w.ground.images
        with images.wanted(KEY):
            with images.wanted(KEY):
                assert KEY in w.node.in_use()
            assert KEY in w.node.in_use()
        assert KEY not in w.node.in_use()


async def test_what_was_forgotten_since_it_was_found_is_not_launched(tmp_path: Path):
    async with world(tmp_path / "data") as w:
        await w.node.forget(KEY)
        for verb in (w.node.launch, w.node.run):
            with pytest.raises(NotFound):
                await verb(replace(REQUEST, name="late"))

        assert w.ground.registry.all() == [w.vm]
