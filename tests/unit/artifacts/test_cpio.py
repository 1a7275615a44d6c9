"""The archives an initramfs is made of."""

import shutil

import pytest

from emberkeep.artifacts.cpio import Entry, archive
from emberkeep.base import proc

ENTRIES = [
    Entry.folder("dev"),
    Entry.character_device("dev/console", 5, 1),
    Entry.file("init", b"#!/bin/sh\n", mode=0o755),
    Entry.link("bin", "usr/bin"),
]


def test_an_archive_is_the_same_each_time():
    assert archive(ENTRIES) == archive(ENTRIES)


def test_every_member_begins_on_a_multiple_of_four():
    data = archive([Entry.file("a", b"x"), Entry.file("bc", b"yy")])

    assert len(data) % 4 == 0
    assert all(at % 4 == 0 for at in range(len(data)) if data.startswith(b"070701", at))


@pytest.mark.skipif(not shutil.which("cpio"), reason="needs cpio")
def test_the_system_reads_what_was_written(tmp_path):
    file = tmp_path / "archive"
    file.write_bytes(archive(ENTRIES))

    lines = proc.run(["cpio", "-itv", "--quiet", "-F", str(file)]).stdout.splitlines()

    assert [line.split()[0] for line in lines] == [
        "drwxr-xr-x", "crw-------", "-rwxr-xr-x", "lrwxrwxrwx",
    ]  # fmt: skip
    assert "5,   1" in lines[1]
    assert lines[3].endswith("bin -> usr/bin")
