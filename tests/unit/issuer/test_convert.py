"""The small conversions of the port: exact, bounded, and without secrets where people look."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given

from broker.credential.token import Token
from broker.errors import Reason, Refusal
from broker.intent import Intent
from broker.issuer.convert import (
    MAX_DETAIL,
    Malformed,
    bounded,
    decode_context,
    decode_refusal,
    encode_context,
    encode_refusal,
    from_microseconds,
    to_duration,
    to_microseconds,
)
from broker.issuer.convert_exchange import decode_exchange_call, encode_exchange_call
from broker.issuer.port import Context, ExchangeCall
from broker.issuer.v1 import port_pb2 as v1
from broker.person.identity_token import MAX_TOKEN_LENGTH
from broker.svid.principal import Evidence
from tests.issuer import nouns


@given(at=nouns.times)
def test_a_time_crosses_exactly(at: datetime) -> None:
    assert from_microseconds(to_microseconds(at)) == at


def test_a_duration_crosses_exactly() -> None:
    assert to_duration(timedelta(days=36500, microseconds=1)) == 36500 * 86400 * 10**6 + 1
    assert to_duration(None) is None
    assert to_microseconds(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)) == 10**6


@pytest.mark.parametrize(
    ("text", "limit", "fits"),
    [("x" * 64, 64, True), ("x" * 65, 64, False), ("ř" * 32, 64, True), ("ř" * 33, 64, False), ("", 0, True)],
    ids=["at the limit", "over it", "two bytes each, at the limit", "two bytes each, over it", "nothing"],
)
def test_text_is_bounded_in_bytes(text: str, limit: int, fits: bool) -> None:
    if fits:
        assert bounded(text, limit, "text") == text
    else:
        with pytest.raises(Malformed):
            bounded(text, limit, "text")


@pytest.mark.parametrize("text", ["a\nb", "\0", "a\x9b"])
def test_text_that_moves_a_line_is_none(text: str) -> None:
    with pytest.raises(Malformed):
        bounded(text, 64, "text")


def test_an_overlong_detail_is_cut_where_it_is_sent() -> None:
    message = encode_refusal(Refusal(Reason.REQUEST_INVALID, "x" * 5000))
    assert decode_refusal(message).detail == "x" * MAX_DETAIL


def test_a_reason_gives_its_own_sentence_without_sending_it() -> None:
    message = encode_refusal(Refusal(Reason.POLICY_FORBIDDEN))
    assert message.sentence == ""
    assert decode_refusal(message).sentence == Reason.POLICY_FORBIDDEN.meaning.sentence


def test_parameters_are_parsed_again_by_the_strict_parser() -> None:
    message = encode_exchange_call(nouns.an_exchange())
    message.intent.parameters = '{"amount_minor":1200,"amount_minor":1}'
    asked = decode_exchange_call(message).intent
    assert isinstance(asked, Refusal)
    assert asked.reason is Reason.INTENT_PARAMETERS_DUPLICATE
    message.intent.parameters = '{"amount_minor":1}'
    understood = decode_exchange_call(message).intent
    assert isinstance(understood, Intent)
    assert understood.parameters == {"amount_minor": 1}


def test_lifetime_absent_and_lifetime_zero_are_two_things() -> None:
    call = nouns.an_exchange()
    assert decode_exchange_call(encode_exchange_call(call)).lifetime is None
    zero = ExchangeCall(context=call.context, intent=call.intent, lifetime=timedelta(0))
    with pytest.raises(Malformed):
        decode_exchange_call(encode_exchange_call(zero))


@pytest.mark.parametrize(("message", "secret"), [("Credential", "token"), ("Opening", "value"), ("Opening", "salt")])
def test_secrets_are_marked_for_redaction(message: str, secret: str) -> None:
    field = v1.DESCRIPTOR.message_types_by_name[message].fields_by_name[secret]
    assert field.GetOptions().debug_redact


def context(token: str) -> Context:
    evidence = Evidence(leaf=b"leaf", chain=b"", tls_version="TLSv1.3", session_reused=False, source="here")
    return Context(evidence=evidence, request="req_1", identity_token=Token(token, credential_id="a person"))


def test_an_identity_token_crosses_whole_and_unseen() -> None:
    sent = context("the.secret.token")
    message = encode_context(sent)
    found = decode_context(message)
    assert found.identity_token is not None
    assert found.identity_token.reveal() == "the.secret.token"
    assert "secret" not in f"{sent!r} {found!r}"
    message.identity_token = ""
    assert decode_context(message).identity_token is None


def test_an_identity_token_is_bounded() -> None:
    decode_context(encode_context(context("x" * MAX_TOKEN_LENGTH)))
    with pytest.raises(Malformed):
        decode_context(encode_context(context("x" * (MAX_TOKEN_LENGTH + 1))))
