"""Frames on the private socket: 4 bytes of length, big endian, then that many bytes of a Frame; at most 8 MiB."""

import asyncio
import socket
import struct
from typing import Final

from google.protobuf.message import DecodeError, Message

from broker.issuer.v1 import port_pb2 as v1

MAX_FRAME: Final = 8 * 1024 * 1024
MAX_CALLS_A_FRAME: Final = 256

_LENGTH: Final = struct.Struct(">I")
# What asyncio reads ahead of us before it stops reading from the socket is twice this.
_READ_AHEAD: Final = 256 * 1024


class LinkBroken(Exception):
    """The peer ended within a frame, or what came is no frame of ours: the link is closed, not repaired."""


class FrameTooLarge(ValueError):
    """A frame of our own is larger than the peer would accept; nothing of it was sent."""


async def open_streams(link: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Take over a connected unix stream socket; the writer owns it from here on."""
    link.settimeout(0)
    return await asyncio.open_connection(sock=link, limit=_READ_AHEAD)


def frame_of(number: int, field: str, body: Message) -> v1.Frame:
    """Return a frame that holds this body."""
    frame = v1.Frame(number=number)
    getattr(frame, field).CopyFrom(body)
    return frame


def pack(frame: v1.Frame) -> bytes:
    """Return a frame's bytes on the wire.

    Raises:
        FrameTooLarge: it is over the limit.

    """
    content = frame.SerializeToString()
    if len(content) > MAX_FRAME:
        raise FrameTooLarge(len(content))
    return _LENGTH.pack(len(content)) + content


async def read_frame(reader: asyncio.StreamReader) -> tuple[v1.Frame, int] | None:
    """Return the next frame and its size, or None when the peer has closed between two frames.

    Raises:
        LinkBroken: the bytes are no frame; what follows them cannot be understood either.

    """
    try:
        prefix = await reader.readexactly(_LENGTH.size)
    except asyncio.IncompleteReadError as problem:
        if not problem.partial:
            return None
        raise LinkBroken("ended within a length") from problem
    except ConnectionError as problem:
        raise LinkBroken("reset") from problem
    (size,) = _LENGTH.unpack(prefix)
    if size > MAX_FRAME:
        raise LinkBroken("a frame over the limit")
    return await _read_content(reader, size), size


async def _read_content(reader: asyncio.StreamReader, size: int) -> v1.Frame:
    try:
        frame = v1.Frame.FromString(await reader.readexactly(size))
    except asyncio.IncompleteReadError as problem:
        raise LinkBroken("ended within a frame") from problem
    except ConnectionError as problem:
        raise LinkBroken("reset") from problem
    except DecodeError as problem:
        # The library's own text may quote bytes of the message.
        raise LinkBroken("a frame that does not decode") from problem
    if frame.WhichOneof("body") is None:
        raise LinkBroken("a frame without a body")
    return frame
