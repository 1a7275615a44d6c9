"""Images: built, looked at, switched on and off, removed."""

import os
import time
from codecs import getincrementaldecoder
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from typing import Any, Final

from emberkeep_sdk._async.http import AsyncHttp, as_type, path_of
from emberkeep_sdk._context import Packed, packed, packed_image
from emberkeep_sdk._errors import BuildFailed, Conflict, NotFound
from emberkeep_sdk._images import Build, Hooks, Image, ImageVersion, Wish, parts_of
from emberkeep_sdk._io.asynchronous import in_thread, pieces

Source = str | os.PathLike[str]
Tell = Callable[[str], object]

_PIECE: Final = 256 * 1024
_TAIL: Final = 4000  # characters of a log that an error carries
_PAUSE_S: Final = 0.3


class AsyncImages:
    """`ek.images`: what microVMs are launched from. Called, it lists them."""

    def __init__(self, http: AsyncHttp) -> None:
        self._http = http

    async def __call__(self) -> Sequence[Image]:
        """Return the images there are; the same as `list`."""
        return await self.list()

    async def get(self, name: str) -> Image:
        """Return an image by its name."""
        return as_type(await self._http.call("GET", path_of("images", name)), Image)

    async def build(  # noqa: PLR0913  the words of an image
        self,
        source: Source,
        *,
        name: str,
        memory: int | str | None = None,
        environment: Mapping[str, str] | None = None,
        hooks: Hooks | None = None,
        egress: str | Sequence[str] | None = None,
        capabilities: Sequence[str] = (),
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        wait: bool = True,
        tell: Tell | None = None,
    ) -> Build:
        """Make a version of the image `name` from a folder with a Dockerfile, or a zip of one.

        `source` may also be "s3://BUCKET/KEY", which the server fetches. The image is made if there
        is none of the name. `memory` is what its microVMs get, in MiB or such as "2 GiB"; `egress`
        what the build may reach, and its microVMs unless they are launched with another;
        `capabilities` may be ["ALL"].

        Returns when it can be launched, or raises `BuildFailed`; `tell` is given the log as it
        grows. With `wait=False` returns at once.
        """
        wish = Wish(
            name=name, memory=memory, environment=environment, hooks=hooks, egress=egress,
            capabilities=capabilities, description=description, tags=tags,
        )  # fmt: skip
        if isinstance(source, str) and source.startswith("s3://"):
            begun = await self._begin(wish, source)
        else:
            begun = await self._begin(wish, await self._uploaded(packed(source)))
        return await self.wait(begun, tell=tell) if wait else begun

    async def import_archive(  # noqa: PLR0913  the words of an image
        self,
        archive: Source,
        *,
        name: str,
        memory: int | str | None = None,
        environment: Mapping[str, str] | None = None,
        hooks: Hooks | None = None,
        egress: str | Sequence[str] | None = None,
        capabilities: Sequence[str] = (),
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        wait: bool = True,
        tell: Tell | None = None,
    ) -> Build:
        """Make a version of the image `name` from an image that is there already.

        `archive` is an OCI archive, an OCI layout (a folder) or what `docker save` writes; the rest
        is as with `build`.
        """
        wish = Wish(
            name=name, memory=memory, environment=environment, hooks=hooks, egress=egress,
            capabilities=capabilities, description=description, tags=tags,
        )  # fmt: skip
        begun = await self._begin(wish, await self._uploaded(packed_image(archive)))
        return await self.wait(begun, tell=tell) if wait else begun

    async def wait(self, build: Build | str, *, tell: Tell | None = None) -> Build:
        """Return a build when it is over; raise `BuildFailed` if it failed.

        `tell` is given its log, from the start, as it grows.
        """
        build_id = build if isinstance(build, str) else build.id
        offset, tail = 0, ""
        decoder = getincrementaldecoder("utf-8")("replace")
        while True:
            async with self.log(build_id, offset=offset, follow=True) as chunks:
                async for chunk in chunks:
                    offset += len(chunk)
                    text = decoder.decode(chunk)
                    tail = (tail + text)[-_TAIL:]
                    if tell is not None:
                        tell(text)
            found = await self.get_build(build_id)
            if found.over:
                return _checked(found, tail)
            await in_thread(time.sleep, _PAUSE_S)

    async def get_build(self, build_id: str) -> Build:
        """Return a build by its id."""
        return as_type(await self._http.call("GET", path_of("builds", build_id)), Build)

    async def builds(self, ref: str) -> Sequence[Build]:
        """Return the builds of an image ("NAME") or of a version ("NAME:3"), newest first."""
        name, version = parts_of(ref)
        params = {"version": version}
        answer = await self._http.call("GET", path_of("images", name, "builds"), params=params)
        return [as_type(one, Build) for one in _items(answer, "builds")]

    async def cancel(self, build_id: str) -> Build:
        """End a build that is not over; its version is FAILED then."""
        return as_type(await self._http.call("POST", path_of("builds", build_id, "cancel")), Build)

    def log(
        self, build_id: str, *, offset: int = 0, follow: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Lend the log of a build from byte `offset` on; with `follow` until the build is over."""
        params = {"offset": offset, "follow": "true" if follow else None}
        path = path_of("builds", build_id, "log")
        return self._http.download(path, params=params, patient=follow)

    async def versions(self, name: str) -> Sequence[ImageVersion]:
        """Return the versions of an image, newest first."""
        answer = await self._http.call("GET", path_of("images", name, "versions"))
        return [as_type(one, ImageVersion) for one in _items(answer, "versions")]

    async def version(self, ref: str) -> ImageVersion:
        """Return a version by "NAME:3"; by "NAME" the newest that can be launched."""
        return as_type(await self._http.call("GET", await self._path(ref)), ImageVersion)

    async def activate(self, ref: str) -> ImageVersion:
        """Let a version ("NAME:3") be launched again."""
        return await self._set(ref, "ACTIVE")

    async def deactivate(self, ref: str) -> ImageVersion:
        """Let a version ("NAME:3") be launched no more; its microVMs go on."""
        return await self._set(ref, "INACTIVE")

    async def delete(self, ref: str) -> None:
        """Remove an image ("NAME") with all its versions, or one version ("NAME:3").

        It returns when that has begun. No microVM of it may be alive.
        """
        name, version = parts_of(ref)
        more = () if version is None else ("versions", str(version))
        await self._http.call("DELETE", path_of("images", name, *more))

    async def _set(self, ref: str, status: str) -> ImageVersion:
        path = await self._path(ref)
        body = {"status": status}
        return as_type(await self._http.call("PATCH", path, body=body), ImageVersion)

    async def _path(self, ref: str) -> str:
        name, version = parts_of(ref)
        if version is None:
            version = (await self.get(name)).latest_active
        if version is None:
            raise Conflict(
                f"image {name} has no version that can be launched",
                hint=f"see why: emberkeep images versions {name}",
            )
        return path_of("images", name, "versions", str(version))

    async def _begin(self, wish: Wish, code: str) -> Build:
        answer = await self._http.call("POST", path_of("images"), body=wish.body(code))
        return as_type(as_type(answer, dict[str, Any]).get("build"), Build)

    async def _uploaded(self, source: AbstractContextManager[Packed]) -> str:
        """Send a zip, unless the server has it, and return what a build calls it."""
        with ExitStack() as held:
            zipped = await in_thread(held.enter_context, source)
            try:
                await self._http.call("GET", path_of("uploads", zipped.digest))
            except NotFound:
                chunks = pieces(zipped.file, _PIECE)
                params = {"digest": zipped.digest}
                await self._http.upload(path_of("uploads"), chunks, params=params)
            return f"blob:{zipped.digest}"

    async def list(self) -> list[Image]:
        """Return the images there are: the server's own first, then by name."""
        answer = await self._http.call("GET", path_of("images"))
        return [as_type(one, Image) for one in _items(answer, "images")]


def _items(answer: object, name: str) -> Sequence[Any]:
    found = answer.get(name, []) if isinstance(answer, dict) else answer
    return as_type(found, list[Any])


def _checked(build: Build, tail: str) -> Build:
    if build.ok:
        return build
    raise BuildFailed(
        f"building {build.ref} failed: {build.reason or build.code or 'no reason is known'}",
        build=build,
        log=tail,
        hint=f"its whole log: emberkeep images logs {build.id}",
    )
