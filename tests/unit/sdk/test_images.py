"""Images through the SDK and the real API: sent, built, looked at, switched, removed."""

import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberkeep.domain.images import FailureCode
from emberkeep.domain.images import Hooks as DomainHooks
from emberkeep.domain.units import Memory
from emberkeep_sdk import BuildFailed, Emberkeep, Hooks, Invalid, NotFound
from tests.fakes.catalogue import FakeImages
from tests.unit.sdk.serving import KEY, Serving, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path / "node") as it:
        yield it


@pytest.fixture
def ek(server: Serving) -> Iterator[Emberkeep]:
    with Emberkeep(server.endpoint, api_key=KEY) as client:
        yield client


@pytest.fixture
def images(server: Serving) -> FakeImages:
    return server.images


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM debian-12\n")
    return folder


def test_a_folder_is_sent_and_built(ek: Emberkeep, images: FakeImages, app: Path, tmp_path: Path):
    said: list[str] = []

    build = ek.images.build(
        app, name="web", memory="1 GiB", environment={"A": "1"}, egress="none",
        hooks=Hooks(port=8080, ready=60, validate=True, run=True, suspend=False),
        capabilities=["ALL"], description="first", tags={"team": "blue"}, tell=said.append,
    )  # fmt: skip

    assert (build.ref, build.ok, build.state) == ("web:1", True, "SUCCESSFUL")
    assert build.sizes
    assert (build.sizes.memory, build.sizes.code) == (3 << 20, 2 << 20)
    assert "".join(said) == "STEP 1: FROM debian-12\ndone\n"
    recipe = images.made[0].recipe
    assert recipe.memory == Memory(1024)
    assert recipe.environment == {"A": "1"}
    assert recipe.egress is not None
    assert recipe.egress.kind == "none"
    assert recipe.hooks == DomainHooks(port=8080, ready=60, validate=30, run=1)
    assert recipe.every_capability
    assert images.images["web"].tags == {"team": "blue"}
    sent = tmp_path / "node" / "uploads" / recipe.code.removeprefix("blob:")
    with zipfile.ZipFile(sent) as found:
        assert found.read("Dockerfile") == b"FROM debian-12\n"


def test_the_same_folder_is_sent_once(ek: Emberkeep, images: FakeImages, app: Path, tmp_path: Path):
    ek.images.build(app, name="web")
    uploads = list((tmp_path / "node" / "uploads").glob("?" * 64))
    before = uploads[0].stat().st_ino

    again = ek.images.build(app, name="web", tags={"a": "b"})

    assert again.ref == "web:2"
    assert images.made[0].recipe.code == images.made[1].recipe.code
    assert uploads[0].stat().st_ino == before
    assert images.images["web"].tags == {"a": "b"}


def test_s3_is_left_to_the_server(ek: Emberkeep, images: FakeImages):
    ek.images.build("s3://bucket/some/app.zip", name="web")

    assert images.made[0].recipe.code == "s3://bucket/some/app.zip"


def test_a_failure_says_why_and_has_the_log(ek: Emberkeep, images: FakeImages, app: Path):
    images.outcome = FailureCode.CONTAINER_BUILD_FAILED

    with pytest.raises(BuildFailed, match="the RUN on line 2 failed") as caught:
        ek.images.build(app, name="web")

    assert caught.value.build.code == "CONTAINER_BUILD_FAILED"
    assert caught.value.log.endswith("it failed\n")
    assert ek.images.versions("web")[0].state == "FAILED"


def test_a_build_is_followed_until_its_end(ek: Emberkeep, images: FakeImages, app: Path):
    images.outcome = None
    begun = ek.images.build(app, name="web", wait=False)
    assert (begun.over, begun.step) == (False, "building")
    seen = threading.Event()

    def end() -> None:
        seen.wait(10)
        images.outcome = "ok"
        images.end(begun.id)

    thread = threading.Thread(target=end)
    thread.start()
    said: list[str] = []
    assert ek.images.wait(begun, tell=lambda text: (said.append(text), seen.set())).ok
    thread.join()
    assert "".join(said) == "STEP 1: FROM debian-12\ndone\n"


def test_a_log_that_lost_its_middle_says_so(ek: Emberkeep, images: FakeImages, app: Path):
    build = ek.images.build(app, name="web")
    images.logs[build.id].skipped = 5000

    with ek.images.log(build.id) as pieces:
        assert b"".join(pieces).startswith(b"\n[5000 bytes are left out here]\n")
    with ek.images.log(build.id, offset=8) as pieces:
        assert b"".join(pieces) == b"FROM debian-12\ndone\n"


def test_cancelled(ek: Emberkeep, images: FakeImages, app: Path):
    images.outcome = None
    begun = ek.images.build(app, name="web", wait=False)

    assert ek.images.cancel(begun.id).code == "CANCELLED"
    with pytest.raises(BuildFailed):
        ek.images.wait(begun)


def test_images_and_versions_are_listed(ek: Emberkeep, app: Path):
    for name in ("one", "two", "three"):
        ek.images.build(app, name=name)
    ek.images.build(app, name="two")

    assert [(one.name, one.kind) for one in ek.images()] == [
        ("debian-12", "base"), ("one", "built"), ("three", "built"), ("two", "built"),
    ]  # fmt: skip
    assert [one.ref for one in ek.images.versions("two")] == ["two:2", "two:1"]
    assert [one.ref for one in ek.images.builds("two")] == ["two:2", "two:1"]
    assert [one.ref for one in ek.images.builds("two:1")] == ["two:1"]
    assert ek.images.get("debian-12").digest == "d1"
    newest = ek.images.version("two")
    assert (newest.ref, newest.bytes, newest.notes) == ("two:2", 2 << 20, ["a note"])


def test_versions_are_switched_and_removed(ek: Emberkeep, images: FakeImages, app: Path):
    ek.images.build(app, name="web")
    ek.images.build(app, name="web")

    assert ek.images.deactivate("web:1").status == "INACTIVE"
    assert ek.images.activate("web:1.0").status == "ACTIVE"
    ek.images.delete("web:1")
    assert [one.ref for one in ek.images.versions("web")] == ["web:2"]
    ek.images.delete("web")
    assert ek.images.get("web").state == "DELETING"


def test_what_is_not_there(ek: Emberkeep, server: Serving, app: Path):
    with pytest.raises(NotFound):
        ek.images.get("nothing")
    with pytest.raises(NotFound):
        ek.images.version("nothing:1")
    with pytest.raises(Invalid, match="not an image"):
        ek.images.version("web:new")
    with pytest.raises(NotFound, match="nothing was uploaded"):
        ek._http.call("POST", "/v1/images", body={"name": "web", "code": f"blob:{'0' * 64}"})
    with pytest.raises(Exception, match="server's own"):
        ek.images.build(app, name="debian-12")
    with pytest.raises(Invalid, match="at which port"):
        ek.images.build(app, name="web", hooks=Hooks(ready=True))
    assert server.images.made == []


def test_an_archive_is_imported(ek: Emberkeep, tmp_path: Path):
    archive = tmp_path / "image.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("oci-layout", "index.json"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())

    assert ek.images.import_archive(archive, name="web").ref == "web:1"
