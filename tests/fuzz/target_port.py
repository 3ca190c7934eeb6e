"""Frames of the private socket, both ways: a frame, a broken link, or a refusal, and never anything else.

The first byte chooses: bytes as they come off the socket, or one frame's content. Whatever converts into nouns is
written and read again, and has to be the same; so a bound or a check that only one of the directions has is found.
"""

import asyncio
import atexit
from datetime import timedelta
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from broker.issuer.convert import CONVERSION_PROBLEMS
from broker.issuer.convert_exchange import (
    decode_exchange_answer,
    decode_exchange_calls,
    encode_exchange_answers,
    encode_exchange_call,
)
from broker.issuer.port import ExchangeCall
from broker.issuer.v1 import port_pb2 as v1
from broker.issuer.verbs import VERBS
from broker.issuer.wire import LinkBroken, pack, read_frame
from tests.fuzz.port import plain

STREAM: Final = b"s"
FRAME: Final = b"f"

_CONTEXT: Final = v1.Context(
    evidence=v1.Evidence(leaf=b"leaf", chain=b"chain", tls_version="TLSv1.3", source="ipv4:127.0.0.1:1"),
    request="req_1",
    trace="0" * 31 + "1",
)
_INTENT: Final = v1.Intent(
    action="order.read",
    resource=v1.Resource(type="order", id="1"),
    parameters='{"amount":1}',
    purpose="p",
    audience="spiffe://example.org/service/orders",
)
_GIVEN: Final = v1.Credential(
    token="a.b.c",
    credential_id="cred_1",
    scope=v1.Scope(actions=["a"], resource=_INTENT.resource, constraints='{"a":[1],"b":{"max":3}}', audience="s"),
    use=v1.USE_MANY,
    issued_at_us=1,
)


def _frames() -> list[v1.Frame]:
    """One of every kind, as empty as it can be, and some with something in them."""
    bare = [field.name for field in v1.Frame.DESCRIPTOR.oneofs_by_name["body"].fields]
    frames = [v1.Frame(number=number) for number, _ in enumerate(bare, 1)]
    for frame, name in zip(frames, bare, strict=True):
        getattr(frame, name).SetInParent()
    for name in VERBS:
        filled = v1.Frame(number=7)
        body: Message = getattr(filled, name)
        if "context" in body.DESCRIPTOR.fields_by_name:
            getattr(body, "context").CopyFrom(_CONTEXT)  # noqa: B009  # not every body has one
        else:
            body.SetInParent()
        frames.append(filled)
    call = v1.ExchangeCall(context=_CONTEXT, intent=_INTENT, request_id="r", lifetime_us=1)
    refused = v1.ExchangeCall(context=_CONTEXT, refusal=v1.Refusal(reason="REQUEST_INVALID", detail="d"))
    frames.append(v1.Frame(number=1, exchange=v1.ExchangeCalls(calls=[call, refused])))
    answers = [v1.ExchangeAnswer(credential=_GIVEN), v1.ExchangeAnswer(refusal=v1.Refusal(reason="TASK_ENDED"))]
    frames.append(v1.Frame(number=1, exchanged=v1.ExchangeAnswers(answers=answers)))
    return frames


SEEDS: Final = (
    *(FRAME + frame.SerializeToString() for frame in _frames()),
    STREAM + b"".join(pack(frame) for frame in _frames()[-4:]),
    STREAM + b"\xff\xff\xff\xff",
    STREAM + b"\x00\x00\x00\x00",
    STREAM + b"\x00\x00",
    STREAM + pack(_frames()[-1])[:-1],
)
_LOOP: Final = asyncio.new_event_loop()
atexit.register(_LOOP.close)


def one(data: bytes) -> None:
    """Take one input."""
    kind, rest = data[:1], data[1:]
    if kind == STREAM:
        _LOOP.run_until_complete(_read(rest))
        return
    try:
        frame = v1.Frame.FromString(rest)
    except DecodeError:
        return
    name = frame.WhichOneof("body")
    if name is not None:
        _converted(frame, name)


async def _read(content: bytes) -> None:
    """Frames come off the socket whole, or the link is broken; what was read is what was sent."""
    reader = asyncio.StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    at = 0
    try:
        while (read := await read_frame(reader)) is not None:
            size = int.from_bytes(content[at : at + 4], "big")
            assert size == read[1]
            assert v1.Frame.FromString(content[at + 4 : at + 4 + size]) == read[0]
            at += 4 + size
    except LinkBroken:
        return
    assert at == len(content)


def _converted(frame: v1.Frame, name: str) -> None:
    body = getattr(frame, name)
    if name == "exchange":
        for call in decode_exchange_calls(body):
            if isinstance(call, ExchangeCall):
                sent = v1.ExchangeCalls(calls=[encode_exchange_call(call)])
                (again,) = decode_exchange_calls(sent)
                assert plain(again) == plain(call)
    elif name == "exchanged":
        for answer in body.answers:
            _twice(answer, decode_exchange_answer, lambda held: encode_exchange_answers([held]).answers[0])
    for verb in VERBS.values():
        if verb.call == name:
            _twice(body, verb.decode_call, verb.encode_call)
        if verb.answer == name:
            _twice(body, verb.decode_answer, verb.encode_answer)


def _twice(message: Any, decode: Any, encode: Any) -> None:
    try:
        found = decode(message)
    except CONVERSION_PROBLEMS:
        return
    if isinstance(found, timedelta):
        return
    sent = encode(found)
    assert plain(_shown(decode(type(sent).FromString(sent.SerializeToString())))) == plain(_shown(found))


def _shown(value: Any) -> Any:
    """A token equals only itself: its text stands for it."""
    token = getattr(value, "token", None)
    return (value.grant, value.decision_id, token.reveal()) if token is not None else value
