"""What people may call an image, and what a node is told of it."""

from dataclasses import replace

import pytest

from emberkeep.control.sources import ImageSources, Ref, source_of
from emberkeep.domain.errors import Invalid, NotFound
from emberkeep.domain.images import Hooks, Main, Root, Source, VersionStatus
from emberkeep.domain.records import Caller
from emberkeep.domain.units import Memory, Size
from tests.fakes.images import FakeTools, recipe
from tests.fakes.values import microvm
from tests.unit.control.conftest import ME, Open, settled

ARN = "arn:aws:lambda:eu-west-1:000000000000:microvm-image:web"
BASE = Source(
    image="debian-12",
    key="debian-12",
    root=Root(disks=(("image", "d" * 64),), main=Main(), managed=True, bytes=0),
)


class Bases:
    """The base images, as the node knows them."""

    async def find(self, ref: str, account: str) -> Source:
        if ref != BASE.image:
            raise NotFound(f"there is no image {ref}")
        return BASE

    async def of(self, vm: object) -> Source:
        return BASE


@pytest.fixture
async def sources(open_images: Open):
    """Two versions of `web`, the second one retired."""
    async with open_images() as images:
        await images.create(Caller(region="eu-west-1"), "web", recipe(environment={"A": "b"}))
        await settled(images, "web")
        await images.update(ME, "web", recipe(memory=Memory(4096), hooks=Hooks(port=1, ready=2)))
        await settled(images, "web")
        await images.set_status(ME, "web", 2, VersionStatus.INACTIVE)
        found = ImageSources(images._records, Bases())
        found.control = images
        yield found


@pytest.mark.parametrize("ref", ["web", "web:1", "web:1.0", ARN, ARN + ":1.0"])
async def test_the_newest_active_version_is_meant(sources, ref: str):
    source = await sources.find(ref, ME.account)

    assert (source.image, source.version, source.account) == ("web", 1, ME.account)
    assert source.size == Size(Memory(2048), 1)
    assert source.root.main.env == {
        "PATH": "/bin",
        "A": "b",
        "AWS_LAMBDA_MICROVM_IMAGE_NAME": "web",
        "AWS_LAMBDA_MICROVM_IMAGE_ARN": ARN,
        "AWS_LAMBDA_MICROVM_IMAGE_VERSION": "1.0",
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_LAMBDA_MICROVMS": "http://169.254.169.254:9700",
        "AWS_ENDPOINT_URL_LAMBDA_CORE": "http://169.254.169.254:9700",
    }


async def test_an_image_may_know_another_way_to_the_api(open_images: Open):
    elsewhere = {"AWS_ENDPOINT_URL_LAMBDA_MICROVMS": "https://api.example.com"}
    async with open_images() as images:
        await images.create(Caller(region="eu-west-1"), "web", recipe(environment=elsewhere))
        await settled(images, "web")
        source = await ImageSources(images._records, Bases()).find("web", ME.account)

    assert source.root.main.env.items() >= elsewhere.items()


async def test_what_the_recipe_says_goes_into_the_source(sources):
    await sources.control.set_status(ME, "web", 2, VersionStatus.ACTIVE)
    source = await sources.find("web", ME.account)

    assert (source.version, source.hooks) == (2, Hooks(port=1, ready=2))
    assert source.size == Size(Memory(4096), 2)
    assert source.key == f"{(await sources.control.get(ME, 'web')).id}.2"


@pytest.mark.parametrize(
    ("ref", "text"),
    [
        ("web:2", "image arn:aws:lambda:us-east-1:000000000000:microvm-image:web and version 2.0"),
        ("web:9", "No active version found for MicroVM image"),
        (
            ARN.replace("web", "other"),
            "No active version found for MicroVM image arn:aws:lambda:eu",
        ),
        (ARN.replace("000000000000", "111111111111"), "No active version found"),
        ("nothing", "there is no image"),
        (
            "debian-12:99",
            "image arn:aws:lambda:us-east-1:aws:microvm-image:debian-12 and version 99.0",
        ),
        (
            "arn:aws:lambda:eu-west-1:aws:microvm-image:al2023-1:2",
            "image arn:aws:lambda:eu-west-1:aws:microvm-image:al2023-1 and version 2.0",
        ),
    ],
)
async def test_what_cannot_be_launched_is_not_found(sources, ref: str, text: str):
    with pytest.raises(NotFound) as refused:
        await sources.find(ref, ME.account)
    assert text in refused.value.message


async def test_another_account_sees_nothing(sources):
    for ref in ("web", ARN):
        with pytest.raises(NotFound):
            await sources.find(ref, "111111111111")


@pytest.mark.parametrize(
    "ref", ["debian-12", "arn:aws:lambda:us-east-1:aws:microvm-image:debian-12"]
)
async def test_base_images_are_everybodys(sources, ref: str):
    assert await sources.find(ref, "111111111111") == BASE


async def test_an_own_image_comes_before_a_base_image_of_its_name(sources):
    await sources.control.create(ME, "debian-12", recipe())
    await settled(sources.control, "debian-12")

    assert (await sources.find("debian-12", ME.account)).version == 1
    assert await sources.find("debian-12", "111111111111") == BASE


async def test_what_a_microvm_was_launched_from_is_found_again(sources):
    image = await sources.control.get(ME, "web")
    vm = microvm(image="web", image_key=f"{image.id}.2", image_version=2)
    retired = await sources.of(vm)  # it may be resumed all the same

    assert (retired.version, retired.key) == (2, vm.image_key)
    assert await sources.of(microvm()) == BASE
    with pytest.raises(NotFound):
        await sources.of(microvm(image="web", image_key=f"{image.id}.7", image_version=7))


@pytest.mark.parametrize(
    "text", ["", "a b", "web:", "web:x", "web:1.5", "arn:aws:s3:::x", "a" * 65]
)
def test_what_is_no_reference(text: str):
    with pytest.raises(Invalid):
        Ref.parse(text)


async def test_a_version_without_a_root_is_no_source(images, tools: FakeTools):
    tools.fate["archive"] = RuntimeError()
    image, version = await images.create(ME, "web", recipe())
    with pytest.raises(NotFound):
        source_of(image, version)


@pytest.mark.parametrize(
    "ref", ["al2023-1", "arn:aws:lambda:eu-west-1:aws:microvm-image:al2023-1:0", "debian-12:1.0"]
)
async def test_managed_images_run_what_stands_in_for_them(sources, ref: str):
    source = await sources.find(ref, ME.account)
    vm = replace(microvm(1), image=source.image, image_key=source.key, image_version=None)

    assert source == replace(BASE, image="debian-12" if "debian" in ref else "al2023-1")
    assert await sources.of(vm) == source
