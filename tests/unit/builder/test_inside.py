"""What runs in the builder: the store of the bases, the merge of layers, the context."""

import json
import os
import stat
import time
import zipfile

import pytest

from emberkeep_builder import image, merge, store, unzip
from emberkeep_builder.job import Base, Failed, Job
from emberkeep_builder.main import blocks_of

BASE = Base(name="debian-12", digest="ab" * 32)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="device nodes and trusted attributes")


def test_a_job_survives_its_text():
    job = Job(bases=(BASE,), targets={"a": "b"}, timeout_s=5.0, arguments=("--x",))

    assert Job.of_text(job.text()) == job


def test_the_store_says_of_each_thing_what_it_is(tmp_path):
    store.write(tmp_path, [BASE])

    (record,) = json.loads((tmp_path / "overlay-images" / "images.json").read_bytes())
    (layer,) = json.loads((tmp_path / "overlay-layers" / "layers.json").read_bytes())
    place = tmp_path / "overlay-images" / record["id"]
    for key in record["big-data-names"]:
        data = (place / store.file_of(key)).read_bytes()
        assert record["big-data-sizes"][key] == len(data)
        assert record["big-data-digests"][key] == store._digest(data)
    config = json.loads((place / store.file_of(f"sha256:{record['id']}")).read_bytes())
    assert config["rootfs"]["diff_ids"] == [layer["diff-digest"]]
    assert record["layer"] == layer["id"] == BASE.digest
    link = (tmp_path / "overlay" / BASE.digest / "link").read_text()
    assert (tmp_path / "overlay" / "l" / link).resolve() == store.layer_folder(tmp_path, BASE)
    assert (tmp_path / "overlay-layers" / "layers.lock").exists()


def test_a_base_has_no_command_of_its_own():
    config = json.loads(store.configuration(BASE))["config"]

    with pytest.raises(Failed, match="add CMD or ENTRYPOINT"):
        image.checked(config)


def test_the_layers_above_a_base_are_found(tmp_path):
    config = {"config": {"Cmd": ["x"], "Healthcheck": {"Test": ["y"]}, "Volumes": {"/v": {}}}}
    (tmp_path / "overlay-images" / "id").mkdir(parents=True)
    (tmp_path / "overlay-layers").mkdir()
    (tmp_path / "overlay-images" / "images.json").write_text(
        json.dumps([{"id": "other"}, {"id": "id", "layer": "top"}])
    )
    (tmp_path / "overlay-images" / "id" / store.file_of("sha256:id")).write_text(json.dumps(config))
    (tmp_path / "overlay-layers" / "layers.json").write_text(
        json.dumps([{"id": "top", "parent": "low"}, {"id": "low", "parent": "base"}])
    )

    built = image.read(tmp_path, "id", {"base"})

    assert built.base == "base"
    assert [path.split("/")[-2] for path in built.layers] == ["low", "top"]
    assert image.checked(built.config) == {"Cmd": ["x"]}
    assert [note.split()[0] for note in image.notes(built.config)] == ["HEALTHCHECK", "VOLUME"]


def test_an_image_on_no_base_of_ours_has_all_its_layers(tmp_path):
    (tmp_path / "overlay-images" / "id").mkdir(parents=True)
    (tmp_path / "overlay-layers").mkdir()
    (tmp_path / "overlay-images" / "images.json").write_text('[{"id": "id", "layer": "a"}]')
    (tmp_path / "overlay-images" / "id" / store.file_of("sha256:id")).write_text("{}")
    (tmp_path / "overlay-layers" / "layers.json").write_text('[{"id": "a"}]')

    built = image.read(tmp_path, "id", {"base"})

    assert built.base is None
    assert len(built.layers) == 1


def layer(path, **files):
    """Make a layer; a value of None is a whiteout, "opaque" an opaque directory."""
    path.mkdir()
    for name, content in files.items():
        place = path / name.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            os.mknod(place, stat.S_IFCHR, 0)
        elif content == "opaque":
            place.mkdir()
            os.setxattr(place, "trusted.overlay.opaque", b"y")
        else:
            place.write_text(content)
    return str(path)


def opaque(path) -> bool:
    return "trusted.overlay.opaque" in os.listxattr(path)


def test_the_upper_layer_wins_and_folders_are_joined(tmp_path):
    low = layer(tmp_path / "1", d__a="1", d__b="1", f="1")
    top = layer(tmp_path / "2", d__b="2", d__c="2")
    (tmp_path / "2" / "d").chmod(0o700)

    merge.merge([low, top], tmp_path / "all", alone=True)

    tree = tmp_path / "all"
    assert {path.name: path.read_text() for path in (tree / "d").iterdir()} == {
        "a": "1", "b": "2", "c": "2",
    }  # fmt: skip
    assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o700
    assert (tree / "f").stat().st_ino == (tmp_path / "1" / "f").stat().st_ino
    assert stat.S_IMODE(tree.stat().st_mode) == 0o755
    assert merge.size_of(tree) == 4


