"""Files of a real microVM: every operation, sizes that fit no memory, links that lead out."""

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberkeep_sdk import EmberkeepError, MicroVM, NotFound
from tests.vm.servers import Server

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True)]

MIB = 1 << 20
OF_THE_AGENT = "usr/lib/python3/dist-packages/emberkeep_guest"


def test_every_operation_does_its_part(vm: MicroVM):
    files = vm.files
    files.mkdir("/made/deep")
    files.write("/made/deep/a", b"first", mode=0o640, user="1234:5678")
    files.write("/made/deep/a2", "text")
    files.move("/made/deep/a", "/made/b")
    vm.exec("ln -s ../b /made/deep/link", check=True)
    entry = files.stat("/made/b")
    link = files.stat("/made/deep/link")

    assert files.read("/made/b") == files.read("/made/deep/link") == b"first"
    assert (entry.type, entry.size, entry.mode & 0o7777) == ("file", 5, 0o640)
    assert (entry.uid, entry.gid) == (1234, 5678)
    assert (link.type, link.target) == ("symlink", "../b")
    assert sorted(one.name for one in files.list("/made/deep")) == ["a2", "link"]
    with pytest.raises(EmberkeepError, match="/made"):
        files.remove("/made")
    files.remove("/made", recursive=True)
    assert not files.exists("/made")
    with pytest.raises(NotFound, match="/made/b"):
        files.read("/made/b")


def test_300_megabytes_pass_both_ways_in_little_memory(vm: MicroVM, server: Server):
    status = Path(f"/proc/{server.pid}")
    (status / "clear_refs").write_text("5")
    before = _peak_kib(status)
    sent, received = hashlib.sha256(), hashlib.sha256()

    size = vm.files.write("/large", _noted(sent, _noise(300)))
    with vm.files.stream("/large") as chunks:
        for chunk in chunks:
            received.update(chunk)
    vm.files.remove("/large")

    assert size == 300 * MIB
    assert received.digest() == sent.digest()
    assert _peak_kib(status) - before < 50_000


def test_a_tree_comes_back_as_it_went(vm: MicroVM, tmp_path: Path):
    tree = tmp_path / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "runs").write_bytes(b"#!/bin/sh\necho ran\n")
    (tree / "runs").chmod(0o755)
    (tree / "blob").write_bytes(random.Random(3).randbytes(3 * MIB))  # noqa: S311
    (tree / "name with ü\nand more").write_text("odd")
    (tree / "link").symlink_to("runs")

    vm.files.upload(tree, "/tree")
    vm.files.download("/tree", tmp_path / "back")

    assert vm.exec(["/tree/link"]).stdout == "ran\n"
    assert _listed(tmp_path / "back") == _listed(tree)


def test_the_command_line_copies_both_ways(vm: MicroVM, server: Server, tmp_path: Path):
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(b"copied")

    assert server.cli("cp", str(there), f"{vm.name}:/copied").returncode == 0
    assert server.cli("cp", f"{vm.name}:/copied", str(back)).returncode == 0

    assert back.read_bytes() == b"copied"


def test_no_link_leads_out_of_the_container(vm: MicroVM):
    line = (
        "ln -s /proc/1/root /to-root; ln -s /proc/1/cwd /to-cwd; ln -s ../../../../.. /up;"
        " ln -s /proc/self/root/agent /to-self; mkdir -p /nest && ln -s /../../.. /nest/up"
    )
    vm.exec(line, check=True)

    for way in ("/to-root", "/to-cwd", "/up", "/to-self", "/nest/up", "/../../..", "/agent"):
        assert not _reached(vm, f"{way}/{OF_THE_AGENT}")
        assert not _reached(vm, f"{way}/agent/{OF_THE_AGENT}")
        assert not _reached(vm, f"{way}/proc/1/root/{OF_THE_AGENT}")

    assert vm.files.read("/up/../../etc/hostname") == vm.files.read("/etc/hostname")
    vm.files.write("/up/landed", b"inside")
    assert vm.exec(["cat", "/landed"]).stdout == "inside"
    with pytest.raises(EmberkeepError):
        vm.files.write("/to-root/landed-too", b"")
    assert not vm.files.exists("/landed-too")


def test_an_archive_cannot_write_outside(vm: MicroVM, tmp_path: Path):
    import io  # noqa: PLC0415
    import tarfile  # noqa: PLC0415

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        link = tarfile.TarInfo("exit")
        link.type, link.linkname = tarfile.SYMTYPE, "/proc/1/root"
        tar.addfile(link)
        for name in ("exit/tmp/escaped", "../../escaped"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"out"))
    vm.files.mkdir("/unpacked/here")

    with pytest.raises(EmberkeepError):
        vm.files.unpack("/unpacked/here", packed.getvalue())

    found = vm.exec("find / -xdev -name escaped").stdout.split()
    assert [path for path in found if not path.startswith("/unpacked/here/")] == []


def _reached(vm: MicroVM, path: str) -> bool:
    """Say whether there is anything at `path`; a refusal to follow it is a no."""
    try:
        vm.files.stat(path)
    except EmberkeepError:
        return False
    return True


def _noise(mib: int) -> Iterator[bytes]:
    numbers = random.Random(2)  # noqa: S311  any bytes will do
    for _ in range(mib):
        yield numbers.randbytes(MIB)


def _noted(digest, pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece


def _listed(root: Path) -> dict[str, tuple[int, bytes]]:
    found = {}
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        content = os.fsencode(path.readlink()) if path.is_symlink() else b""
        found[str(path.relative_to(root))] = (
            mode,
            path.read_bytes() if path.is_file() else content,
        )
    return found


def _peak_kib(process: Path) -> int:
    words = (process / "status").read_text().split()
    return int(words[words.index("VmHWM:") + 1])
