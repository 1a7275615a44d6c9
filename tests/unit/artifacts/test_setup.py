"""A whole setup, as far as it goes without a network."""

import asyncio
import shutil
from pathlib import Path

import pytest

from emberkeep.artifacts import ALL, Artifacts, ArtifactSettings, Event, packages, setup, wanted
from emberkeep.artifacts.command import Commands
from emberkeep.base import proc
from emberkeep.base.aio import beside
from emberkeep.domain.errors import Invalid, Unavailable


def test_what_configuration_brings_is_not_made():
    assert wanted(kernel=None, initramfs=None) == ALL
    assert wanted(kernel=Path("/k"), initramfs=None) == (
        "initramfs", "agent", "image/debian-12", "builder",
    )  # fmt: skip
    assert wanted(kernel=Path("/k"), initramfs=Path("/i")) == (
        "agent", "image/debian-12", "builder",
    )  # fmt: skip


async def test_an_unknown_artifact_is_refused(tmp_path):
    with pytest.raises(Unavailable, match="there is no artifact image/other"):
        await Artifacts(tmp_path).build(["image/other"], lambda _: None, ArtifactSettings())


async def test_a_bad_certificate_is_refused_before_anything_else(tmp_path):
    settings = ArtifactSettings(extra_ca_file=tmp_path / "none.pem")

    with pytest.raises(Invalid, match=r"none\.pem"):
        await Artifacts(tmp_path).build(["image/debian-12"], lambda _: None, settings)


async def test_an_unreachable_mirror_is_called_so(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "DEFAULT_SECURITY", "http://127.0.0.1:9/debian-security")
    events: list[Event] = []
    settings = ArtifactSettings(mirror="http://127.0.0.1:9/debian")

    with pytest.raises(Unavailable) as caught:
        await Artifacts(tmp_path).build(["kernel"], events.append, settings)

    assert "images.mirror" in caught.value.hint
    assert [event.phase for event in events][-1] == "failed"


async def test_a_cancelled_setup_ends_its_tools(tmp_path, monkeypatch):
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def chain(shop, *_):
        loop.call_soon_threadsafe(begun.set)
        shop.commands.run(["sleep", "60"])

    monkeypatch.setattr(setup, "_image", chain)

    async def build() -> None:
        await Artifacts(tmp_path).build(["image/debian-12"], lambda _: None, ArtifactSettings())

    async with asyncio.timeout(20):
        async with beside(build()):
            await begun.wait()
        await Artifacts(tmp_path).build([], lambda _: None, ArtifactSettings())  # the lock is free


@pytest.mark.skipif(not shutil.which("busybox"), reason="needs busybox")
def test_init_is_a_script_that_busybox_can_read():
    init = Path(setup.__file__).with_name("init.sh")

    assert proc.run(["busybox", "sh", "-n", str(init)]).ok


def test_commands_are_found_in_sbin_too():
    assert Commands().run(["sh", "-c", "command -v ldconfig"]).endswith("ldconfig")
