"""Protobuf ⇄ nouns."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.event import Opening
from broker.credential.revocation import RuleKind
from broker.errors import Reason, Refusal
from broker.intent import Intent, Level
from broker.issuer.port import AuditEvent, AuditPage, Context, KeySet, Page, RevocationPage, Snapshot, Start
from broker.server import convert
from broker.svid.principal import Evidence
from broker.v1 import audit_pb2, exchange_pb2, revoke_pb2, types_pb2
from tests.server.world import request

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
CONTEXT = Context(
    evidence=Evidence(leaf=b"", chain=b"", tls_version="", session_reused=False, source=""), request="req_1"
)


def page(start: int, stop: int, size: int) -> Page:
    return Page(start=start, stop=stop, cursor="c", read_at=NOW, size=size, valid_until=NOW)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_refusal(raw: bytes) -> None:
    try:
        parsed = convert.parse(raw, exchange_pb2.ExchangeRequest)
    except Refusal as refusal:
        assert refusal.reason is Reason.REQUEST_MALFORMED
    else:
        call = convert.exchange_call(parsed, CONTEXT)
        assert isinstance(call.intent, Intent | Refusal)


LETTERS = st.text(max_size=20)


@given(action=LETTERS, kind=LETTERS, name=LETTERS, parameters=LETTERS, audience=LETTERS, task=LETTERS)
def test_any_fields_are_an_intent_or_a_refusal(
    action: str, kind: str, name: str, parameters: str, audience: str, task: str
) -> None:
    message = request(
        action=action,
        resource=types_pb2.Resource(type=kind, id=name),
        parameters=parameters,
        audience=audience,
        task_id=task,
    )
    assert isinstance(convert.exchange_call(message, CONTEXT).intent, Intent | Refusal)


def test_every_field_of_an_intent_is_taken() -> None:
    message = request(
        parameters='{"a":[1,"x",true]}',
        task_id="task_01890000-0000-7000-8000-000000000001",
        on_behalf_of="ann",
        sensitivity=types_pb2.LEVEL_HIGH,
        risk=types_pb2.LEVEL_LOW,
    )
    message.lifetime.seconds = 5
    message.request_id = "r"
    call = convert.exchange_call(message, CONTEXT)
    assert isinstance(call.intent, Intent)
    assert call.intent.parameters == {"a": [1, "x", True]}
    assert (call.intent.sensitivity, call.intent.risk) == (Level.HIGH, Level.LOW)
    assert (call.intent.task, call.intent.on_behalf_of) == (message.intent.task_id, "ann")
    assert (call.lifetime, call.request_id) == (timedelta(seconds=5), "r")
    taken = {
        "action",
        "resource",
        "parameters",
        "purpose",
        "audience",
        "task_id",
        "on_behalf_of",
        "sensitivity",
        "risk",
    }
    assert set(types_pb2.Intent.DESCRIPTOR.fields_by_name) == taken  # a new field must be converted, or be refused


def test_an_unknown_field_is_refused_wherever_it_stands() -> None:
    good = request()
    assert convert.parse(good.SerializeToString(), exchange_pb2.ExchangeRequest) == good
    inner = types_pb2.Resource.FromString(good.intent.resource.SerializeToString() + b"\xf8\x7f\x01")
    for bad in (good.SerializeToString() + b"\xf8\x7f\x01", request(resource=inner).SerializeToString()):
        with pytest.raises(Refusal) as caught:
            convert.parse(bad, exchange_pb2.ExchangeRequest)
        assert caught.value.reason is Reason.REQUEST_MALFORMED


def test_a_field_twice_means_what_protobuf_says_and_is_judged_once() -> None:
    """Last one wins for scalars: the same text goes to rule, intent and digest."""
    raw = request(action="order.delete").SerializeToString() + request(action="order.read").SerializeToString()
    call = convert.exchange_call(convert.parse(raw, exchange_pb2.ExchangeRequest), CONTEXT)
    assert isinstance(call.intent, Intent)
    assert call.intent.action == "order.read"


RULES = [
    (revoke_pb2.RevocationRule(credential_id="n"), RuleKind.CREDENTIAL),
    (revoke_pb2.RevocationRule(task_id="n"), RuleKind.TASK),
    (revoke_pb2.RevocationRule(agent="n"), RuleKind.AGENT),
    (revoke_pb2.RevocationRule(tenant="n"), RuleKind.TENANT),
    (revoke_pb2.RevocationRule(policy_id="n"), RuleKind.POLICY),
]


@pytest.mark.parametrize(("message", "kind"), RULES, ids=[kind.name for _, kind in RULES])
def test_every_rule_has_its_kind(message: revoke_pb2.RevocationRule, kind: RuleKind) -> None:
    assert (convert.rule(message).kind, convert.rule(message).name) == (kind, "n")


def test_the_proto_and_the_nouns_name_the_same_rules() -> None:
    assert len(revoke_pb2.RevocationRule.DESCRIPTOR.fields) == len(RuleKind) == len(RULES)


def test_a_rule_without_a_kind_is_refused() -> None:
    with pytest.raises(Refusal):
        convert.rule(revoke_pb2.RevocationRule())


def test_durations_and_times_keep_microseconds() -> None:
    assert convert.duration(Duration(seconds=1, nanos=2_000)) == timedelta(seconds=1, microseconds=2)
    assert convert.timestamp(NOW).ToDatetime(tzinfo=UTC) == NOW


def test_start_and_filter() -> None:
    assert convert.start(audit_pb2.AUDIT_START_END) is Start.END
    assert convert.start(audit_pb2.AUDIT_START_UNSPECIFIED) is convert.start(1) is Start.BEGINNING
    wanted = convert.audit_filter(
        audit_pb2.AuditFilter(kinds=["k"], tenant="t", agent="a", task_id="i", credential_id="c")
    )
    assert (wanted.kinds, wanted.tenant, wanted.agent, wanted.task, wanted.credential) == (("k",), "t", "a", "i", "c")


def test_a_page_covers_what_was_held_back_before_it() -> None:
    message = convert.audit_page(AuditPage(page=page(8, 9, 12)), 4)
    assert (message.from_position, message.to_position, message.cursor) == (4, 9, "c")
    assert (message.heartbeat.position, message.heartbeat.at.ToDatetime(tzinfo=UTC)) == (12, NOW)


def test_openings_go_with_their_event() -> None:
    opening = Opening(field="intent.parameters", value=b'{"a":"\xc3\xa9"}', salt=b"s" * 32)
    found = AuditPage(page=page(0, 1, 1), events=(AuditEvent(position=0, content=b"{}", openings=(opening,)),))
    (event,) = convert.audit_page(found, 0).events
    assert (event.event, event.openings[0].value, event.openings[0].salt) == (b"{}", '{"a":"é"}', b"s" * 32)


def test_an_empty_snapshot_is_still_one() -> None:
    assert convert.revocation_page(RevocationPage(page=page(0, 0, 0), snapshot=Snapshot()), 0).HasField("snapshot")
    assert not convert.revocation_page(RevocationPage(page=page(0, 0, 0)), 0).HasField("snapshot")


def test_keys_go_along_only_when_there_are_some() -> None:
    keys = KeySet(issuer="i", jwks="{}", checkpoint_key="k", digest="d")
    assert convert.revocation_page(RevocationPage(page=page(0, 0, 0), key_set=keys), 0).key_set.jwks == "{}"
    assert not convert.revocation_page(RevocationPage(page=page(0, 0, 0)), 0).HasField("key_set")
