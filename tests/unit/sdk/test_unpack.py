"""Tar streams of a hostile guest touch nothing outside their directory."""

import contextlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emberkeep_sdk import GuestError
from emberkeep_sdk._pack import pack
from emberkeep_sdk._unpack import Unpacked, Unpacker

NAMES = st.sampled_from(
    ["a", "b", "a/b", "b/a", "a/b/a", ".", "..", "../x", "/x", "a/../b", "é" * 120]
)
TARGETS = st.sampled_from(["a", "b", "..", "../..", "a/..", "b/..", "/etc", "../x", "a/b", "."])
KINDS = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
)


def tar_of(*members: tuple[bytes, str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for kind, name, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            info.mode = 0o4755
            content = b"content of " + name.encode()
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def unpack(target: Path, stream: bytes, *, step: int = 1 << 20) -> Unpacked:
    with Unpacker(target) as unpacker:
        for at in range(0, len(stream), step):
            unpacker.feed(stream[at : at + step])
        return unpacker.finish()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "outer" / "target"
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("step", [1, 511, 512, 513, 1 << 20])
def test_what_was_packed_comes_out(tmp_path: Path, target: Path, step: int):
    source = tmp_path / "source"
    (source / "deep" / ("long" * 40)).mkdir(parents=True)
    (source / "deep" / "x.bin").write_bytes(os.urandom(70_000))
    (source / "deep" / ("long" * 40) / "é").write_text("text")
    (source / "empty").touch(mode=0o640)
    (source / "tool").write_text("#!")
    (source / "tool").chmod(0o755)
    (source / "link").symlink_to("deep/x.bin")
    (source / "up").joinpath("..").parent.mkdir()
    (source / "up" / "back").symlink_to("../tool")

    stream = b"".join(pack(source))
    done = unpack(target, stream, step=step if len(stream) < 200_000 or step > 1 else 7)

    for path in source.rglob("*"):
        made = target / path.relative_to(source)
        assert made.is_symlink() == path.is_symlink()
        if path.is_file():
            assert made.read_bytes() == path.read_bytes()
    assert (target / "tool").stat().st_mode & 0o777 == 0o755
    assert str((target / "up" / "back").readlink()) == "../tool"
    assert done.skipped == 0


def test_the_tar_is_one_that_others_can_read(tmp_path: Path):
    (tmp_path / "f").write_text("hello")

    with tarfile.open(fileobj=io.BytesIO(b"".join(pack(tmp_path)))) as tar:
        assert tar.getnames() == [".", "f"]
        assert tar.extractfile("f").read() == b"hello"


def test_hard_links_stay_links(target: Path):
    unpack(target, tar_of((tarfile.REGTYPE, "a", ""), (tarfile.LNKTYPE, "d/b", "a")))

    assert (target / "d" / "b").read_bytes() == b"content of a"


@pytest.mark.parametrize("link", ["/etc", "..", "../..", "a/../../x", "sub/../.."])
def test_links_that_lead_out_are_left_out(target: Path, link: str):
    done = unpack(target, tar_of((tarfile.SYMTYPE, "l", link), (tarfile.REGTYPE, "f", "")))

    assert done.skipped == 1
    assert [path.name for path in target.iterdir()] == ["f"]


def test_nothing_is_written_through_a_link(target: Path):
    stream = tar_of(
        (tarfile.DIRTYPE, "d", ""), (tarfile.SYMTYPE, "l", "d"), (tarfile.REGTYPE, "l/f", "")
    )

    with pytest.raises(GuestError, match="l/f"):
        unpack(target, stream)
    assert list((target / "d").iterdir()) == []


def test_a_link_of_the_user_is_replaced_not_followed(target: Path):
    outside = target.parent / "precious"
    outside.write_text("mine")
    (target / "a").symlink_to(outside)

    unpack(target, tar_of((tarfile.REGTYPE, "a", "")))

    assert outside.read_text() == "mine"
    assert (target / "a").read_text() == "content of a"


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "d/" * 200 + "f"])
def test_names_that_lead_out_are_refused(target: Path, name: str):
    with pytest.raises(GuestError):
        unpack(target, tar_of((tarfile.REGTYPE, name, "")))


def test_a_stream_that_is_cut_says_so(target: Path):
    stream = tar_of((tarfile.REGTYPE, "a", ""))

    with pytest.raises(GuestError, match="too early"):
        unpack(target, stream[:700])


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(members=st.lists(st.tuples(KINDS, NAMES, TARGETS), max_size=8))
def test_whatever_the_members_nothing_leads_out(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[bytes, str, str]]
):
    outer = tmp_path_factory.mktemp("outer")
    target = outer / "in" / "target"
    target.mkdir(parents=True)

    with contextlib.suppress(GuestError):
        unpack(target, tar_of(*members))

    assert [path.name for path in outer.rglob("*") if target not in (path, *path.parents)] == ["in"]
    for path in target.rglob("*"):
        assert Path(os.path.realpath(path)).is_relative_to(target)
        assert path.lstat().st_mode & 0o7000 == 0 or path.is_dir()


@settings(max_examples=300, deadline=None)
@given(noise=st.binary(max_size=3000), at=st.integers(0, 4000), step=st.integers(1, 700))
def test_noise_ends_in_an_error_of_ours_or_in_files(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int, step: int
):
    target = tmp_path_factory.mktemp("noise")
    good = tar_of((tarfile.REGTYPE, "é" * 90, ""), (tarfile.SYMTYPE, "l", "x" * 150))
    stream = good[:at] + noise + good[at + len(noise) :]

    with contextlib.suppress(GuestError):
        unpack(target, stream, step=step)
