"""Deletions carried out to their end, and the removal of what nobody needs any more.

A deletion is a state in the store: it is begun again at every start until it is done. Files go
first and rows last, so that no interruption leaves files that no row speaks of.
"""

from typing import Final

import structlog

from emberkeep.base.aio import in_thread, waited
from emberkeep.control import plans
from emberkeep.control.buildlog import BuildLogs
from emberkeep.control.ledger import Ledger
from emberkeep.control.pipeline import Tools
from emberkeep.control.ports import Leftovers
from emberkeep.control.sources import source_key
from emberkeep.control.work import Work
from emberkeep.domain.errors import EmberkeepError
from emberkeep.domain.images import Build, Image, ImageState, Version, VersionState

_DRAINING_S: Final = 1.0  # between looks whether the last microVM of what is to go has ended
_AGAIN_S: Final = 10.0  # after something went wrong
_SELDOM_S: Final = 3600.0
_MOST: Final = 1000
_log = structlog.get_logger()


class Janitor:
    """One job for all deletions."""

    def __init__(
        self, ledger: Ledger, tools: Tools, *, work: Work, logs: BuildLogs, leftovers: Leftovers
    ) -> None:
        self._ledger = ledger
        self._records = ledger.records
        self._tools = tools
        self._work = work
        self._logs = logs
        self._leftovers = leftovers
        self._sweep = False  # whether there is more to sweep
        self._later_ns: dict[str, int] = {}  # images that went wrong: when they are tried again
        self._tokens_at = 0.0  # when tokens are looked at again

    async def keep(self) -> None:
        """Carry out what is to be deleted; sweep at the start, afterwards, and now and then."""
        await self._tidied()
        while True:
            news = self._ledger.news
            pause_s = await self._round()
            await waited(news, pause_s)

    async def _round(self) -> float:
        """Do all that can be done now; return for how long to wait for news."""
        try:
            images = await self._records.deleting()
            await self._tokens_forgotten()
        except Exception:  # noqa: BLE001  a control loop's item: it is tried again
            _log.exception("images.deleting")
            return _AGAIN_S
        done = [await self._tried(image) for image in images]
        self._sweep |= True in done
        if self._sweep:
            await self._swept()
        if False in done:
            return _DRAINING_S
        return _AGAIN_S if self._sweep or None in done else _SELDOM_S

    async def _tried(self, image: Image) -> bool | None:
        """Carry out what of `image` is to go; return whether that is all done, or None: again."""
        now_ns = self._tools.clock.monotonic_ns()
        if now_ns < self._later_ns.get(image.id, 0):
            return None
        try:
            done = await self._left(image)
        except Exception:  # noqa: BLE001  a control loop's item: the others go on
            _log.exception("images.delete", image=image.id)
            self._later_ns[image.id] = now_ns + int(_AGAIN_S * 1e9)
            return None
        self._later_ns.pop(image.id, None)
        return done

    async def _tokens_forgotten(self) -> None:
        """Drop the tokens that are too old to count, now and then."""
        now = self._ledger.now()
        if now >= self._tokens_at:
            await self._records.forget_tokens(now - self._tools.settings.token_s)
            self._tokens_at = now + _SELDOM_S

    async def _left(self, image: Image) -> bool:
        """Carry out what of `image` is to go; return whether that is all done."""
        versions = await self._records.versions(image.id, limit=_MOST)
        whole = image.state is ImageState.DELETING
        leaving = [one for one in versions if whole or one.state is VersionState.DELETING]
        if any(self._work.used(image.id, version.number) for version in leaving):
            return False  # launched while it was being refused; the last one will end
        builds = [build for version in leaving for build in await self._emptied(image, version)]
        if whole:
            await self._tools.roots.forget(image.id, image.account)
        async with self._ledger.turn:
            await self._rows_removed(image, leaving, versions, builds)
        return True

    async def _emptied(self, image: Image, version: Version) -> list[Build]:
        """Remove the files of one version; return its builds, whose logs are gone with them."""
        key = source_key(image.id, version.number)
        await self._leftovers.suspect(key, version.root)
        await self._tools.snapshots.forget(key)
        builds = await self._records.builds(image.id, version.number)
        for build in builds:
            self._logs.forget(build.id)
        return builds

    async def _rows_removed(
        self, image: Image, leaving: list[Version], versions: list[Version], builds: list[Build]
    ) -> None:
        now = self._ledger.now()
        if image.state is ImageState.DELETING:
            current = await self._records.by_id(image.id) or image  # its tags may have changed
            await self._ledger.write(plans.left(current, leaving, builds, at=now))
            return
        for version in leaving:
            current = await self._records.by_id(image.id) or image
            mine = [build for build in builds if build.version == version.number]
            plan = plans.version_left(current, version, versions, mine, at=now)
            await self._ledger.write(plan)

    async def _tidied(self) -> None:
        """Remove what a server that was killed may have left."""
        try:
            await in_thread(self._logs.keep, await self._records.build_ids())
        except (EmberkeepError, OSError) as error:
            _log.warning("images.tidy", why=str(error))
        await self._swept()

    async def _swept(self) -> None:
        """Remove the files that no record refers to."""
        busy = self._work.making
        try:
            await self._leftovers.sweep(busy=busy)
        except (EmberkeepError, OSError) as error:
            _log.warning("images.sweep", why=str(error))
        self._sweep = busy
