"""Images as the API knows them, in memory: a build ends as a test says, at once or later."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace

from emberkeep.domain.errors import NotFound
from emberkeep.domain.images import (
    Build,
    BuildState,
    FailureCode,
    Image,
    ImageState,
    Main,
    Recipe,
    Root,
    Sizes,
    Version,
    VersionState,
    VersionStatus,
)
from emberkeep.domain.records import Caller, Page, Stored


@dataclass(frozen=True)
class FakeChunk:
    data: bytes
    end: int
    skipped: int = 0


class FakeLog:
    def __init__(self) -> None:
        self.text = b"STEP 1: FROM debian-12\n"
        self.over = False
        self.skipped = 0

    def read(self, offset: int = 0) -> FakeChunk:
        piece = self.text[offset : offset + 7]
        return FakeChunk(piece, offset + len(piece), self.skipped if offset == 0 else 0)

    async def follow(self, offset: int = 0) -> AsyncGenerator[FakeChunk]:
        while True:
            over = self.over
            chunk = self.read(offset)
            offset = chunk.end
            if chunk.data:
                yield chunk
            elif over:
                return
            else:
                await asyncio.sleep(0.01)  # what a test does, it does from another thread


class FakeImages:
    """`api.context.Images`; a build ends as `outcome` says, or waits if that is None."""

    def __init__(self) -> None:
        self.images: dict[str, Image] = {}
        self.made: list[Version] = []
        self.under_way: list[Build] = []
        self.logs: dict[str, FakeLog] = {}
        self.outcome: FailureCode | str | None = "ok"

    async def create(
        self,
        caller: Caller,
        name: str,
        recipe: Recipe,
        *,
        tags: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> tuple[Image, Version]:
        image = Image(
            id=f"id-{name}",
            account=caller.account,
            name=name,
            tags=dict(tags or {}),
            created_at=1.0,
            updated_at=2.0,
        )
        return self._begin(image, recipe)

    async def created(self, *_: object, **__: object) -> tuple[Image, Version] | None:
        return None

    async def update(
        self, caller: Caller, name: str, recipe: Recipe, *, token: str | None = None
    ) -> tuple[Image, Version]:
        return self._begin(await self.get(caller, name), recipe)

    async def get(self, caller: Caller, name: str) -> Image:
        if name not in self.images:
            raise NotFound(f"no image {name!r}")
        return self.images[name]

    async def list(
        self, caller: Caller, *, after: str | None = None, limit: int = 50
    ) -> Page[Image]:
        rest = sorted(name for name in self.images if name > (after or ""))
        page = rest[:2]  # so that there are pages
        items = tuple(self.images[name] for name in page)
        return Page(items=items, after=page[-1] if len(rest) > len(page) else None)

    async def delete(self, caller: Caller, name: str) -> Image:
        gone = replace(await self.get(caller, name), state=ImageState.DELETING)
        self.images[name] = gone
        return gone

    async def version(self, caller: Caller, name: str, number: int) -> Version:
        image = await self.get(caller, name)
        for one in self.made:
            if (one.image_id, one.number) == (image.id, number):
                return one
        raise NotFound(f"no version {number}")

    async def versions(
        self, caller: Caller, name: str, *, after: str | None = None, limit: int = 50
    ) -> Page[Version]:
        image = await self.get(caller, name)
        return Page(items=tuple(one for one in self.made[::-1] if one.image_id == image.id))

    async def set_status(
        self, caller: Caller, name: str, number: int, status: VersionStatus
    ) -> Version:
        at = self.made.index(await self.version(caller, name, number))
        self.made[at] = replace(self.made[at], status=status)
        return self.made[at]

    async def delete_version(self, caller: Caller, name: str, number: int) -> Version:
        gone = await self.version(caller, name, number)
        self.made.remove(gone)
        return replace(gone, state=VersionState.DELETING)

    async def build(self, caller: Caller, build_id: str) -> Stored:
        for build in self.under_way:
            if build.id == build_id:
                image = self.images[build.image_id.removeprefix("id-")]
                version = await self.version(caller, image.name, build.version)
                return Stored(image=image, version=version, build=build)
        raise NotFound(f"no build {build_id}")

    async def builds(
        self,
        caller: Caller,
        name: str,
        number: int,
        *,
        after: str | None = None,
        limit: int = 50,
    ) -> Page[Build]:
        made = await self.version(caller, name, number)
        of_it = (made.image_id, made.number)
        return Page(items=tuple(it for it in self.under_way if (it.image_id, it.version) == of_it))

    async def cancel(self, caller: Caller, build_id: str) -> Build:
        await self.build(caller, build_id)
        self.outcome = FailureCode.CANCELLED
        self.end(build_id)
        return (await self.build(caller, build_id)).build

    async def log(self, caller: Caller, build_id: str) -> FakeLog:
        await self.build(caller, build_id)
        return self.logs[build_id]

    async def tag(self, caller: Caller, name: str, tags: Mapping[str, str]) -> Image:
        image = self.images[name]
        self.images[name] = replace(image, tags={**image.tags, **tags})
        return self.images[name]

    def end(self, build_id: str) -> None:
        """End a build as `outcome` says."""
        ok = self.outcome == "ok"
        at = next(at for at, one in enumerate(self.under_way) if one.id == build_id)
        build = self.under_way[at] = replace(
            self.under_way[at],
            state=BuildState.SUCCESSFUL if ok else BuildState.FAILED,
            code=None if ok else self.outcome,
            reason=None if ok else "the RUN on line 2 failed",
            sizes=Sizes(memory=3 << 20, code=2 << 20, disk=1 << 20) if ok else None,
            started_at=2.0,
            ended_at=12.0,
        )
        root = Root(disks=(), main=Main(), managed=True, bytes=2 << 20, notes=("a note",))
        for place, version in enumerate(self.made):
            if (version.image_id, version.number) == (build.image_id, build.version):
                self.made[place] = replace(
                    version,
                    root=root if ok else None,
                    state=VersionState.SUCCESSFUL if ok else VersionState.FAILED,
                    status=VersionStatus.ACTIVE if ok else VersionStatus.INACTIVE,
                )
        name = build.image_id.removeprefix("id-")
        self.images[name] = replace(
            self.images[name],
            state=ImageState.CREATED if ok else ImageState.CREATE_FAILED,
            latest_active=build.version if ok else None,
        )
        self.logs[build_id].text += b"done\n" if ok else b"it failed\n"
        self.logs[build_id].over = True

    def _begin(self, image: Image, recipe: Recipe) -> tuple[Image, Version]:
        number = image.versions + 1
        self.images[image.name] = replace(image, versions=number)
        version = Version(
            image_id=image.id, number=number, recipe=recipe, created_at=1.0, updated_at=1.0
        )
        self.made.append(version)
        build = Build(
            id=f"00000000-0000-0000-0000-{len(self.under_way):012}",
            image_id=image.id,
            version=number,
            step="building",
            created_at=1.0,
            state=BuildState.IN_PROGRESS,
        )
        self.under_way.append(build)
        self.logs[build.id] = FakeLog()
        if self.outcome is not None:
            self.end(build.id)
        return self.images[image.name], version
