"""Whatever is asked for, whatever fails, whenever the server ends: the records stay in step."""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from structlog.testing import capture_logs

from emberkeep.base.aio import first
from emberkeep.base.clock import HostClock
from emberkeep.control import plans
from emberkeep.control.images import ImageControl
from emberkeep.control.service import ControlParts, managed
from emberkeep.control.settings import QueueSettings
from emberkeep.domain.errors import EmberkeepError
from emberkeep.domain.images import (
    BUILD_ARROWS,
    IMAGE_ARROWS,
    VERSION_ARROWS,
    BuildFailed,
    BuildState,
    FailureCode,
    ImageState,
    VersionState,
    VersionStatus,
)
from emberkeep.domain.records import Change
from emberkeep.store import Images, opened
from tests.fakes.images import STEPS, FakeTools, recipe
from tests.unit.control.conftest import ME

NAMES: Final = ("a", "b")
BUSY: Final = {ImageState.CREATING, ImageState.UPDATING, ImageState.DELETING}
FATES: Final[dict[str, object]] = {
    "well": None,
    "fails": BuildFailed(FailureCode.CONTAINER_BUILD_FAILED, "it fails"),
    "breaks": RuntimeError("it breaks"),
    "hangs": "hangs",
}


class Watched:
    """The records, and whether each change of them follows an arrow."""

    def __init__(self, records: Images) -> None:
        self._records = records

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    async def commit(self, change: Change) -> None:
        for row in change.save:
            await self._check(row)
        await self._records.commit(change)

    async def _check(self, row: Any) -> None:
        kind = type(row).__name__
        before: Any
        if kind == "Image":
            before, arrows = await self._records.by_id(row.id), IMAGE_ARROWS
        elif kind == "Version":
            before = await self._records.version(row.image_id, row.number)
            arrows = VERSION_ARROWS
        else:
            stored = await self._records.build(row.id)
            before, arrows = stored and stored.build, BUILD_ARROWS
        assert before is not None
        assert row.state is before.state or row.state in arrows[before.state]


