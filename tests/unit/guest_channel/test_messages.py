"""Messages and the frames of an exec."""

import asyncio
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberkeep_guest.messages import (
    PAYLOAD,
    STDIN,
    STDOUT,
    BadMessage,
    pack_frame,
    pack_message,
    parse_message,
    receive_frame,
    receive_message,
    send_frame,
    send_message,
)
from tests.fakes.pipes import joined, pair

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=10), JSON, max_size=5))
def test_a_message_comes_out_as_it_went_in(obj):
    packed = pack_message(obj)

    assert struct.unpack(">I", packed[:4])[0] == len(packed) - 4
    assert parse_message(packed[4:]) == obj


@given(st.binary(max_size=100))
def test_what_is_no_json_object_is_a_bad_message(text):
    try:
        obj = parse_message(text)
    except BadMessage:
        return
    assert isinstance(obj, dict)


@pytest.mark.parametrize("text", [b"[]", b"1", b"", b"\xff", b"[" * 100_000, b'{"a":' * 50_000])
def test_wrong_shapes_and_depths_are_bad_messages(text):
    with pytest.raises(BadMessage):
        parse_message(text)


def test_a_name_that_is_no_unicode_can_be_said():
    name = b"caf\xe9".decode("utf-8", "surrogateescape")

    assert parse_message(pack_message({"name": name})[4:]) == {"name": "caf?"}


async def test_messages_and_frames_follow_each_other():
    async with joined(*pair(lambda: 3)) as (client, server):
        out = client.open()
        await send_message(out, {"op": "exec"})
        await send_frame(out, STDIN, b"x" * PAYLOAD)
        await send_frame(out, STDIN, eof=True)
        stream = await server.accept()

        assert await receive_message(stream) == {"op": "exec"}
        assert await receive_frame(stream) == (STDIN, b"x" * PAYLOAD)
        assert await receive_frame(stream) == (STDIN, b"")
        assert await receive_frame(stream) is None


async def test_a_message_that_is_too_long_is_refused_before_it_is_read():
    async with joined(*pair()) as (client, server):
        await client.open().write(struct.pack(">I", 2**31))
        with pytest.raises(BadMessage):
            await receive_message(await server.accept())


@pytest.mark.parametrize("head", [(STDOUT, PAYLOAD + 1), (4, 0), (255, 2**32 - 1)])
async def test_frames_of_wrong_kind_or_length_are_refused(head):
    async with joined(*pair()) as (client, server):
        await client.open().write(struct.pack(">BI", *head))
        with pytest.raises(BadMessage):
            await receive_frame(await server.accept())


@pytest.mark.parametrize("size", [1, 4, 6])
async def test_the_end_within_a_frame_is_no_end(size):
    async with joined(*pair()) as (client, server):
        await client.open().write(pack_frame(STDOUT, b"abc")[:size], eof=True)
        with pytest.raises(EOFError):
            await receive_frame(await server.accept())


async def test_a_cancelled_receive_takes_nothing():
    async with joined(*pair()) as (client, server):
        out = client.open()
        frame = pack_frame(STDOUT, b"whole")
        await out.write(frame[:7])
        stream = await server.accept()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await receive_frame(stream)
        await out.write(frame[7:])

        assert await receive_frame(stream) == (STDOUT, b"whole")


def test_a_payload_that_is_too_long_is_not_sent():
    with pytest.raises(ValueError, match="payload"):
        pack_frame(STDOUT, bytes(PAYLOAD + 1))
