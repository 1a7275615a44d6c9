"""How much of a DNS message a relay understands."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberkeep.network.questions import LONGEST, failure, is_answer, question


def query(name: str = "Example.com", *, flags: int = 0x0100, questions: int = 1) -> bytes:
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split(".") if one)
    head = struct.pack(">6H", 0x1234, flags, questions, 0, 0, 0)
    return head + labels + b"\0" + struct.pack(">HH", 1, 1)


ASKED = b"\x07example\x03com\0\0\1\0\1"


def test_a_question_is_what_stands_behind_the_head_in_small_letters():
    assert question(query()) == ASKED
    assert question(query() + b"anything behind it") == ASKED
    assert question(query("")) == b"\0\0\1\0\1"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        query()[:12],
        query()[:-1],
        query(flags=0x8000),
        query(flags=0x2800),
        query(questions=0),
        query(questions=2),
        query().replace(b"\x07Example", b"\xc0\x0cexampl"),
        query(".".join(["a" * 63] * 5)),
        query() + bytes(LONGEST),
    ],
    ids=["empty", "head", "cut", "answer", "update", "none", "two", "pointer", "name", "long"],
)
def test_what_is_no_standard_query_is_none(message: bytes):
    assert question(message) is None


def test_an_answer_has_the_number_and_the_question():
    answer = query("EXAMPLE.com", flags=0x8180) + b"records"

    assert is_answer(answer, b"\x12\x34", ASKED)
    assert is_answer(query(flags=0x8182, questions=0)[:12], b"\x12\x34", ASKED)
    assert not is_answer(answer, b"\x12\x35", ASKED)
    assert not is_answer(query(), b"\x12\x34", ASKED)
    assert not is_answer(query("example.org", flags=0x8180), b"\x12\x34", ASKED)
    assert not is_answer(answer[:11], b"\x12\x34", ASKED)


def test_a_failure_repeats_the_question():
    failed = failure(query() + b"more", ASKED)

    assert failed[:2] == b"\x12\x34"
    assert failed[2:4] == b"\x81\x02"
    assert failed[12:] == query()[12:]
    assert is_answer(failed, b"\x12\x34", ASKED)


@given(st.binary(max_size=600))
def test_anything_is_read_without_error(message: bytes):
    asked = question(message)

    assert asked is None or failure(message, asked)
    is_answer(message, message[:2], asked or b"")