class Images_(RuleBasedStateMachine):  # noqa: N801  Hypothesis shows the name
    """Requests, failures and ends of the server in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.tools = FakeTools()
        self.held = AsyncExitStack()
        self.hangs: list[asyncio.Event] = []
        self.images: ImageControl

    @initialize()
    def begin(self) -> None:
        self.run(self._open())

    @rule(name=st.sampled_from(NAMES), token=st.sampled_from([None, "t"]))
    def create(self, name: str, token: str | None) -> None:
        self.ask(lambda: self.images.create(ME, name, recipe(), token=token))

    @rule(name=st.sampled_from(NAMES), number=st.integers(0, 3))
    def update(self, name: str, number: int) -> None:
        self.ask(lambda: self.images.update(ME, name, recipe(description=str(number))))

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        self.ask(lambda: self.images.delete(ME, name))

    @rule(name=st.sampled_from(NAMES), number=st.integers(1, 3))
    def delete_version(self, name: str, number: int) -> None:
        self.ask(lambda: self.images.delete_version(ME, name, number))

    @rule(
        name=st.sampled_from(NAMES), number=st.integers(1, 3), status=st.sampled_from(VersionStatus)
    )
    def set_status(self, name: str, number: int, status: VersionStatus) -> None:
        self.ask(lambda: self.images.set_status(ME, name, number, status))

    @rule(name=st.sampled_from(NAMES), number=st.integers(1, 3))
    def cancel(self, name: str, number: int) -> None:
        async def cancelled() -> None:
            page = await self.images.builds(ME, name, number)
            build = await self.images.cancel(ME, page.items[-1].id)
            assert build.state in {BuildState.SUCCESSFUL, BuildState.FAILED}

        self.ask(cancelled)

    @rule(step=st.sampled_from(STEPS), fate=st.sampled_from(sorted(FATES)))
    def fated(self, step: str, fate: str) -> None:
        """What becomes of the builds that come to `step` from now on."""
        self.tools.fate[step] = FATES[fate]
        if fate == "hangs":
            self.hangs.append(asyncio.Event())
            self.tools.fate[step] = self.hangs[-1]

    @rule(turns=st.integers(1, 20))
    def go_on(self, turns: int) -> None:
        async def turned() -> None:
            for _ in range(turns):
                await asyncio.sleep(0.001)

        self.run(turned())

    @rule(digest=st.sampled_from("ab"))
    def another_zip(self, digest: str) -> None:
        self.tools.digest = digest * 64

    @rule(kill=st.booleans())
    def restart(self, kill: bool) -> None:  # noqa: FBT001
        self.run(self._close(kill=kill))
        self.run(self._open())

    @invariant()
    def rows_are_in_step(self) -> None:
        if self.folder.exists() and hasattr(self, "images"):
            self.run(self._rows_are_in_step())

    def teardown(self) -> None:
        with suppress(AttributeError):
            self.run(self._ended_well())
            self.run(self._close(kill=False))
        self.loop.close()
        shutil.rmtree(self.folder)

    def run(self, job: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(asyncio.wait_for(job, 20))

    def ask(self, request: Callable[[], Coroutine[Any, Any, object]]) -> None:
        async def asked() -> None:
            with suppress(EmberkeepError):
                await request()

        self.run(asked())

    async def _open(self) -> None:
        self.held = AsyncExitStack()
        stores = await self.held.enter_async_context(opened(self.folder / "emberkeep.db"))
        made_of = ControlParts(
            records=Watched(stores.images),
            archives=self.tools,
            roots=self.tools,
            snapshots=self.tools,
            leftovers=self.tools,
            clock=HostClock(),
            logs=self.folder / "logs",
            settings=QueueSettings(workers=2, attempts=2),
        )
        # in a task of its own: what is entered in one must be left in the same
        self.over, up = asyncio.Event(), asyncio.Event()

        async def serve() -> None:
            async with managed(made_of) as self.images:
                up.set()
                await self.over.wait()

        self.server = asyncio.ensure_future(serve())  # noqa: TID251  a test's
        await first(up.wait(), asyncio.wait({self.server}))
        if self.server.done():
            self.server.result()

    async def _close(self, *, kill: bool) -> None:
        if kill:  # nothing is put back by the one that dies

            async def nothing(*_: object) -> None:
                pass

            self.images._work._put_back = nothing
        self.over.set()
        await self.server
        await self.held.aclose()

    async def _rows_are_in_step(self) -> None:
        async with self.images._ledger.turn:
            records = self.images._records
            for image in await records.every_image():
                versions = await records.versions(image.id, limit=99)
                builds = {v.number: await records.builds(image.id, v.number) for v in versions}
                assert all(len(found) == 1 for found in builds.values())
                last = {found[0].state for found in builds.values()}
                working = {BuildState.PENDING, BuildState.IN_PROGRESS} & last
                leaving = any(v.state is VersionState.DELETING for v in versions)
                building = image.state in plans.BEING_BUILT
                assert building == (bool(working) or leaving), image
                for version in versions:
                    build = builds[version.number][0]
                    if version.state is not VersionState.DELETING:
                        assert version.state.value == build.state.value
                    if version.status is VersionStatus.ACTIVE:
                        assert version.state is VersionState.SUCCESSFUL
                        assert version.root is not None
                active = [v.number for v in versions if v.runnable]
                assert image.latest_active == max(active, default=None) or leaving

    async def _ended_well(self) -> None:
        """Once nothing fails any more, all comes to its end, and nothing is left over."""
        self.tools.fate.clear()
        for event in self.hangs:
            event.set()
        while True:
            news = self.images._ledger.news
            images = await self.images._records.every_image()
            if not {image.state for image in images} & BUSY:
                break
            await news.wait()
        async with self.images._ledger.turn:
            versions = await self.images._records.every_version()
        good = [v for v in versions if v.state is VersionState.SUCCESSFUL]
        keys = {f"{version.image_id}.{version.number}" for version in good}
        assert self.tools.snapshots >= keys
        builds = await self.images._records.build_ids()
        logs = {path.name for path in (self.folder / "logs").glob("*")}
        assert logs <= builds


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The tracebacks of what shall break cost more than all the rest."""
    with capture_logs():
        yield


TestStates = pytest.mark.timeout(300)(Images_.TestCase)
TestStates.settings = settings(
    max_examples=6,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("arrows", [IMAGE_ARROWS, VERSION_ARROWS, BUILD_ARROWS])
def test_every_state_is_listed_and_reaches_an_end(arrows):
    states = set(type(next(iter(arrows))))
    assert set(arrows) == states
    ends = {state for state, after in arrows.items() if not after}
    reached = set(ends)
    while True:
        more = {state for state, after in arrows.items() if after & reached} - reached
        if not more:
            break
        reached |= more
    assert reached == states
