"""Operations on images, their versions and builds, and on what is uploaded to be built."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from starlette.requests import Request

from emberkeep.api.context import Chunk, Images, Log
from emberkeep.api.guard import caller_of
from emberkeep.api.operations import Call
from emberkeep.api.recipes import (
    BegunBody,
    BuildBody,
    BuildRequest,
    BuildsBody,
    DigestQuery,
    ImageBody,
    ImagesBody,
    LogPlace,
    StatusRequest,
    UploadBody,
    VersionBody,
    VersionsBody,
    Which,
)
from emberkeep.api.streamed import Streamed
from emberkeep.base.aio import in_thread
from emberkeep.blobs.uploads import PREFIX, Upload, Uploads
from emberkeep.domain.errors import Conflict, NotFound, Unavailable
from emberkeep.domain.images import Image, Version
from emberkeep.domain.records import Caller, Stored

_PAGE: Final = 200
_UNCACHED: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


async def listed(call: Call[None, None]) -> ImagesBody:
    """List the images that can be launched: the server's own, then those that were built."""
    found = [ImageBody.base(one) for one in await call.context.node.images()]
    if call.context.images is not None:
        found += [ImageBody.of(one) for one in await _all(call.context.images, _caller(call))]
    return ImagesBody(images=found)


async def show(call: Call[None, None]) -> ImageBody:
    """Describe an image."""
    for one in await call.context.node.images():
        if one.name == call.ref:
            return ImageBody.base(one)
    return ImageBody.of(await _images(call).get(_caller(call), call.ref))


async def build(call: Call[None, BuildRequest]) -> BegunBody:
    """Begin a version of an image, which is made if there is none of the name."""
    wanted = call.body
    if wanted.code.startswith(PREFIX):
        await in_thread(_uploads(call).get, wanted.code.removeprefix(PREFIX))  # it must be there
    if wanted.name in {one.name for one in await call.context.node.images()}:
        raise Conflict(f"{wanted.name} is an image of the server's own", hint="choose another name")
    image, version = await _begun(_images(call), _caller(call), wanted)
    builds = await _images(call).builds(_caller(call), image.name, version.number)
    return BegunBody(
        image=ImageBody.of(image),
        version=VersionBody.of(image.name, version),
        build=BuildBody.of(image.name, builds.items[-1]),
    )


async def remove(call: Call[None, None]) -> ImageBody:
    """Begin to remove an image with all its versions; no microVM of it may be alive."""
    return ImageBody.of(await _images(call).delete(_caller(call), call.ref))


async def versions(call: Call[None, None]) -> VersionsBody:
    """List the versions of an image, newest first."""
    found = await _versions(_images(call), _caller(call), call.ref)
    return VersionsBody(versions=[VersionBody.of(call.ref, one) for one in found])


async def version(call: Call[None, None]) -> VersionBody:
    """Describe a version of an image."""
    found = await _images(call).version(_caller(call), call.ref, _number(call))
    return VersionBody.of(call.ref, found)


async def set_status(call: Call[None, StatusRequest]) -> VersionBody:
    """Let a version be launched, or no more; its microVMs go on."""
    number, status = _number(call), call.body.status
    found = await _images(call).set_status(_caller(call), call.ref, number, status)
    return VersionBody.of(call.ref, found)


async def remove_version(call: Call[None, None]) -> VersionBody:
    """Begin to remove a version of an image; no microVM of it may be alive."""
    found = await _images(call).delete_version(_caller(call), call.ref, _number(call))
    return VersionBody.of(call.ref, found)


async def builds(call: Call[Which, None]) -> BuildsBody:
    """List the builds of an image, or of one version of it, newest first."""
    made, caller, number = _images(call), _caller(call), call.query.version
    if number is None:
        numbers = [one.number for one in await _versions(made, caller, call.ref)]
    else:
        numbers = [number]
    found = []
    for each in numbers:
        page = await made.builds(caller, call.ref, each, limit=_PAGE)
        found += [BuildBody.of(call.ref, one) for one in reversed(page.items)]
    return BuildsBody(builds=found)


async def build_shown(call: Call[None, None]) -> BuildBody:
    """Describe a build."""
    stored = await _stored(call)
    return BuildBody.of(stored.image.name, stored.build)


