"""Frames: where one ends, and what is none."""

import asyncio

import pytest

from broker.issuer.v1 import port_pb2 as v1
from broker.issuer.wire import MAX_FRAME, FrameTooLarge, LinkBroken, frame_of, pack, read_frame

FRAME = pack(v1.Frame(number=7, ended=v1.Ended(position=1)))


def _stream(content: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    return reader


async def test_frames_follow_one_another_until_the_end() -> None:
    reader = _stream(FRAME * 2)
    read = [await read_frame(reader), await read_frame(reader)]
    assert read == [(v1.Frame(number=7, ended=v1.Ended(position=1)), len(FRAME) - 4)] * 2
    assert await read_frame(reader) is None


@pytest.mark.parametrize("kept", range(1, len(FRAME)))
async def test_an_end_within_a_frame_is_no_end(kept: int) -> None:
    with pytest.raises(LinkBroken):
        await read_frame(_stream(FRAME[:kept]))


async def test_an_oversize_length_is_refused_before_anything_is_read() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data((MAX_FRAME + 1).to_bytes(4))
    with pytest.raises(LinkBroken, match="over the limit"):
        await asyncio.wait_for(read_frame(reader), 20)


async def test_the_largest_frame_passes_and_one_byte_more_does_not() -> None:
    overhead = MAX_FRAME - len(pack(frame_of(1, "checkpoint", v1.SignedCheckpoint(note="x" * (MAX_FRAME - 100))))) + 4
    largest = frame_of(1, "checkpoint", v1.SignedCheckpoint(note="x" * (MAX_FRAME - 100 + overhead)))
    content = pack(largest)
    assert len(content) == 4 + MAX_FRAME
    assert await read_frame(_stream(content)) == (largest, MAX_FRAME)
    largest.checkpoint.note += "x"
    with pytest.raises(FrameTooLarge):
        pack(largest)


def test_the_frozen_examples_of_the_document() -> None:
    assert pack(frame_of(1, "read_state", v1.StateCall())).hex(" ") == "00 00 00 04 08 01 72 00"
    assert pack(frame_of(1, "state", v1.State(size=7))).hex(" ") == "00 00 00 07 08 01 da 02 02 08 07"
