"""SVIDs at every entrance: a caller that is not exactly a trusted workload gets its reason, and nothing else.

threats.md D2, D3, D5, F1 to F3. Each row is one certificate, made for the very ID that the entrance would let in.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker.errors import Reason
from tests.attacks.entrances import ENTRANCES, UNSAID, Entrance, Outcome, at_every_entrance, exchange, outcome, request
from tests.attacks.house import House
from tests.fakes.asn1 import tlv
from tests.fakes.trust_domain import LEAF_USAGE, Svid, TrustDomain
from tests.operations.world import BROKER, SUPPORT

Make = Callable[[House, str], Svid]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One bad certificate: how it is made for an ID, and what the broker says to it."""

    id: str
    make: Make
    reason: Reason
    tls: dict[str, Any] = field(default_factory=dict)


def uris(*texts: str) -> Make:
    """With these URI SANs; {} stands for the rightful ID, {path} for its path."""

    def make(house: House, who: str) -> Svid:
        path = who.removeprefix("spiffe://example.org")
        return house.svid(who, uris=tuple(text.replace("{}", who).replace("{path}", path) for text in texts))

    return make


def raw_uri(ending: bytes) -> Make:
    """With a URI SAN of bytes that no library would write."""

    def make(house: House, who: str) -> Svid:
        return house.svid(who, san=tlv(0x30, tlv(0x86, who.encode() + ending)))

    return make


def form(**words: Any) -> Make:
    return lambda house, who: house.svid(who, **words)


def forged(**words: Any) -> Make:
    """By the CA of a domain that is trusted, for its own names only."""
    return lambda house, who: house.svid(who, by=house.partner, **words)


def below(**words: Any) -> Make:
    """By an intermediate of the right domain that is not right itself."""
    return lambda house, who: house.svid(who, issuer=house.home.intermediate(**words))


def with_foreign_intermediate(house: House, who: str) -> Svid:
    """By an intermediate of the partner's whose ID claims the home domain."""
    return house.svid(who, issuer=house.partner.intermediate(uris=("spiffe://example.org",)))


ID, CHAIN, SIGN, FORM = (
    Reason.SVID_ID_INVALID,
    Reason.SVID_CHAIN_INVALID,
    Reason.SVID_CAN_SIGN,
    Reason.SVID_MALFORMED,
)
ROWS = (
    Row(id="D3-forged-foreign-ca", make=forged(), reason=CHAIN),
    Row(id="D3-forged-foreign-intermediate", make=forged(depth=1), reason=CHAIN),
    Row(id="D3-foreign-intermediate-with-home-id", make=with_foreign_intermediate, reason=CHAIN),
    Row(id="D3-forged-and-own-name-too", make=forged(dns=("partner.example",)), reason=CHAIN),
    Row(id="XV-two-uris", make=uris("{}", "spiffe://example.org/agent/other"), reason=Reason.SVID_URI_COUNT),
    Row(id="XV-two-uris-one-https", make=uris("{}", "https://example.org"), reason=Reason.SVID_URI_COUNT),
    Row(id="XV-same-uri-twice", make=uris("{}", "{}"), reason=Reason.SVID_URI_COUNT),
    Row(id="XV-no-uri", make=uris(), reason=Reason.SVID_URI_COUNT),
    Row(id="XV-dns-only", make=form(uris=(), dns=("broker.example.org",)), reason=Reason.SVID_URI_COUNT),
    Row(id="XV-https-uri", make=uris("https://example.org{path}"), reason=ID),
    Row(id="XV-upper-case-scheme", make=uris("SPIFFE://example.org{path}"), reason=ID),
    Row(id="XV-no-slashes", make=uris("spiffe:example.org{path}"), reason=ID),
    Row(id="F1-ca-leaf", make=form(is_ca=True), reason=SIGN),
    Row(id="F1-key-cert-sign-leaf", make=form(usage=LEAF_USAGE | {"key_cert_sign"}), reason=SIGN),
    Row(id="F1-crl-sign-leaf", make=form(usage=LEAF_USAGE | {"crl_sign"}), reason=SIGN),
    Row(id="F1-no-key-usage", make=form(usage=None), reason=SIGN),
    Row(id="F1-key-usage-not-critical", make=form(usage_critical=False), reason=FORM),
    Row(id="F1-chain-too-deep", make=form(depth=5), reason=CHAIN),
    Row(id="F1-chain-too-long", make=form(depth=6), reason=FORM),
    Row(id="F1-intermediate-with-a-path", make=below(uris=("spiffe://example.org/agent/ca",)), reason=CHAIN),
    Row(id="F3-rsa-1024", make=form(key="rsa1024"), reason=FORM),
    Row(id="D5-bare-trust-domain", make=uris("spiffe://example.org"), reason=Reason.SVID_PATH_MISSING),
    Row(id="D5-spire-agent", make=uris("spiffe://example.org/spire/agent/x509pop/1"), reason=Reason.SVID_PATH_RESERVED),
    Row(id="D5-spire", make=uris("spiffe://example.org/spire"), reason=Reason.SVID_PATH_RESERVED),
    Row(id="D5-broker", make=uris(BROKER), reason=Reason.SVID_IS_BROKER),
    Row(id="D3-not-federated", make=uris("spiffe://else.example{path}"), reason=Reason.SVID_TRUST_DOMAIN_UNKNOWN),
    Row(id="D2-trailing-dot-domain", make=uris("spiffe://example.org.{path}"), reason=Reason.SVID_TRUST_DOMAIN_UNKNOWN),
    Row(id="D2-upper-case-domain", make=uris("spiffe://Example.org{path}"), reason=ID),
    Row(id="D2-dot-dot", make=uris("spiffe://example.org/x/..{path}"), reason=ID),
    Row(id="D2-dot", make=uris("spiffe://example.org/.{path}"), reason=ID),
    Row(id="D2-empty-segment", make=uris("spiffe://example.org/{path}"), reason=ID),
    Row(id="D2-trailing-slash", make=uris("{}/"), reason=ID),
    Row(id="D2-bare-domain-slash", make=uris("spiffe://example.org/"), reason=ID),
    Row(id="D2-percent", make=uris("spiffe://example.org/%61gent/support-assistant"), reason=ID),
    Row(id="D2-percent-slash", make=uris("spiffe://example.org/agent%2Fsupport-assistant"), reason=ID),
    Row(id="D2-port", make=uris("spiffe://example.org:443{path}"), reason=ID),
    Row(id="D2-userinfo", make=uris("spiffe://me@example.org{path}"), reason=ID),
    Row(id="D2-query", make=uris("{}?a"), reason=ID),
    Row(id="D2-fragment", make=uris("{}#a"), reason=ID),
    Row(id="D2-backslash", make=uris("spiffe://example.org\\agent\\support-assistant"), reason=ID),
    Row(id="D2-blank", make=uris("{} "), reason=ID),
    Row(id="D2-newline", make=uris("{}\n"), reason=ID),
    Row(id="D2-nul", make=uris("{}\0.evil"), reason=ID),
    Row(id="D2-too-long", make=uris("spiffe://example.org/" + "a" * 2048), reason=ID),
    Row(id="D2-utf-8", make=raw_uri("ü".encode()), reason=ID),
    Row(id="D2-latin-1", make=raw_uri(b"\xe9"), reason=FORM),
    Row(id="D2-full-width", make=raw_uri("／".encode()), reason=ID),
    Row(id="TLS-1.2", make=form(), reason=Reason.TLS_VERSION_REFUSED, tls={"newest": ssl.TLSVersion.TLSv1_2}),
)


