"""Files by their digest, and the index."""

import hashlib
from pathlib import Path

import pytest

from emberkeep.artifacts import Artifacts
from emberkeep.artifacts.blobs import Blobs, Entry
from emberkeep.domain.errors import Conflict, Corrupt, NotFound, Unavailable


def stored(root: Path, name: str = "kernel", content: bytes = b"content") -> tuple[Blobs, Entry]:
    blobs = Blobs(root)
    blobs.scratch.mkdir(parents=True, exist_ok=True)
    file = blobs.scratch / "new"
    file.write_bytes(content)
    digest, size = blobs.add(file)
    entry = Entry(digest=digest, size=size, inputs_digest="i", made_at=1.0, packages=("a=1",))
    blobs.record(name, entry)
    return blobs, entry


def test_what_was_stored_is_found_again(tmp_path):
    _, entry = stored(tmp_path)

    artifact = Artifacts(tmp_path).get("kernel")

    assert artifact.path.read_bytes() == b"content"
    assert artifact.digest == entry.digest == hashlib.sha256(b"content").hexdigest()
    assert artifact.path.stat().st_mode & 0o777 == 0o444


def test_a_second_artifact_leaves_the_first_alone(tmp_path):
    stored(tmp_path)
    blobs, entry = stored(tmp_path, "agent", b"other")

    assert set(blobs.index()) == {"kernel", "agent"}
    assert blobs.index()["agent"] == entry


def test_what_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(Unavailable) as caught:
        Artifacts(tmp_path).get("kernel")

    assert "emberkeep setup" in caught.value.hint


def test_a_cut_file_is_noticed_at_once(tmp_path):
    blobs, entry = stored(tmp_path)
    blobs.path(entry.digest).chmod(0o644)
    blobs.path(entry.digest).write_bytes(b"cont")

    with pytest.raises(Corrupt, match="kernel is damaged"):
        Artifacts(tmp_path).get("kernel")


async def test_a_changed_file_is_noticed_when_verified(tmp_path):
    blobs, entry = stored(tmp_path)
    stored(tmp_path, "agent", b"fine")
    blobs.path(entry.digest).chmod(0o644)
    blobs.path(entry.digest).write_bytes(b"CONTENT")

    Artifacts(tmp_path).get("kernel")
    with pytest.raises(Corrupt):
        Artifacts(tmp_path).verify("kernel")
    faults = await Artifacts(tmp_path).verify_all()

    assert faults["agent"] == ""
    assert "damaged" in faults["kernel"]


def test_an_earlier_artifact_is_found_by_its_digest(tmp_path):
    _, old = stored(tmp_path)
    stored(tmp_path, content=b"newer")

    assert Artifacts(tmp_path).find(old.digest).read_bytes() == b"content"
    for wrong in ("0" * 64, "../index.json"):
        with pytest.raises(NotFound):
            Artifacts(tmp_path).find(wrong)


@pytest.mark.parametrize("text", ["", "{", '{"format": 99, "artifacts": {}}', "[]"])
def test_an_index_of_no_use_is_an_empty_one(tmp_path, text):
    (tmp_path / "index.json").write_text(text)

    assert Blobs(tmp_path).index() == {}


def test_only_one_may_write(tmp_path):
    with Blobs(tmp_path).writing(), pytest.raises(Conflict), Blobs(tmp_path).writing():
        pass
