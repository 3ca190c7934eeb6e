"""Verb: how one call of the port and its answer are carried and converted."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from google.protobuf.message import Message

from broker.issuer.port import Issuer

Call = TypeVar("Call")
Answer = TypeVar("Answer")

# What a page may weigh; every other answer is small. Counted against what may be in flight before it is read.
PAGE_WEIGHT: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb(Generic[Call, Answer]):
    """One verb.

    Attributes:
        call: the frame's field for the call.
        answer: the frame's field for the answer.
        encode_call: the door's half of the call.
        decode_call: the issuer's half; raises one of CONVERSION_PROBLEMS.
        encode_answer: the issuer's half of the answer.
        decode_answer: the door's half; raises one of CONVERSION_PROBLEMS.
        ask: asks an issuer.
        weight: what the answer may weigh, bytes.
        urgent: it waits behind nothing that fills a bound: it is carried and asked however much is waiting.

    """

    call: str
    answer: str
    encode_call: Callable[[Call], Message]
    decode_call: Callable[[Any], Call]
    encode_answer: Callable[[Answer], Message]
    decode_answer: Callable[[Any], Answer]
    ask: Callable[[Issuer, Call], Awaitable[Answer]]
    weight: int = 0
    urgent: bool = False
