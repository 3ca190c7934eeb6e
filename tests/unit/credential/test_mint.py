"""Mint: the same grant gives the same bytes, and one form of signature."""

import json
from base64 import urlsafe_b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.credential import mint
from broker.errors import Reason, Refusal
from broker.intent import Resource, canonical_json
from broker.scope import OneOf, Scope
from tests.unit.credential.samples import AUDIENCE, DECISION, ISSUER, SIGNER, claims, grant


def _parts(signing_input: bytes) -> list[bytes]:
    return [urlsafe_b64decode(part + b"==") for part in signing_input.split(b".")]


def test_header_and_payload_are_canonical() -> None:
    header, payload = _parts(mint.prepare(grant(), SIGNER.kid, ISSUER))
    assert header == b'{"alg":"ES256","kid":"%s","typ":"at+jwt"}' % SIGNER.kid.encode()
    assert payload == canonical_json(claims())


@given(name=st.text(max_size=8), value=st.text(max_size=8))
def test_any_text_is_canonical(name: str, value: str) -> None:
    constraints = {name: OneOf(values=(value,)), "\U0001f600": OneOf(values=(1,)), "￿": OneOf(values=("\x7f\x00",))}
    scope = Scope(
        actions=frozenset({"a"}), resource=Resource(type="order", id="1"), constraints=constraints, audience=AUDIENCE
    )
    payload = _parts(mint.prepare(grant(scope=scope), SIGNER.kid, ISSUER))[1]
    assert payload == canonical_json(json.loads(payload))


def test_the_credential_cannot_print_its_token() -> None:
    signing_input = mint.prepare(grant(), SIGNER.kid, ISSUER)
    credential = mint.finish(signing_input, SIGNER.sign(signing_input), grant(), DECISION)
    text = credential.token.reveal()
    assert text.startswith(signing_input.decode() + ".")
    assert text not in repr(credential)
    assert (credential.decision_id, credential.grant) == (DECISION, grant())


def test_both_forms_of_a_signature_give_one_token() -> None:
    signing_input = mint.prepare(grant(), SIGNER.kid, ISSUER)
    signature = SIGNER.sign(signing_input)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = signature[:32] + (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    assert signature != twin
    one, other = (mint.finish(signing_input, each, grant(), "").token.reveal() for each in (signature, twin))
    assert one == other


@pytest.mark.parametrize("signature", [b"", b"x" * 63, b"x" * 65, b"x" * 71], ids=["none", "short", "long", "der"])
def test_a_signer_that_gives_no_es256_signature_is_no_signer(signature: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        mint.finish(b"a.b", signature, grant(), DECISION)
    assert refused.value.reason is Reason.SIGNING_UNAVAILABLE


def _scope_of(length: int) -> Scope:
    return Scope(
        actions=frozenset({"a"}),
        resource=Resource(type="order", id="1"),
        constraints={"note": OneOf(values=("x" * length,))},
        audience=AUDIENCE,
    )


def test_a_token_fits_into_what_a_grpc_server_accepts() -> None:
    fitting = mint.prepare(grant(scope=_scope_of(4000)), SIGNER.kid, ISSUER)
    assert len(fitting) < mint.MAX_ISSUED_LENGTH
    with pytest.raises(Refusal) as refused:
        mint.prepare(grant(scope=_scope_of(5000)), SIGNER.kid, ISSUER)
    assert refused.value.reason is Reason.CREDENTIAL_TOO_LARGE
