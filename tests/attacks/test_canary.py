"""A defect whose exception holds what was asked: told is that there was one, and where (I8)."""

import asyncio
import io
import logging
from typing import Any

import grpc
import pytest

from broker.app.logs import Libraries
from broker.operations import exchange as exchange_operation
from broker.server import convert
from tests.attacks.entrances import conversation, exchange, outcome, request
from tests.attacks.house import House
from tests.operations.world import SUPPORT
from tests.polling import eventually
from tests.service_logs import written

__all__ = ["written"]

PARAMETER = "canary-in-a-parameter"
BEHALF = "canary-acted-for"


def broken(*asked: object, **more: object) -> Any:
    secret = f"{asked!r} {more!r} {PARAMETER} {BEHALF}"
    raise RuntimeError(f"could not decide {secret}")


@pytest.mark.parametrize(
    "where",
    [(exchange_operation, "decide"), (convert, "intent")],
    ids=["in the issuer", "in the door"],
)
async def test_i8_a_defect_tells_nothing_either(
    own_house: House, written: io.StringIO, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str]
) -> None:
    channel = own_house.good(SUPPORT)
    given = (await exchange(channel, request())).credential
    monkeypatch.setattr(*where, broken)
    asked = request(on_behalf_of=BEHALF)
    for told in (await outcome(exchange(channel, asked)), await outcome(conversation(channel, asked))):
        assert told.reason == "INTERNAL"
        assert told.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)
        for secret in (PARAMETER, BEHALF, "RuntimeError", given.token):
            assert secret not in told.everything
    lines = written.getvalue()
    assert "RuntimeError" in lines
    assert "defect" in lines
    for secret in (PARAMETER, BEHALF, given.token):
        assert secret not in lines
    monkeypatch.undo()
    assert not (await outcome(exchange(channel, request()))).reason


async def test_i8_a_task_that_nobody_waited_for_tells_nothing(written: io.StringIO) -> None:
    """Its own line, by asyncio, would show the exception, and what the task had in hand."""

    async def lost() -> None:
        broken("asked")

    task: Any = asyncio.ensure_future(lost())
    await asyncio.wait([task])
    del task

    async def said() -> bool:
        return "never retrieved" in written.getvalue()

    assert await eventually(said)
    assert "RuntimeError" in written.getvalue()
    assert "test_canary.py" in written.getvalue()
    for secret in (PARAMETER, BEHALF):
        assert secret not in written.getvalue()


def test_i8_what_a_library_logs_keeps_to_one_line(written: io.StringIO) -> None:
    log = logging.getLogger("some.library")
    log.warning("no answer from %s", "the agent")
    Libraries().handle(logging.LogRecord("x", logging.WARNING, "", 0, "a number %d", ("that is none",), None))
    log.error("it failed\nwith %s", PARAMETER)
    log.info("nobody asked")
    one, two, three = written.getvalue().splitlines()
    assert "no answer from the agent" in one
    assert "some.library" in one
    assert "a line that cannot be shown" in two
    assert "it failed" in three
    assert PARAMETER not in three
