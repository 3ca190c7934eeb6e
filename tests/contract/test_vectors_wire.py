"""What travels on a wire against the vectors: credentials, keys, revocation snapshots, frames of the issuer's port."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import json_format
from google.protobuf.message import Message
from pyroaring import BitMap

from broker.credential import keys, mint, ring
from broker.credential.claims import to_claims
from broker.credential.grant import Grant
from broker.credential.source import TokenSigner
from broker.credential.verify import verify
from broker.intent import Resource, canonical_json, digest
from broker.issuer import convert, convert_answers, convert_calls, convert_exchange, convert_tasks, wire
from broker.issuer.v1 import port_pb2
from broker.scope import Scope, constraint_from_json
from broker.svid.leaf import thumbprint_of
from broker.validator.view import KeySet, RevocationView, Update, UpdateRefused
from tests.vectors.files import FILES, reason_of, rows

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TOKENS: Final = FILES["credential"]
KEYS: Final = FILES["keys"]
NOW: Final = EPOCH + timedelta(seconds=TOKENS["now"])


# --- keys ----------------------------------------------------------------------------------------------------------


def private_key(vector: Mapping[str, Any]) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int(vector["test_private"], 16), ec.SECP256R1())


@rows("keys", "keys")
def test_a_public_key_is_this_jwk(vector: dict[str, Any]) -> None:
    public = private_key(vector).public_key()
    assert keys.public_jwk(public) == vector["jwk"]
    assert keys.thumbprint(public) == vector["kid"]


@rows("keys", "certificates")
def test_a_certificate_has_this_thumbprint(vector: dict[str, Any]) -> None:
    leaf = x509.load_pem_x509_certificate(vector["pem"].encode())
    assert thumbprint_of(leaf) == vector["x5t#S256"]


def test_the_key_ring_writes_this_key_set() -> None:
    held = ring.KeyRing(
        keys=tuple(
            ring.RingKey(kid=each["kid"], public_jwk=each["jwk"], state=state, since=NOW)
            for each, state in zip(KEYS["keys"], (ring.KeyState.CURRENT, ring.KeyState.NEXT), strict=True)
        )
    )
    assert held.jwks() == KEYS["key_set"]["jwks"]
    assert digest(KEYS["key_set"]["digested"].encode()) == KEYS["key_set"]["digest"]


@rows("keys", "accepted")
def test_a_key_set_is_read(vector: dict[str, Any]) -> None:
    assert sorted(keys.read_jwks(vector["jwks"])) == sorted(vector["kids"])


@rows("keys", "refused")
def test_a_key_set_that_is_none_is_refused(vector: dict[str, Any]) -> None:
    assert reason_of(lambda: keys.read_jwks(vector["jwks"])) == vector["reason"]


# --- credentials ---------------------------------------------------------------------------------------------------


def grant_of(members: Mapping[str, Any]) -> Grant:
    scope = Scope(
        actions=frozenset(members["actions"]),
        resource=Resource(**members["resource"]),
        constraints={name: constraint_from_json(limit) for name, limit in members["parameters"].items()},
        audience=members["audience"],
    )
    plain = (
        "credential_id",
        "agent",
        "tenant",
        "task",
        "transaction_id",
        "intent_digest",
        "thumbprint",
        "status_index",
    )
    return Grant(
        **{name: members[name] for name in plain},
        scope=scope,
        policy_ids=(),
        issued_at=EPOCH + timedelta(seconds=members["issued_at"]),
        expires_at=EPOCH + timedelta(seconds=members["expires_at"]),
    )


def verified(token: str) -> object:
    return verify(
        token, keys=keys.read_jwks(TOKENS["jwks"]), issuer=TOKENS["issuer"], audience=TOKENS["audience"], now=NOW
    )


@rows("credential", "accepted")
def test_a_grant_becomes_this_token(vector: dict[str, Any]) -> None:
    grant, (kid,) = grant_of(vector["grant"]), keys.read_jwks(TOKENS["jwks"])
    assert canonical_json(to_claims(grant, TOKENS["issuer"])) == vector["claims"].encode()
    signing_input = mint.prepare(grant, kid, TOKENS["issuer"])
    for signature in (vector["signature"], vector["signature_as_signed"]):
        token = mint.finish(signing_input, bytes.fromhex(signature), grant, "").token
        assert token.reveal() == vector["token"]
        assert token.digest() == vector["token_digest"]


@rows("credential", "accepted")
def test_a_token_of_the_second_program_is_accepted(vector: dict[str, Any]) -> None:
    token = verify(
        vector["token"],
        keys=keys.read_jwks(TOKENS["jwks"]),
        issuer=TOKENS["issuer"],
        audience=TOKENS["audience"],
        now=NOW,
    )
    grant = grant_of(vector["grant"])
    shared = ["credential_id", "agent", "tenant", "task", "transaction_id", "scope", "intent_digest", "thumbprint"]
    shared += ["status_index", "issued_at", "expires_at", "use"]
    assert {name: getattr(token, name) for name in shared} == {name: getattr(grant, name) for name in shared}


def test_the_second_program_would_accept_what_our_signer_signs() -> None:
    vector, signer = TOKENS["accepted"][0], TokenSigner(private_key(KEYS["keys"][0]))
    signing_input = mint.prepare(grant_of(vector["grant"]), signer.kid, TOKENS["issuer"])
    ours = mint.finish(signing_input, signer.sign(signing_input), grant_of(vector["grant"]), "").token.reveal()
    assert ours.rpartition(".")[0] == vector["token"].rpartition(".")[0]
    verified(ours)


def test_the_minter_meets_both_forms_of_a_signature() -> None:
    turned = {each["signature"] != each["signature_as_signed"] for each in TOKENS["accepted"]}
    assert turned == {True, False}, "a high s and a low one, or the vectors prove half"


@rows("credential", "accepted_only")
def test_a_token_at_the_edge_is_accepted(vector: dict[str, Any]) -> None:
    verified(vector["token"])


@rows("credential", "refused")
def test_a_token_that_is_none_is_refused(vector: dict[str, Any]) -> None:
    assert reason_of(lambda: verified(vector["token"])) == vector["reason"]


# --- revocations ---------------------------------------------------------------------------------------------------


def indexes_of(vector: Mapping[str, Any]) -> list[int]:
    return [index for first, last in vector["ranges"] for index in range(first, last + 1)]


def view_of(snapshot: str) -> RevocationView:
    view = RevocationView(issuer=KEYS["key_set"]["issuer"])
    key_set = KeySet(issuer=KEYS["key_set"]["issuer"], jwks=KEYS["key_set"]["jwks"])
    view.apply(Update(start=3, stop=3, snapshot=bytes.fromhex(snapshot), key_set=key_set, read_at=NOW), NOW)
    return view


@rows("revocations", "accepted")
def test_a_snapshot_is_written_in_one_of_these_ways(vector: dict[str, Any]) -> None:
    # Which containers are written as runs is the writer's choice; a set has one meaning in any of them.
    ways = [vector[name] for name in ("snapshot", "snapshot_of_runs") if name in vector]
    assert BitMap(indexes_of(vector)).serialize().hex() in ways
    for way in ways:
        view, held = view_of(way), indexes_of(vector)
        assert view.count == len(held)
        assert all(view.is_revoked(index) for index in held)


@rows("revocations", "refused")
def test_a_snapshot_that_is_none_drops_the_view(vector: dict[str, Any]) -> None:
    with pytest.raises(UpdateRefused):
        view_of(vector["snapshot"])


# --- the issuer's port ---------------------------------------------------------------------------------------------

Turn = Callable[[Any], Message]

# Through the nouns and back, for every message that has a conversion of its own.
TURNED: Final[Mapping[str, Turn]] = {
    "exchange": lambda each: port_pb2.ExchangeCalls(
        calls=[
            convert_exchange.encode_exchange_call(convert_exchange.decode_exchange_call(call)) for call in each.calls
        ]
    ),
    "exchanged": lambda each: convert_exchange.encode_exchange_answers(
        [convert_exchange.decode_exchange_answer(answer) for answer in each.answers]
    ),
    "revoke": lambda each: convert_calls.encode_revoke(convert_calls.decode_revoke(each)),
    "read_audit": lambda each: convert_calls.encode_audit_page_call(convert_calls.decode_audit_page_call(each)),
    "refused": lambda each: convert.encode_refusal(convert.decode_refusal(each)),
    "revocation_page": lambda each: convert_answers.encode_revocation_page(
        convert_answers.decode_revocation_page(each)
    ),
    "task": lambda each: convert_tasks.encode_task(convert_tasks.decode_task(each)),
    "changed": lambda each: convert_answers.encode_change(convert_answers.decode_change(each)),
    "state": lambda each: convert_answers.encode_state(convert_answers.decode_state(each)),
    "watch": lambda each: each,
    "read_state": lambda each: each,
}


async def received(content: bytes) -> port_pb2.Frame:
    reader = asyncio.StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    found = await wire.read_frame(reader)
    assert found is not None
    assert await wire.read_frame(reader) is None, "one frame and no byte more"
    return found[0]


@rows("port", "accepted")
async def test_a_frame_has_these_bytes(vector: dict[str, Any]) -> None:
    frame, content = json_format.ParseDict(vector["message"], port_pb2.Frame()), bytes.fromhex(vector["bytes"])
    assert wire.pack(frame) == content
    assert await received(content) == frame
    body = frame.WhichOneof("body")
    assert body is not None
    assert TURNED[body](getattr(frame, body)) == getattr(frame, body)


@rows("port", "accepted_only")
async def test_a_frame_of_a_later_release_is_read(vector: dict[str, Any]) -> None:
    frame = await received(bytes.fromhex(vector["bytes"]) + bytes(vector["zeros"]))
    assert json_format.MessageToDict(frame, preserving_proto_field_name=True) == {
        name: str(value) if isinstance(value, int) else value for name, value in vector["message"].items()
    }


@rows("port", "refused")
async def test_what_is_no_frame_breaks_the_link(vector: dict[str, Any]) -> None:
    with pytest.raises(wire.LinkBroken):
        await received(bytes.fromhex(vector["bytes"]) + bytes(vector["zeros"]))


@rows("port", "refused_calls")
async def test_a_call_of_no_honest_door_is_refused(vector: dict[str, Any]) -> None:
    frame = await received(bytes.fromhex(vector["bytes"]))
    with pytest.raises(convert.CONVERSION_PROBLEMS):
        convert_calls.decode_revoke(frame.revoke)
