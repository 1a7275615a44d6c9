"""Frames of an exec, joined: the same bytes in the same order, whatever way they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberkeep.guestlink.frames import Frames
from emberkeep_guest.messages import PAYLOAD, BadMessage, pack_frame

FRAME = st.tuples(st.sampled_from([0, 2, 3]), st.binary(max_size=20))


def drained(frames: Frames) -> list[tuple[int, bytes]]:
    found = []
    while frame := frames.next():
        found.append(frame)
    return found


def joined(parts: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Join neighbours of a kind, but for control."""
    result: list[tuple[int, bytes]] = []
    for kind, data in parts:
        if kind and result and result[-1][0] == kind:
            result[-1] = (kind, result[-1][1] + data)
        else:
            result.append((kind, data))
    return result


@given(st.lists(FRAME, max_size=30), st.integers(1, 40))
def test_what_comes_out_is_what_went_in(parts: list[tuple[int, bytes]], cut: int):
    data = b"".join(pack_frame(kind, payload) for kind, payload in parts)
    frames, found = Frames(), []
    for at in range(0, len(data), cut):
        frames.feed(data[at : at + cut])
        found += drained(frames)
    frames.must_be_empty()

    assert joined(found) == joined(parts)


def test_crumbs_are_joined():
    frames = Frames()
    frames.feed(pack_frame(2, b"x") * 300 + pack_frame(3, b"y"))

    assert drained(frames) == [(2, b"x" * 300), (3, b"y")]


def test_nothing_longer_than_a_payload_is_joined():
    frames = Frames()
    frames.feed(pack_frame(2, bytes(PAYLOAD)) + pack_frame(2, b"more"))

    assert [len(data) for _, data in drained(frames)] == [PAYLOAD, 4]


def test_no_turn_looks_at_too_many():
    frames = Frames()
    frames.feed(pack_frame(2, b"") * 5000)

    assert drained(frames) == [(2, b"")] * 10


@pytest.mark.parametrize("wrong", [b"\x04\0\0\0\0", b"\x02\0\x01\0\x01"])
def test_what_came_before_a_wrong_frame_is_good(wrong: bytes):
    frames = Frames()
    frames.feed(pack_frame(2, b"good") + wrong)

    assert frames.next() == (2, b"good")
    with pytest.raises(BadMessage):
        frames.next()


def test_an_end_within_a_frame_is_told():
    frames = Frames()
    frames.feed(pack_frame(2, b"good")[:-1])

    assert frames.next() is None
    with pytest.raises(EOFError):
        frames.must_be_empty()