def test_links_stay_links(tmp_path):
    low = layer(tmp_path / "1", f="12345")
    os.link(tmp_path / "1" / "f", tmp_path / "1" / "g")
    (tmp_path / "1" / "s").symlink_to("f")

    merge.merge([low], tmp_path / "all", alone=True)

    assert (tmp_path / "all" / "f").samefile(tmp_path / "all" / "g")
    assert (tmp_path / "all" / "s").is_symlink()
    assert merge.size_of(tmp_path / "all") == 5


def test_times_of_folders_are_those_of_the_layer(tmp_path):
    low = layer(tmp_path / "1", d__e__a="1")
    for path in ("1/d/e", "1/d", "1"):
        os.utime(tmp_path / path, (1000, 1000))

    merge.merge([low], tmp_path / "all", alone=True)

    for path in ("all/d/e", "all/d", "all"):
        assert (tmp_path / path).stat().st_mtime == 1000


@root_only
def test_a_whiteout_stays_above_a_base_and_goes_without(tmp_path):
    low = layer(tmp_path / "1", gone="1", d__gone="1")
    top = layer(tmp_path / "2", gone=None, d__gone=None)

    merge.merge([low, top], tmp_path / "on", alone=False)
    merge.merge([low, top], tmp_path / "alone", alone=True)

    for name in ("gone", "d/gone"):
        found = (tmp_path / "on" / name).lstat()
        assert stat.S_ISCHR(found.st_mode)
        assert found.st_rdev == 0
        assert not (tmp_path / "alone" / name).exists()


@root_only
def test_an_opaque_folder_hides_what_was_below(tmp_path):
    low = layer(tmp_path / "1", d__a="1")
    top = layer(tmp_path / "2", d="opaque")
    (tmp_path / "2" / "d" / "b").write_text("2")

    merge.merge([low, top], tmp_path / "on", alone=False)
    merge.merge([low, top], tmp_path / "alone", alone=True)

    assert [path.name for path in (tmp_path / "on" / "d").iterdir()] == ["b"]
    assert opaque(tmp_path / "on" / "d")
    assert not opaque(tmp_path / "alone" / "d")


@root_only
def test_a_folder_in_place_of_a_whiteout_is_opaque(tmp_path):
    low = layer(tmp_path / "1", d=None)
    top = layer(tmp_path / "2", d__b="2")

    merge.merge([low, top], tmp_path / "on", alone=False)

    assert opaque(tmp_path / "on" / "d")


@root_only
def test_a_file_in_place_of_a_folder(tmp_path):
    low = layer(tmp_path / "1", d__a="1")
    top = layer(tmp_path / "2", d="2")

    merge.merge([low, top], tmp_path / "on", alone=False)

    assert (tmp_path / "on" / "d").read_text() == "2"


def test_the_context_has_modes_times_and_links(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content, mode in (
            ("run.sh", b"x", stat.S_IFREG | 0o755), ("d/", b"", stat.S_IFDIR | 0o750),
            ("l", b"run.sh", stat.S_IFLNK | 0o777), ("plain", b"y", 0),
        ):  # fmt: skip
            info = zipfile.ZipInfo(name, (2024, 5, 6, 7, 8, 10))
            info.create_system, info.external_attr = (3 if mode else 0), mode << 16 or 0x20
            archive.writestr(info, content)

    unzip.unpack(path, tmp_path / "context")

    context = tmp_path / "context"
    assert stat.S_IMODE((context / "run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((context / "d").stat().st_mode) == 0o750
    assert stat.S_IMODE((context / "plain").stat().st_mode) == 0o644
    assert (context / "l").readlink().name == "run.sh"
    assert time.gmtime((context / "run.sh").stat().st_mtime)[:6] == (2024, 5, 6, 7, 8, 10)


def test_the_size_of_a_file_system_is_in_its_superblock(tmp_path):
    disk = tmp_path / "disk"
    superblock = bytearray(128)
    superblock[0:4] = (0xE0F5E1E2).to_bytes(4, "little")
    superblock[12] = 12
    superblock[36:40] = (77).to_bytes(4, "little")
    disk.write_bytes(bytes(1024) + superblock)

    assert blocks_of(disk) == 77

    disk.write_bytes(bytes(4096))
    with pytest.raises(Failed, match="not written"):
        blocks_of(disk)
