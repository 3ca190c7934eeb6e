"""Commands that read a stream of a server that lies: a clear word and an exit status, never a traceback."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import CliRunner, Result
from google.protobuf.timestamp_pb2 import Timestamp
from pyroaring import BitMap

from broker.cli import broker
from broker.cli.revocations import MOST_SHOWN
from broker.v1 import audit_pb2, revoke_pb2
from tests.unit.audit.siem import ACCEPTED

GOOD = [each["content"].encode() for each in ACCEPTED]
GRANTED = next(each["content"] for each in ACCEPTED if each["type"] == "credential.granted")
LIES = {
    "no event": b"never",
    "not text": b"\xff\xfe",
    "another shape": GRANTED.replace('"audience":"', '"audience":["')
    .encode()
    .replace(b'"credential"', b'],"credential"', 1),
    "a list for a task": b'{"at":"2026-11-21T12:00:00.000001Z","task":[1],"type":"task.begun","v":1}',
    "a use without a credential": b'{"at":"2026-11-21T12:00:00.000001Z","type":"usage.accepted","use":"u","v":1}',
    "no time": b'{"type":"task.ended","v":1}',
    "a time that is none": b'{"at":"yesterday","type":"task.ended","v":1}',
    "deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
}
READERS = (
    ("audit", "trace", "task_1"),
    ("audit", "trace", "--json", "--personal", "anything"),
    ("audit", "unaccounted"),
    ("audit", "unaccounted", "--json"),
    ("audit", "tail"),
    ("audit", "tail", "--format", "ocsf"),
    ("audit", "tail", "--format", "otel"),
)


@dataclass
class Liar:
    """A session with a server that says whatever it is told to say."""

    messages: list[Any]

    async def subscribe_audit(self, **_: Any) -> AsyncIterator[Any]:
        for message in self.messages:
            yield message

    async def subscribe_revocations(self, **_: Any) -> AsyncIterator[Any]:
        for message in self.messages:
            yield message


Invoke = Callable[..., Result]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command against a server that sends these messages."""

    def invoke(messages: list[Any], *arguments: str) -> Result:
        @asynccontextmanager
        async def connect(*_: Any, **__: Any) -> AsyncIterator[Liar]:
            yield Liar(messages)

        monkeypatch.setattr("broker.cli.connection.connect", connect)
        return CliRunner(env={"BROKER_ID": "spiffe://example.org/broker"}).invoke(broker, list(arguments))

    return invoke


def sent(*contents: bytes) -> list[Any]:
    events = [audit_pb2.AuditEvent(position=number, event=content) for number, content in enumerate(contents)]
    return [audit_pb2.SubscribeAuditResponse(to_position=len(events), events=events, cursor="c")]


def ends_well(result: Result, status: int) -> None:
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == status, result.output


@pytest.mark.parametrize("reader", READERS, ids=" ".join)
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_told_with_its_position(told: Invoke, reader: tuple[str, ...], lie: str) -> None:
    result = told(sent(*GOOD, LIES[lie]), *reader)
    ends_well(result, 1)
    assert f"the event at {len(GOOD)} cannot be read" in result.output
    assert "never" not in result.output


@pytest.mark.parametrize("reader", READERS, ids=" ".join)
def test_the_same_without_the_lie_is_read(told: Invoke, reader: tuple[str, ...]) -> None:
    result = told(sent(*GOOD), *reader)
    ends_well(result, 1 if "trace" in reader else 0)  # of a task that is not there
    assert "cannot be read" not in result.output


def test_the_saved_form_keeps_a_lie_as_evidence_as_long_as_it_is_text(told: Invoke) -> None:
    kept = told(sent(LIES["no event"]), "audit", "tail", "--json")
    ends_well(kept, 0)
    assert "never" in kept.output
    ends_well(told(sent(LIES["not text"]), "audit", "tail", "--json"), 1)


def test_a_type_cannot_turn_the_terminal_over(told: Invoke) -> None:
    event = b'{"at":"2026-11-21T12:00:00.000001Z","spiffe_id":"\\u202e","type":"a.b\\u202d\\u0007","v":1}'
    result = told(sent(event), "audit", "tail")
    ends_well(result, 0)
    assert "\\u{202e}" in result.output
    assert "\\u{202d}" in result.output
    assert not {"\x07", "\u202d", "\u202e"} & set(result.output)


def test_revocations_of_a_liar(told: Invoke) -> None:
    revoked, snapshot = revoke_pb2.Revoked, revoke_pb2.RevocationSnapshot
    good = revoked(position=1, at=Timestamp(seconds=1_800_000_000), rule="agent\x07", credential_ids=["\u202e"])
    for bad in (
        {"snapshot": snapshot(status_indexes=b"no bitmap")},
        {"snapshot": snapshot(status_indexes=BitMap([7, 70_000]).serialize()[:3])},
        {"revoked": [revoked(position=1, at=Timestamp(seconds=1 << 60), rule="agent")]},
    ):
        result = told([revoke_pb2.SubscribeRevocationsResponse(to_position=2, **bad)], "revocations", "follow")
        ends_well(result, 1)
        assert result.output.count("roker") == 1
    result = told([revoke_pb2.SubscribeRevocationsResponse(to_position=2, revoked=[good])], "revocations", "follow")
    ends_well(result, 0)
    assert not {"\x07", "\u202e"} & set(result.output)


@pytest.mark.parametrize("arguments", [(), ("--json",)], ids=["lines", "json"])
def test_a_list_of_what_is_revoked_is_counted_before_it_is_listed(told: Invoke, arguments: tuple[str, ...]) -> None:
    """A megabyte stands for every index there is; as a list they would not fit into this machine."""

    def listed(indexes: range) -> Result:
        snapshot = revoke_pb2.RevocationSnapshot(status_indexes=BitMap(indexes).serialize())
        message = revoke_pb2.SubscribeRevocationsResponse(to_position=2, snapshot=snapshot)
        assert message.ByteSize() < 4 * 1024 * 1024, "gRPC would not take it"
        return told([message], "revocations", "follow", *arguments)

    for bad in (range(MOST_SHOWN + 1), range(2**32 - 1)):
        result = listed(bad)
        ends_well(result, 1)
        assert "cannot be shown: it holds " in result.output
        assert len(result.output) < 200
    result = listed(range(MOST_SHOWN))
    ends_well(result, 0)
    assert str(MOST_SHOWN - 1) in result.output
