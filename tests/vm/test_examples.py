"""What `make run` shows, as tests: images are built from a Dockerfile, launched, and answer."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberkeep_sdk import BuildFailed, Emberkeep, NotFound
from tests.vm.examples import FLASK, FOLDER, STATIC, Example, Site
from tests.vm.servers import Server

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900, func_only=True)]


@pytest.fixture(
    params=[FLASK, pytest.param(STATIC, marks=pytest.mark.bars)], ids=lambda one: one.name
)
def example(request: pytest.FixtureRequest, ek: Emberkeep) -> Iterator[Example]:
    """Return an example whose packages can be had; its image is removed at the end."""
    one: Example = request.param
    one.skip_unless_reachable()
    yield one
    ek.images.delete(one.name)


def test_an_example_is_built_launched_and_answers(example: Example, ek: Emberkeep, server: Server):
    ref = example.build(ek)

    version = ek.images.version(ref)
    assert (version.state, version.status) == ("SUCCESSFUL", "ACTIVE")
    assert ek.images.builds(ref)[0].sizes.memory > 1 << 20
    log = server.cli("images", "logs", ref)
    assert "STEP" in log.stdout, log.stderr
    with ek.launch(example.name, name=f"my-{example.name}") as vm:
        assert vm.facts.memory_mib == example.memory
        example.check(Site.of(ek, vm))


def test_a_build_that_fails_says_where(ek: Emberkeep, tmp_path: Path):
    folder = tmp_path / "app"
    shutil.copytree(FOLDER / "repl", folder)
    with (folder / "Dockerfile").open("a") as file:
        file.write("RUN echo about to fail && exit 7\n")

    with pytest.raises(BuildFailed) as caught:
        ek.images.build(folder, name="broken")

    assert caught.value.build.code == "CONTAINER_BUILD_FAILED"
    assert "exit 7" in (caught.value.build.reason or "")
    assert "about to fail" in caught.value.log
    with pytest.raises(Exception, match="active"):
        ek.launch("broken")
    ek.images.delete("broken")
    with pytest.raises(NotFound):
        ek.launch("nothing-of-the-kind")
