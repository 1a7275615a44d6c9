"""Sealing and opening: half of a snapshot is never seen, a changed one is refused."""

import json
import os
from dataclasses import replace

import pytest

from emberkeep.domain.errors import Corrupt, Mismatch
from emberkeep.domain.units import Memory, Size
from emberkeep.vmm.shape import Q35, TCG_CPU, Shape, check_restorable
from emberkeep.vmm.snapshot import (
    checksum_of,
    discard,
    open_snapshot,
    remove_unsealed,
    seal,
    unsealed,
)

SHAPE = Shape(
    size=Size(Memory(512), 2), accelerator="tcg", machine=Q35, cpu=TCG_CPU, host_cpu="",
    kernel="k", initramfs="i", cmdline="c", disks=(("agent", "a"), ("image", "b")), disk_gib=8,
)  # fmt: skip


@pytest.fixture
def sealed(tmp_path):
    path = tmp_path / "one"
    with unsealed(path) as folder:
        (folder / "memory.img").write_bytes(b"m" * 5000)
        (folder / "devices.state").write_bytes(b"d" * 100)
        (folder / "disk.img").write_bytes(b"k" * 300)
        seal(folder, path, shape=SHAPE, taken_by="10.0.2")
    return path


def test_what_was_sealed_is_opened_the_same(sealed):
    snapshot = open_snapshot(sealed)
    snapshot.verify()

    assert snapshot.shape == SHAPE
    assert (snapshot.kind, snapshot.taken_by) == ("full", "10.0.2")
    assert set(snapshot.files) == {"memory.img", "devices.state", "disk.img"}


def test_the_disk_beside_a_delta_must_be_as_it_was(tmp_path):
    disk = tmp_path / "overlay.qcow2"
    disk.write_bytes(b"q" * 700)
    with unsealed(tmp_path / "delta-1") as folder:
        (folder / "memory.delta").write_bytes(b"m")
        (folder / "devices.state").write_bytes(b"d")
        seal(folder, tmp_path / "delta-1", shape=SHAPE, taken_by="10.0.2", beside=[disk])
    open_snapshot(tmp_path / "delta-1").verify()
    disk.write_bytes(b"q" * 699)

    with pytest.raises(Corrupt, match=r"overlay\.qcow2"):
        open_snapshot(tmp_path / "delta-1").verify()


def test_a_failed_take_leaves_nothing(tmp_path):
    def take():
        with unsealed(tmp_path / "one") as folder:
            (folder / "memory.img").write_bytes(b"m")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        take()

    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_take_is_not_seen_and_is_removed(tmp_path):
    (tmp_path / ".unsealed-one").mkdir()
    (tmp_path / ".unsealed-one" / "memory.img").write_bytes(b"half")

    with pytest.raises(Corrupt):
        open_snapshot(tmp_path / "one")
    remove_unsealed(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["memory.img", "devices.state", "disk.img"])
@pytest.mark.parametrize("harm", ["flip", "cut", "grow", "remove"])
def test_a_changed_file_is_corrupt(sealed, name, harm):
    path = sealed / name
    content = bytearray(path.read_bytes())
    path.chmod(0o600)
    match harm:
        case "flip":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[:-1])
        case "grow":
            path.write_bytes(content + b"x")
        case _:
            path.unlink()

    with pytest.raises(Corrupt, match=name):
        open_snapshot(sealed).verify()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"seal": 1}', '"text"'])
def test_a_foreign_meta_is_corrupt(sealed, text):
    (sealed / "meta.json").write_text(text)

    with pytest.raises(Corrupt):
        open_snapshot(sealed)


def test_an_edited_meta_is_corrupt(sealed):
    record = json.loads((sealed / "meta.json").read_text())
    record["taken_by"] = "8.2.0"
    (sealed / "meta.json").write_text(json.dumps(record))

    with pytest.raises(Corrupt, match="changed"):
        open_snapshot(sealed)


def test_the_checksum_does_not_depend_on_holes(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(8 << 20)
        os.pwrite(file.fileno(), b"x" * 10, 3 << 20)
    (tmp_path / "dense").write_bytes((tmp_path / "sparse").read_bytes())

    assert checksum_of(tmp_path / "sparse") == checksum_of(tmp_path / "dense")


HERE = {"taken_by": "8.2.2", "qemu": "10.0.2", "accelerator": "tcg", "host_cpu": "x"}


def test_a_pinned_q35_restores_on_a_later_qemu():
    check_restorable(SHAPE, **HERE)


@pytest.mark.parametrize(
    ("shape", "here"),
    [
        ({}, {"accelerator": "kvm"}),
        ({}, {"taken_by": "10.1.0"}),
        ({"machine": "microvm"}, {}),
        ({"host_cpu": "another"}, {}),
        ({"devices": 99}, {}),
    ],
)
def test_another_shape_is_refused_with_the_reason(shape, here):
    with pytest.raises(Mismatch, match="does not fit this host"):
        check_restorable(replace(SHAPE, **shape), **{**HERE, **here})


def test_what_is_discarded_is_never_seen_again_not_even_in_part(sealed, monkeypatch):
    monkeypatch.setattr("emberkeep.vmm.snapshot.remove_tree", lambda _: None)  # killed before it
    discard(sealed)
    assert not sealed.exists()
    monkeypatch.undo()
    remove_unsealed(sealed.parent)
    assert list(sealed.parent.iterdir()) == []
    discard(sealed)