async def refused_once(house: House, told: Outcome, reason: Reason) -> None:
    """The right status, and exactly one event, which names the same reason and no caller."""
    assert (told.code, told.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason.name), told
    assert told.sentence == reason.meaning.sentence
    (event,) = await house.recorded(told.request)
    assert event["type"] in ("exchange.refused", "request.refused")
    assert event["reason"] == reason.name
    assert "spiffe_id" not in event  # nobody's name was proven


async def still_serves(house: House, entrance: Entrance) -> None:
    """The positive control: the rightful caller, at the same entrance."""
    told = await entrance(house.good(entrance.who))
    assert told.reason == entrance.control, told


@at_every_entrance
@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
async def test_a_bad_svid_is_refused_at_every_entrance(house: House, row: Row, entrance: Entrance) -> None:
    granted = len([event for event in await house.log() if event["type"] == "credential.granted"])
    async with house.wire(row.make(house, entrance.who), **row.tls) as wire:
        await refused_once(house, await entrance(wire.channel), row.reason)
    assert len([event for event in house.events if event["type"] == "credential.granted"]) == granted
    await still_serves(house, entrance)


GOOD = {
    "plain": form(),
    "nested-with-intermediate": form(depth=1),
    "nested-four-deep": form(depth=4),
    "rsa": form(key="rsa2048"),
    "p384": form(key="p384"),
    "no-eku": form(eku=None),
    "dns-beside": form(dns=("agent.example.org",)),
}


@at_every_entrance
@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD.keys())
async def test_a_good_svid_passes_at_every_entrance(house: House, make: Make, entrance: Entrance) -> None:
    async with house.wire(make(house, entrance.who)) as wire:
        told = await entrance(wire.channel)
        assert told.reason == entrance.control, told


def without_intermediate(house: House, who: str) -> Svid:
    nested = house.svid(who, depth=1)
    return Svid(id=nested.id, key=nested.key, leaf=nested.leaf)


def stranger(_: House, who: str) -> Svid:
    return TrustDomain("example.org").svid(who)  # its name, and another key


HANDSHAKES: dict[str, Make] = {
    "F1-expired": form(start=timedelta(hours=-2), ttl=timedelta(hours=-1)),
    "F1-not-yet-valid": form(start=timedelta(hours=1), ttl=timedelta(hours=2)),
    "F1-unknown-authority-of-that-name": stranger,
    "F1-nested-without-intermediate": without_intermediate,
    "F3-curve-p521": form(key="p521"),
    "F3-server-purpose-only": form(eku=(ExtendedKeyUsageOID.SERVER_AUTH,)),
}


async def of_one(house: House) -> int:
    """How many events are of one call each: counts of what came before may be written at any time."""
    return sum(event["type"] != "refusals.suppressed" for event in await house.log())


@pytest.mark.parametrize("make", HANDSHAKES.values(), ids=HANDSHAKES.keys())
async def test_what_tls_refuses_reaches_nobody_and_is_counted(house: House, make: Make) -> None:
    await exchange(house.good(SUPPORT), request())
    before, events = await house.status(), await of_one(house)
    async with house.wire(make(house, SUPPORT)) as wire:
        told = await outcome(exchange(wire.channel, request()))
    assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, UNSAID)
    after = await house.status()
    assert after.handshakes_begun > before.handshakes_begun
    assert after.connections_with_a_call == before.connections_with_a_call
    assert await of_one(house) == events
    for entrance in ENTRANCES:
        await still_serves(house, entrance)
