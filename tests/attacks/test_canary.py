"""Canaries: what must stay secret goes through success, refusal and defect, and comes out nowhere (I8)."""

import json
import logging
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import structlog

from broker.app.logs import without_values
from broker.operations import exchange as exchange_operation
from broker.v1 import types_pb2
from tests.attacks.entrances import begin_task, conversation, exchange, items, outcome, request, revoke
from tests.attacks.house import House
from tests.attacks.raw import PATHS, intent, send, text
from tests.fakes.trust_domain import Svid
from tests.operations.world import SECURITY, SUPPORT

PARAMETER = "canary-in-a-parameter"
BEHALF = "canary-acted-for"
TALK = "canary-of-a-conversation"
WHY = "canary-in-a-reason"
BAD = "canary-in-bad-input"
TYPED = (PARAMETER, BEHALF, TALK, WHY, BAD)


@dataclass
class Logs:
    """Everything that was logged, as a line would show it."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        self.lines.append(repr(dict(event)))
        raise structlog.DropEvent


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> Iterator[Logs]:
    """Capture both kinds of logs at their most talkative; what production does to an exception is done here too."""
    captured = Logs()
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.add_log_level, without_values, captured],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=False,
    )
    with caplog.at_level(logging.DEBUG):
        yield captured
    captured.lines += [record.getMessage() for record in caplog.records]
    structlog.configure(**before)


def secrets_of(token: str, svid: Svid) -> list[str]:
    """Every form that the token or the key could appear in."""
    header, payload, signature = token.split(".")
    body = svid.private_key.decode().splitlines()[1:-1]
    number = svid.key.private_numbers().private_value  # type: ignore[union-attr]  # an EC key
    raw = number.to_bytes(32, "big")
    return [token, payload, signature, f"{header}.{payload}", *body, raw.hex(), repr(raw), str(number)]


async def attempts(house: House, svid: Svid) -> tuple[list[str], str]:
    """Go through success, refusal and malformed input; return the tokens and every error's whole text."""
    channel = house.channel(svid)
    task = (await begin_task(channel, conversation=TALK)).task.task_id
    refund = request(
        action="order.refund",
        task_id=task,
        parameters=json.dumps({"amount": 700, "currency": "EUR", "note": PARAMETER}),
        on_behalf_of=BEHALF,
    )
    given = [(await exchange(channel, refund)).credential, (await conversation(channel, refund)).credential]
    refusals = [
        exchange(channel, request(action="order.refund", task_id=task, on_behalf_of=BEHALF,
                                  parameters=json.dumps({"amount": 9999, "currency": "EUR", "note": PARAMETER}))),
        exchange(channel, request(parameters=json.dumps({BAD: PARAMETER}))),
        exchange(channel, request(parameters=f'{{"{BAD}": 1.5}}')),
        exchange(channel, request(parameters=f'{{"{BAD}":1,"{BAD}":2}}')),
        exchange(channel, request(purpose=BAD)),
        exchange(channel, request(action=BAD.upper())),
        exchange(channel, request(audience=BAD)),
        exchange(channel, request(task_id=BAD)),
        exchange(channel, request(resource=types_pb2.Resource(type="order", id=BAD + "\n"))),
        exchange(channel, request(on_behalf_of=BAD + "\n")),
        exchange(channel, request(request_id=BAD * 5)),
        conversation(channel, request(parameters="{" + BAD)),
        begin_task(channel, purpose=BAD),
        begin_task(channel, tenant=BAD),
        revoke(channel, agent=BAD),
    ]  # fmt: skip
    told = [await outcome(call) for call in refusals]
    assert all(each.reason for each in told), told
    told += [
        await send(channel, PATHS["Exchange"], intent(text(1, BAD.encode() + b"\xff"))),
        await send(channel, PATHS["Exchange"], BAD.encode(), metadata=[("traceparent", BAD), ("authorization", BAD)]),
        await send(channel, PATHS["ExchangeStream"], items(request(parameters=BAD)).SerializeToString() + b"\xff"),
    ]
    await revoke(house.good(SECURITY), credential_id=given[0].credential_id)
    await channel.close()
    return [credential.token for credential in given], "\n".join(each.everything for each in told)


async def test_i8_nothing_secret_comes_out(own_house: House, logs: Logs, caplog: pytest.LogCaptureFixture) -> None:
    svid = own_house.svid(SUPPORT)
    tokens, errors = await attempts(own_house, svid)
    events = b"\n".join(event["content"] for event in await own_house.log()).decode()
    lines = "\n".join([*logs.lines, *(record.getMessage() for record in caplog.records)])
    assert "credential.granted" in events
    assert "/broker.v1.ExchangeService/Exchange" in lines  # the control: these are the logs, and these the errors
    assert "POLICY_FORBIDDEN" in errors
    store = (
        own_house.settings.store.path.read_bytes()
        + own_house.settings.store.path.with_name(own_house.settings.store.path.name + "-wal").read_bytes()
    )
    assert PARAMETER.encode() in store  # openings stand beside the log, as they should
    for token in tokens:
        for secret in secrets_of(token, svid):
            for where in (lines, events, errors):
                assert secret not in where
            assert secret.encode() not in store
    for secret in (PARAMETER, BEHALF, TALK):
        assert secret not in lines
        assert secret not in events
        assert secret not in errors
    assert BAD not in errors
    assert BAD not in lines


async def test_i8_a_defect_tells_nothing_either(own_house: House, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect whose exception holds what was asked: told is that there was one, and where."""

    def broken(_: object, question: object) -> None:
        raise RuntimeError(f"could not decide {question!r} {PARAMETER} {BEHALF}")

    channel = own_house.good(SUPPORT)
    given = (await exchange(channel, request())).credential
    monkeypatch.setattr(exchange_operation, "decide", broken)
    asked = request(on_behalf_of=BEHALF)
    for told in (await outcome(exchange(channel, asked)), await outcome(conversation(channel, asked))):
        assert told.reason == "INTERNAL"
        assert told.code is grpc.StatusCode.INTERNAL or told.code is grpc.StatusCode.UNAVAILABLE
        for secret in (PARAMETER, BEHALF, "RuntimeError", given.token):
            assert secret not in told.everything
    lines = "\n".join(logs.lines)
    assert "RuntimeError" in lines
    assert "defect" in lines
    for secret in (PARAMETER, BEHALF, given.token):
        assert secret not in lines
    monkeypatch.undo()
    assert not (await outcome(exchange(channel, request()))).reason