async def cancel(call: Call[None, None]) -> BuildBody:
    """End a build that is not over; its version is FAILED then."""
    stored = await _stored(call)
    ended = await _images(call).cancel(_caller(call), stored.build.id)
    return BuildBody.of(stored.image.name, ended)


async def build_log(call: Call[LogPlace, None]) -> Streamed:
    """Read the log of a build; with `follow` until the build is over."""
    log = await _images(call).log(_caller(call), call.request.path_params["build"])
    place = call.query

    @asynccontextmanager
    async def content() -> AsyncGenerator[AsyncIterator[bytes]]:
        chunks = log.follow(place.offset) if place.follow else _read(log, place.offset)
        async with aclosing(chunks), aclosing(_bytes(chunks)) as pieces:
            yield pieces

    return Streamed(content, media_type="text/plain; charset=utf-8", headers=_UNCACHED)


async def upload(call: Call[DigestQuery, None]) -> UploadBody:
    """Keep a zip, so that an image can be built from it; it is dropped after a day without one."""
    kept = await _uploads(call).put(_sent(call.request), digest=call.query.digest)
    return _body(kept)


async def uploaded(call: Call[None, None]) -> UploadBody:
    """Say whether a zip is here; it is kept for another day."""
    return _body(await in_thread(_uploads(call).get, call.request.path_params["digest"]))


async def _begun(images: Images, caller: Caller, wanted: BuildRequest) -> tuple[Image, Version]:
    recipe, tags = wanted.recipe(), wanted.tags or {}
    if wanted.token is not None:  # a create whose answer was lost must not become an update
        answered = await images.created(caller, wanted.name, recipe, tags=tags, token=wanted.token)
        if answered is not None:
            return answered
    try:
        await images.get(caller, wanted.name)
    except NotFound:
        return await images.create(caller, wanted.name, recipe, tags=tags, token=wanted.token)
    begun = await images.update(caller, wanted.name, recipe, token=wanted.token)
    if wanted.tags:
        await images.tag(caller, wanted.name, wanted.tags)
    return begun


async def _stored(call: Call[None, None]) -> Stored:
    return await _images(call).build(_caller(call), call.request.path_params["build"])


async def _all(images: Images, caller: Caller) -> Sequence[Image]:
    found: list[Image] = []
    after: str | None = None
    while True:
        page = await images.list(caller, after=after, limit=_PAGE)
        found += page.items
        if page.after is None:
            return found
        after = page.after


async def _versions(images: Images, caller: Caller, name: str) -> Sequence[Version]:
    found: list[Version] = []
    after: str | None = None
    while True:
        page = await images.versions(caller, name, after=after, limit=_PAGE)
        found += page.items
        if page.after is None:
            return found
        after = page.after


async def _read(log: Log, offset: int) -> AsyncGenerator[Chunk]:
    while (chunk := await in_thread(log.read, offset)).data:
        yield chunk
        offset = chunk.end


async def _bytes(chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[bytes]:
    async for chunk in chunks:
        if chunk.skipped:
            yield b"\n[%d bytes are left out here]\n" % chunk.skipped
        yield chunk.data


def _number(call: Call[Any, Any]) -> int:
    text = call.request.path_params["version"].removesuffix(".0")
    if not text.isdecimal() or len(text) > 9:  # noqa: PLR2004  digits that no image will need
        raise NotFound(f"image {call.ref} has no version {text[:20]!r}", hint="they are numbers")
    return int(text)


def _caller(call: Call[Any, Any]) -> Caller:
    return Caller(account=caller_of(call.request).account)


def _images(call: Call[Any, Any]) -> Images:
    if call.context.images is None:
        raise Unavailable("this server builds no images")
    return call.context.images


def _uploads(call: Call[Any, Any]) -> Uploads:
    if call.context.uploads is None:
        raise Unavailable("this server builds no images")
    return call.context.uploads


def _body(kept: Upload) -> UploadBody:
    return UploadBody(digest=kept.digest, size=kept.size)


async def _sent(request: Request) -> AsyncGenerator[bytes]:
    async for chunk in request.stream():
        yield chunk
