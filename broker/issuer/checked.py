"""Conversions as the door does them: what does not convert is a refusal, and its defect is logged by name only.

Each refusal is a new one, because it is raised and gathers a traceback.
"""

from typing import Any, TypeVar

import structlog

from broker.errors import Reason, Refusal
from broker.issuer.convert import CONVERSION_PROBLEMS, decode_refusal
from broker.issuer.convert_exchange import decode_exchange_answer
from broker.issuer.port import ExchangeAnswer
from broker.issuer.v1 import port_pb2 as v1
from broker.issuer.verb import Verb
from broker.issuer.wire import FrameTooLarge, pack

Call = TypeVar("Call")
Answer = TypeVar("Answer")

_log = structlog.get_logger(__name__)


def exchange_answer(message: v1.ExchangeAnswer) -> ExchangeAnswer:
    """Return the answer to one intent; INTERNAL when it does not convert."""
    try:
        return decode_exchange_answer(message)
    except CONVERSION_PROBLEMS as problem:
        _log.error("port answer does not convert", answer="exchanged", problem=type(problem).__name__)
        return internal()


def refusal_in(frame: v1.Frame) -> Refusal:
    """Return the refusal that a frame carries; INTERNAL when it does not convert."""
    try:
        return decode_refusal(frame.refused)
    except CONVERSION_PROBLEMS as problem:
        _log.error("port answer does not convert", answer="refused", problem=type(problem).__name__)
        return internal()


def encoded(verb: Verb[Call, Any], call: Call) -> Any:  # noqa: ANN401 -- the verb's own message type
    """Return the message of a call.

    Raises:
        Refusal: REQUEST_MALFORMED, it has none.

    """
    try:
        return verb.encode_call(call)
    except CONVERSION_PROBLEMS as problem:
        raise Refusal(Reason.REQUEST_MALFORMED, "port") from problem


def packed(frame: v1.Frame) -> bytes:
    """Return a frame's bytes.

    Raises:
        Refusal: REQUEST_MALFORMED, they are too many.

    """
    try:
        return pack(frame)
    except FrameTooLarge as problem:
        raise Refusal(Reason.REQUEST_MALFORMED, "over the limit of the port") from problem


def decoded(verb: Verb[Any, Answer], frame: v1.Frame) -> Answer:
    """Return a verb's answer.

    Raises:
        Refusal: the issuer's, or INTERNAL when the answer is not one of this verb.

    """
    if frame.HasField("refused"):
        raise refusal_in(frame)
    if frame.WhichOneof("body") != verb.answer:
        _log.error("port answered another verb", asked=verb.call)
        raise internal()
    try:
        return verb.decode_answer(getattr(frame, verb.answer))
    except CONVERSION_PROBLEMS as problem:
        _log.error("port answer does not convert", answer=verb.answer, problem=type(problem).__name__)
        raise internal() from None


def unavailable() -> Refusal:
    """Return a new refusal: no answer came."""
    return Refusal(Reason.ISSUER_UNAVAILABLE)


def busy() -> Refusal:
    """Return a new refusal: too much waits."""
    return Refusal(Reason.LIMIT_BUSY)


def internal() -> Refusal:
    """Return a new refusal: one of the two ends has a defect."""
    return Refusal(Reason.INTERNAL)
