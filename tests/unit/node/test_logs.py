"""Output becomes lines, whatever pieces it comes in."""

from hypothesis import given
from hypothesis import strategies as st

from emberkeep.node.logs import LONGEST, Lines


def fed(pieces: list[bytes]) -> tuple[list[str], Lines]:
    lines, place, found = Lines(0), 0, []
    for piece in pieces:
        found += lines.feed(place, piece)
        place += len(piece)
    return [line.text for line in found + lines.flush()], lines


@given(st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\r", b"")), max_size=20))
def test_pieces_do_not_matter(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    expected = [line.decode(errors="replace") for line in whole.split(b"\n")]
    if whole.endswith(b"\n") or not whole:
        expected.pop()
    assert fed(pieces)[0] == expected


def test_the_place_is_behind_what_has_been_said() -> None:
    lines = Lines(100)
    (one,) = lines.feed(100, b"abc\nde")
    assert (one.text, one.end) == ("abc", 104)
    (rest,) = lines.flush()
    assert (rest.text, rest.end) == ("de", 106)
    assert lines.flush() == []


def test_a_new_microvm_has_not_lost_what_its_image_printed() -> None:
    (line,) = Lines(0).feed(400, b"first\n")
    assert (line.text, line.end) == ("first", 406)


def test_what_was_lost_is_said() -> None:
    lines = Lines(0)
    assert lines.feed(0, b"begun") == []
    begun, gap, whole = lines.feed(50, b"x\n")
    assert begun.text == "begun"
    assert "45 bytes" in gap.text
    assert (whole.text, whole.end) == ("x", 52)


def test_a_line_without_an_end_is_cut() -> None:
    lines = Lines(0)
    found = lines.feed(0, b"x" * (2 * LONGEST + 5))
    assert [len(line.text) for line in found] == [LONGEST, LONGEST, 5]
    assert lines.flush() == []
