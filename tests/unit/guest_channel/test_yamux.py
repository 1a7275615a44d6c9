"""The framing, with no input or output."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from emberkeep_guest.yamux import (
    DATA,
    FIN,
    GO_AWAY,
    HEADER_SIZE,
    MOST,
    PING,
    WINDOW_UPDATE,
    Decoder,
    Frame,
    header,
)

NUMBERS = st.integers(0, 2**32 - 1)
FLAGS = st.integers(0, 15)
FRAMES = st.one_of(
    st.tuples(
        st.just(DATA), FLAGS.map(lambda flags: flags | FIN), NUMBERS, st.binary(max_size=300)
    ),
    st.tuples(st.sampled_from([WINDOW_UPDATE, PING, GO_AWAY]), FLAGS, NUMBERS, NUMBERS),
)


def encoded(frames) -> tuple[bytes, list[Frame]]:
    out, wanted = b"", []
    for kind, flags, number, last in frames:
        length, data = (len(last), last) if kind == DATA else (last, b"")
        out += header(kind, flags, number, length) + data
        wanted.append((kind, flags, number, length, data))
    return out, wanted


def joined(frames: list[Frame]) -> list[Frame]:
    """Put the pieces of each frame together; the tests give each data frame a FIN."""
    whole: list[Frame] = []
    parts: list[Frame] = []
    for frame in frames:
        parts.append(frame)
        if frame[0] != DATA or frame[1] & FIN:
            kind, flags, number, length, _ = parts[0]
            data = b"".join(part[4] for part in parts)
            assert {part[2] for part in parts} == {number}
            assert not any(part[1] for part in parts[1:-1])
            whole.append(
                (kind, flags | frame[1], number, len(data) if kind == DATA else length, data)
            )
            parts = []
    assert parts == []
    return whole


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(at)]


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(0, 5000), max_size=20))
def test_however_the_bytes_are_cut_the_frames_are_the_same(frames, cuts):
    data, wanted = encoded(frames)
    decoder = Decoder()

    found = [frame for piece in pieces(data, cuts) for frame in decoder.feed(piece)]

    assert joined(found) == wanted
    assert decoder.broken == ""
    assert decoder.rest() == b""


@given(st.lists(FRAMES, max_size=4), st.binary(max_size=40), st.lists(st.integers(0, 5000)))
def test_what_is_behind_the_last_frame_is_kept_for_whoever_comes_next(frames, junk, cuts):
    data, wanted = encoded(frames)
    junk = b"E" + junk  # as a hello
    decoder = Decoder()

    found = [frame for piece in pieces(data + junk, cuts) for frame in decoder.feed(piece)]

    assert joined(found) == wanted
    assert decoder.broken
    assert decoder.rest() == junk


@given(st.lists(st.binary(min_size=1, max_size=2000), max_size=100))
def test_random_bytes_are_bounded_and_never_raise(chunks):
    decoder = Decoder()
    for chunk in chunks:
        decoder.feed(chunk)
        if decoder.broken:
            break
        assert len(decoder.rest()) < HEADER_SIZE


def test_the_longest_frame_passes_and_a_longer_one_does_not():
    decoder = Decoder()
    longest = header(DATA, 0, 1, MOST) + bytes(MOST)

    assert len(decoder.feed(longest)) == 1
    assert decoder.feed(header(DATA, 0, 1, MOST + 1)) == []
    assert "65537" in decoder.broken


def test_good_frames_before_a_broken_one_count():
    decoder = Decoder()

    frames = decoder.feed(header(PING, 1, 0, 7) + header(9, 0, 0, 0))

    assert frames == [(PING, 1, 0, 7, b"")]
    assert "kind 9" in decoder.broken


def test_unknown_flags_are_refused():
    decoder = Decoder()
    decoder.feed(header(DATA, 16, 1, 0))

    assert "flags" in decoder.broken


def test_a_hello_is_told_from_a_frame_by_its_first_byte():
    decoder = Decoder()
    decoder.feed(b"E")

    assert decoder.broken
