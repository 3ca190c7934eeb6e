"""Keys: one signs, the next is known before it does, the last is known until its tokens are over."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from broker.credential.keys import MAX_KEYS, public_jwk, raw_ed25519, read_jwks, thumbprint
from broker.credential.ring import (
    Change,
    KeyRing,
    KeySettings,
    KeyState,
    Make,
    Move,
    RingKey,
    plan,
    ready_at,
    removal,
    rotation,
)
from broker.errors import Reason, Refusal
from tests.unit.credential.samples import NOW, OTHER_SIGNER, SIGNER

SETTINGS = KeySettings(period=timedelta(days=1), lead=timedelta(minutes=1))
RETENTION = timedelta(hours=1)


def ring_key(name: str, state: KeyState, since: datetime = NOW) -> RingKey:
    return RingKey(kid=name, public_jwk=f'{{"kid":"{name}"}}', state=state, since=since)


def due(ring: KeyRing, now: datetime, settings: KeySettings = SETTINGS) -> list[Change]:
    """Return what is planned when everything signed so far is over after the retention."""
    return plan(ring, now, settings, now + RETENTION)


def carry_out(ring: KeyRing, now: datetime, name: Callable[[], str], settings: KeySettings = SETTINGS) -> KeyRing:
    """Do what is planned, as the broker would."""
    return after(ring, due(ring, now, settings), now, name)


def after(ring: KeyRing, changes: list[Change], now: datetime, name: Callable[[], str]) -> KeyRing:
    for change in changes:
        match change:
            case Make(state=state):
                ring = ring.with_key(ring_key(name(), state, now))
            case Move(key=key):
                ring = ring.with_key(key)
    return ring


def names() -> Callable[[], str]:
    counter = iter(range(10**6))
    return lambda: f"k{next(counter)}"


def states(ring: KeyRing) -> dict[str, str]:
    return {key.kid: key.state.value for key in ring.keys}


def test_an_empty_ring_gets_a_key_and_the_next_one() -> None:
    assert due(KeyRing(), NOW) == [Make(state=KeyState.CURRENT), Make(state=KeyState.NEXT)]
    with pytest.raises(Refusal) as refused:
        KeyRing().signing()
    assert refused.value.reason is Reason.SIGNING_UNAVAILABLE


def test_a_key_follows_after_its_period_and_stays_published_until_its_tokens_are_over() -> None:
    name = names()
    ring = carry_out(KeyRing(), NOW, name)
    end = NOW + SETTINGS.period
    assert due(ring, end - timedelta(microseconds=1)) == []
    ring = carry_out(ring, end, name)
    assert states(ring) == {"k0": "retired", "k1": "current", "k2": "next"}
    assert ring.signing().kid == "k1"
    assert due(ring, end + RETENTION - timedelta(microseconds=1)) == []
    ring = carry_out(ring, end + RETENTION, name)
    assert states(ring) == {"k1": "current", "k2": "next"}


def test_a_next_key_never_signs_before_its_lead() -> None:
    late = KeyRing(
        keys=(
            ring_key("a", KeyState.CURRENT, NOW - 2 * SETTINGS.period),
            ring_key("b", KeyState.NEXT, NOW),
        )
    )
    assert due(late, NOW + SETTINGS.lead - timedelta(microseconds=1)) == []
    assert carry_out(late, NOW + SETTINGS.lead, names()).signing().kid == "b"


def test_a_clock_that_jumps_back_changes_nothing() -> None:
    ring = carry_out(KeyRing(), NOW, names())
    assert due(ring, NOW - timedelta(hours=2)) == []


def test_removing_a_stolen_key_is_an_emergency_rotation() -> None:
    name = names()
    ring = carry_out(KeyRing(), NOW, name)
    stolen = ring.signing()
    ring = after(ring, removal(ring, stolen.kid, NOW, lost=False), NOW, name)
    assert states(ring) == {"k1": "current", "k2": "next"}
    assert stolen.kid not in ring.jwks()
    with pytest.raises(Refusal) as refused:
        removal(ring, stolen.kid, NOW, lost=False)
    assert refused.value.reason is Reason.KEY_UNKNOWN


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("gone", ["k0", "k1", "k2"])
def test_whichever_key_is_removed_one_signs_and_one_is_next(gone: str, lost: bool) -> None:
    name = names()
    ring = carry_out(carry_out(KeyRing(), NOW, name), NOW + SETTINGS.period, name)
    assert states(ring) == {"k0": "retired", "k1": "current", "k2": "next"}
    ring = after(ring, removal(ring, gone, NOW, lost=lost), NOW, name)
    found = states(ring)
    assert gone not in found
    assert ("k2" in found) is (gone != "k2" and not lost)
    assert sorted(found.values())[:2] == ["current", "next"]
    assert ring.signing().kid == ("k1" if gone != "k1" else "k3" if lost else "k2")


def test_a_rotation_by_hand_is_the_one_that_would_come_by_itself() -> None:
    name = names()
    ring = carry_out(KeyRing(), NOW, name)
    end = NOW + SETTINGS.period
    assert rotation(ring, end, end + RETENTION) == due(ring, end)
    assert ready_at(ring, SETTINGS) == NOW + SETTINGS.lead
    with pytest.raises(Refusal) as refused:
        rotation(KeyRing(), NOW, None)
    assert refused.value.reason is Reason.SIGNING_UNAVAILABLE


def test_a_key_that_has_no_end_stays() -> None:
    ring = carry_out(KeyRing(), NOW, names())
    ring = after(ring, rotation(ring, NOW, None), NOW, lambda: "k2")
    assert states(ring)["k0"] == "retired"
    assert states(carry_out(ring, NOW + 1000 * SETTINGS.period, lambda: "k3"))["k0"] == "retired"


def test_a_full_ring_waits_until_a_key_goes() -> None:
    old = [ring_key(f"r{n}", KeyState.RETIRED) for n in range(MAX_KEYS - 2)]
    retired = tuple(replace(key, until=NOW + timedelta(hours=1 + n)) for n, key in enumerate(old))
    ring = KeyRing(keys=(*retired, ring_key("a", KeyState.CURRENT), ring_key("b", KeyState.NEXT)))
    assert ready_at(ring, SETTINGS) == NOW + timedelta(hours=1)
    assert due(ring, NOW + timedelta(minutes=59)) == []
    roomier = KeyRing(keys=ring.keys[1:])
    assert ready_at(roomier, SETTINGS) == NOW + SETTINGS.lead


def test_the_public_set_holds_every_key_in_an_order_of_its_own() -> None:
    ring = carry_out(KeyRing(), NOW, names())
    assert [key["kid"] for key in json.loads(ring.jwks())["keys"]] == ["k0", "k1"]
    assert KeyRing(keys=tuple(reversed(ring.keys))).jwks() == ring.jwks()


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([("a", KeyState.CURRENT), ("b", KeyState.CURRENT)], id="two-current"),
        pytest.param([("a", KeyState.NEXT), ("b", KeyState.NEXT)], id="two-next"),
        pytest.param([("a", KeyState.NEXT), ("a", KeyState.RETIRED)], id="a-key-twice"),
        pytest.param([("a", KeyState.REMOVED)], id="removed"),
    ],
)
def test_a_ring_that_is_not_clear_is_none(keys: list[tuple[str, KeyState]]) -> None:
    with pytest.raises(ValueError, match="keys:"):
        KeyRing(keys=tuple(ring_key(*key) for key in keys))


@pytest.mark.parametrize(("period", "lead"), [(1, 2), (1, 0), (0, 0)])
def test_settings_that_cannot_be_kept_are_none(period: int, lead: int) -> None:
    with pytest.raises(ValueError, match="keys:"):
        KeySettings(period=timedelta(1) * period, lead=timedelta(1) * lead)


@given(steps=st.lists(st.integers(0, 5000), max_size=60))
def test_at_any_pace_no_signature_comes_before_its_key_nor_outlives_it(steps: list[int]) -> None:
    settings = KeySettings(period=timedelta(minutes=30), lead=timedelta(minutes=10))
    ring, now, name = KeyRing(), NOW, names()
    published: dict[str, datetime] = {}
    last_signed: dict[str, datetime] = {}
    first = ""
    for step in [0, *steps]:
        now += timedelta(seconds=step)
        before = {key.kid for key in ring.keys}
        ring = carry_out(ring, now, name, settings)
        for gone in before - {key.kid for key in ring.keys}:
            assert now - last_signed[gone] >= RETENTION
        for key in ring.keys:
            published.setdefault(key.kid, now)
        signing = ring.signing().kid
        first = first or signing
        # Until this moment the former key may have signed.
        last_signed |= dict.fromkeys((key.kid for key in ring.keys if key.state is KeyState.CURRENT), now)
        last_signed |= {key.kid: key.since for key in ring.keys if key.state is KeyState.RETIRED}
        assert signing == first or now - published[signing] >= settings.lead
        assert due(ring, now, settings) == []


# --- public keys as text --------------------------------------------------------------------------------------------


def jwks(*keys: str) -> str:
    return '{"keys":[' + ",".join(keys) + "]}"


def test_a_key_set_reads_back() -> None:
    keys = read_jwks(jwks(SIGNER.public_jwk, OTHER_SIGNER.public_jwk))
    assert keys.keys() == {SIGNER.kid, OTHER_SIGNER.kid}
    assert public_jwk(keys[SIGNER.kid]) == SIGNER.public_jwk


def test_the_kid_is_the_thumbprint_of_rfc_7638() -> None:
    members = json.loads(SIGNER.public_jwk)
    assert members.keys() == {"kty", "crv", "x", "y", "alg", "use", "kid"}
    assert thumbprint(read_jwks(jwks(SIGNER.public_jwk))[SIGNER.kid]) == members["kid"]


def test_a_checkpoint_key_is_a_jwk_too() -> None:
    """RFC 8037 appendix A.3 gives the thumbprint of this very key."""
    raw = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    key = ed25519.Ed25519PublicKey.from_public_bytes(raw)
    assert thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert raw_ed25519(public_jwk(key)) == raw
    assert read_jwks(jwks(public_jwk(key))) == {}, "no validator takes it for a token key"


def test_coordinates_keep_their_length() -> None:
    short = next(
        key
        for key in (ec.derive_private_key(n, ec.SECP256R1()).public_key() for n in range(2, 2000))
        if key.public_numbers().x < 2**248
    )
    assert len(json.loads(public_jwk(short))["x"]) == 43
    assert thumbprint(short) in read_jwks(jwks(public_jwk(short)))


def test_a_key_of_another_algorithm_is_passed_over() -> None:
    other = json.dumps({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "x", "x": "A" * 43})
    assert read_jwks(jwks(other, SIGNER.public_jwk)).keys() == {SIGNER.kid}
    assert read_jwks(jwks()) == {}


def changed(**members: object) -> str:
    held = json.loads(SIGNER.public_jwk) | members
    return json.dumps({name: value for name, value in held.items() if value is not None})


BAD_SETS = {
    "empty": "",
    "not-json": "keys",
    "array": "[]",
    "no-keys": "{}",
    "keys-object": '{"keys":{}}',
    "key-text": '{"keys":["a"]}',
    "key-null": '{"keys":[null]}',
    "twice": jwks(SIGNER.public_jwk, SIGNER.public_jwk),
    "private": jwks(changed(d="A" * 43)),
    "symmetric": jwks('{"kty":"oct","k":"AAAA","alg":"HS256"}'),
    "other-kid": jwks(changed(kid=OTHER_SIGNER.kid)),
    "no-kid": jwks(changed(kid=None)),
    "other-curve": jwks(changed(crv="P-384")),
    "other-type": jwks(changed(kty="RSA")),
    "for-encryption": jwks(changed(use="enc")),
    "no-use": jwks(changed(use=None)),
    "off-the-curve": jwks(changed(x="A" * 43)),
    "coordinate-number": jwks(changed(x=1)),
    "coordinate-short": jwks(changed(x="AAAA")),
    "coordinate-padded": jwks(changed(x=json.loads(SIGNER.public_jwk)["x"] + "=")),
    "coordinate-absent": jwks(changed(y=None)),
    "too-many": jwks(*[SIGNER.public_jwk] * 65),
    "too-long": '{"keys":[]' + " " * 70_000 + "}",
    "deep": '{"keys":' + "[" * 50_000 + "]" * 50_000 + "}",
    "surrogate": '{"keys":["\ud800"]}',
}


@pytest.mark.parametrize("text", BAD_SETS.values(), ids=BAD_SETS.keys())
def test_a_key_set_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_jwks(text)
    assert refused.value.reason is Reason.KEY_SET_INVALID
