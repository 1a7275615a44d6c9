"""Steps that are done once, whatever happens in between."""

import threading
from pathlib import Path

import pytest

from emberkeep.artifacts.blobs import Blobs
from emberkeep.artifacts.command import Commands, Stopped
from emberkeep.artifacts.events import Event, Phase
from emberkeep.artifacts.workshop import Made, Workshop, digest, tree_digest
from emberkeep.domain.errors import NoSpace, Unavailable


class Step:
    """A maker that counts how often it was asked."""

    def __init__(self, content: bytes = b"made", error: Exception | None = None) -> None:
        self.content, self.error, self.times = content, error, 0

    def __call__(self, bench):
        self.times += 1
        bench.note("half", 0.5)
        file = bench.scratch / "file"
        file.write_bytes(self.content)
        if self.error is not None:
            raise self.error
        return {"kernel": Made(file=file, packages=("a=1",))}


def shop(root: Path, events: list[Event] | None = None, *, fresh: bool = False) -> Workshop:
    blobs = Blobs(root)
    blobs.scratch.mkdir(parents=True, exist_ok=True)
    progress = [] if events is None else events
    return Workshop(
        blobs=blobs,
        commands=Commands(),
        progress=progress.append,
        mirror_setting="",
        fresh=fresh,
    )


def test_a_step_is_done_once(tmp_path):
    step, events = Step(), []

    first = shop(tmp_path, events).ensure(("kernel",), "inputs", step)
    second = shop(tmp_path, events).ensure(("kernel",), "inputs", step)

    assert first == second
    assert step.times == 1
    assert [event.phase for event in events] == [
        Phase.STARTED, Phase.RUNNING, Phase.DONE, Phase.PRESENT,
    ]  # fmt: skip
    assert events[1].fraction == 0.5
    assert events[2].bytes == 4


@pytest.mark.parametrize("why", ["inputs", "damaged", "lost", "fresh"])
def test_a_step_is_done_again_when_it_must(tmp_path, why):
    step = Step()
    entry = shop(tmp_path).ensure(("kernel",), "inputs", step)["kernel"]
    blob = Blobs(tmp_path).path(entry.digest)
    if why == "damaged":
        blob.chmod(0o644)
        blob.write_bytes(b"MADE")
    if why == "lost":
        blob.unlink()

    again = shop(tmp_path, fresh=why == "fresh").ensure(
        ("kernel",), "others" if why == "inputs" else "inputs", step
    )

    assert step.times == 2
    assert Blobs(tmp_path).intact(again["kernel"], thorough=True)


def test_a_step_with_two_results_is_done_again_when_one_is_missing(tmp_path):
    step = Step()
    shop(tmp_path).ensure(("kernel",), "inputs", step)

    with pytest.raises(KeyError):  # this maker has only the one
        shop(tmp_path).ensure(("kernel", "part"), "inputs", step)

    assert step.times == 2


def test_a_step_that_fails_leaves_nothing_and_says_so(tmp_path):
    events: list[Event] = []
    place = shop(tmp_path, events)

    with pytest.raises(Unavailable, match="no"):
        place.ensure(("kernel",), "inputs", Step(error=Unavailable("no", hint="yes")))

    assert events[-1].phase is Phase.FAILED
    assert events[-1].detail == "no"
    assert list(place.blobs.scratch.iterdir()) == []
    assert place.blobs.index() == {}


def test_a_full_disk_is_called_so(tmp_path):
    with pytest.raises(NoSpace) as caught:
        shop(tmp_path).ensure(("kernel",), "inputs", Step(error=OSError(28, "No space")))

    assert "free some space" in caught.value.hint


def test_what_an_interrupted_run_left_is_removed_but_its_downloads(tmp_path):
    place = shop(tmp_path)
    (place.blobs.scratch / "tmp123" / "root").mkdir(parents=True)
    (place.blobs.scratch / "apt").mkdir()

    place.clean()

    assert [it.name for it in place.blobs.scratch.iterdir()] == ["apt"]


def test_a_stopped_run_starts_no_step(tmp_path):
    place, step = shop(tmp_path), Step()
    place.commands.stop()

    with pytest.raises(Stopped):
        place.ensure(("kernel",), "inputs", step)

    assert step.times == 0


def test_steps_may_be_recorded_at_the_same_time(tmp_path):
    place = shop(tmp_path)

    def make(name: str) -> None:
        def step(bench):
            file = bench.scratch / "file"
            file.write_text(name)
            return {name: Made(file=file)}

        place.ensure((name,), "inputs", step)

    threads = [threading.Thread(target=make, args=(f"n{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(place.blobs.index()) == 8


def test_a_digest_tells_parts_apart():
    assert digest("ab", "c") != digest("a", "bc")


def test_a_tree_is_its_sources(tmp_path):
    (tmp_path / "a.py").write_text("1")
    before = tree_digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_text("x")
    compiled = tree_digest(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")

    assert before == compiled
    assert before != tree_digest(tmp_path)
