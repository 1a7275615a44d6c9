"""What is sent to be built: the same folder gives the same zip, and what is left out is."""

import hashlib
import io
import os
import socket
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from emberkeep_sdk import Invalid
from emberkeep_sdk._context import packed, packed_image
from emberkeep_sdk._ignore import Ignored


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "app"
    (made / ".git").mkdir(parents=True)
    (made / ".git" / "HEAD").write_text("ref")
    (made / "src" / "deep").mkdir(parents=True)
    (made / "Dockerfile").write_text("FROM debian-12\n")
    (made / "src" / "run.sh").write_text("#!/bin/sh\n")
    (made / "src" / "run.sh").chmod(0o755)
    (made / "src" / "deep" / "link").symlink_to("../run.sh")
    (made / "empty").mkdir(mode=0o700)
    return made


def names(folder: Path) -> list[str]:
    with packed(folder) as made, zipfile.ZipFile(made.file) as found:
        return found.namelist()


def test_everything_is_in_it_with_modes_and_links(folder: Path):
    with packed(folder) as made, zipfile.ZipFile(made.file) as found:
        modes = {one.filename: one.external_attr >> 16 for one in found.infolist()}
        assert found.read("src/deep/link") == b"../run.sh"
        assert found.testzip() is None

    assert list(modes) == [
        ".git/", "Dockerfile", "empty/", "src/", ".git/HEAD", "src/deep/", "src/run.sh",
        "src/deep/link",
    ]  # fmt: skip
    assert modes["src/run.sh"] == stat.S_IFREG | 0o755
    assert modes["empty/"] == stat.S_IFDIR | 0o700
    assert stat.S_ISLNK(modes["src/deep/link"])


def test_the_same_folder_gives_the_same_bytes(folder: Path, tmp_path: Path):
    with packed(folder) as first:
        content = first.file.read()
    other = tmp_path / "elsewhere"
    other.mkdir()
    for name in ("src", "Dockerfile", ".git", "empty"):  # in another order
        (folder / name).rename(other / name)
    os.utime(other / "Dockerfile", (1e9, 1e9))

    with packed(other) as second:
        assert second.file.read() == content
        assert second.digest == hashlib.sha256(content).hexdigest()
        assert second.size == len(content)


def test_a_zip_is_taken_as_it_is(folder: Path, tmp_path: Path):
    path = tmp_path / "app.zip"
    with packed(folder) as made:
        path.write_bytes(made.file.read())

    with packed(path) as again:
        assert again.file.read() == path.read_bytes()
        assert again.digest == made.digest


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ("", {".git/", ".git/HEAD", "src/run.sh"}),
        (".git", {"src/run.sh"}),
        ("**/*.sh\n# .git\n", {".git/", ".git/HEAD"}),
        ("*\n!src\n!.git/HEAD", {".git/HEAD", "src/run.sh"}),
        ("Dockerfile\n.git/HEAD\n/src/r?n.sh\n", {".git/"}),
        ("[!.]*/*.[a-s]h\n", {".git/", ".git/HEAD"}),
    ],
)
def test_what_dockerignore_says_is_left_out(folder: Path, patterns: str, left: set[str]):
    (folder / ".dockerignore").write_text(patterns)

    found = set(names(folder))

    assert found & {".git/", ".git/HEAD", "src/run.sh"} == left
    assert {"Dockerfile", ".dockerignore"} <= found


def test_a_pattern_that_is_none_is_said():
    with pytest.raises(Invalid, match="pattern that is none"):
        Ignored.read(["[z-a]"])


def test_what_cannot_be_sent_is_said(folder: Path, tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(folder / "s"))
    with pytest.raises(Invalid, match="no file, folder or link"):
        names(folder)
    (folder / ".dockerignore").write_text("s\n")
    assert "s" not in names(folder)

    (folder / "Dockerfile").unlink()
    with pytest.raises(Invalid, match="no Dockerfile"):
        names(folder)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(Invalid, match="neither a folder nor a zip"):
        names(tmp_path / "text")
    with pytest.raises(Invalid, match="No such file"):
        names(tmp_path / "nowhere")


def _tar(path: Path, *members: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in members:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return path


@pytest.mark.parametrize(
    ("members", "transport"),
    [
        (("oci-layout", "index.json", "blobs/sha256/x"), "oci-archive"),
        (("./oci-layout", "./index.json", "./manifest.json"), "oci-archive"),
        (("manifest.json", "layer.tar"), "docker-archive"),
    ],
)
def test_an_image_archive_becomes_a_zip_that_builds_on_it(
    tmp_path: Path, members: tuple[str, ...], transport: str
):
    archive = _tar(tmp_path / "some.tar", *members)

    with packed_image(archive) as made, zipfile.ZipFile(made.file) as found:
        assert found.read("Dockerfile") == f"FROM {transport}:image.tar\n".encode()
        assert found.read("image.tar") == archive.read_bytes()


def test_an_oci_layout_is_sent_as_a_folder(tmp_path: Path):
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout" / "oci-layout").write_text("{}")
    (tmp_path / "layout" / "index.json").write_text("{}")

    with packed_image(tmp_path / "layout") as made, zipfile.ZipFile(made.file) as found:
        assert found.read("Dockerfile") == b"FROM oci:image\n"
        assert {"image/oci-layout", "image/index.json"} <= set(found.namelist())


def test_what_is_no_image_archive_is_said(tmp_path: Path):
    with (
        pytest.raises(Invalid, match="no image archive"),
        packed_image(_tar(tmp_path / "other.tar", "readme")),
    ):
        pass
    (tmp_path / "text").write_text("hello")
    with pytest.raises(Invalid, match="no image archive"), packed_image(tmp_path / "text"):
        pass
