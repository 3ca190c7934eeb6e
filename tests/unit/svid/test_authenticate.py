"""Who may come in: an attack table, the clock, federation, and what is remembered."""

import base64
import hashlib
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from broker.errors import Reason, Refusal
from broker.svid import authenticate as module
from broker.svid.authenticate import Authenticator
from broker.svid.principal import Evidence, TrustBundles
from broker.svid.spiffe_id import SpiffeId
from tests.fakes.asn1 import tlv, with_duplicate_extension, with_explicit_curve, with_sha1
from tests.fakes.trust_domain import LEAF_USAGE, Authority, Svid, TrustDomain, bundles_of, der, pem

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
BROKER = SpiffeId.parse("spiffe://example.org/broker")
HOME = TrustDomain("example.org", now=NOW)
PARTNER = TrustDomain("partner.test", now=NOW)
TRUST = HOME.bundles(PARTNER)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
HUGE_RSA = rsa.RSAPublicNumbers(65537, (1 << 16383) + 1).public_key()
UNKNOWN_CRITICAL = ((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),)
PADDING = tuple(
    (x509.UnrecognizedExtension(ObjectIdentifier(f"1.2.3.{number}"), b"\0" * 7000), False) for number in range(2)
)
FOREIGN_ONLY = x509.NameConstraints([x509.UniformResourceIdentifier("partner.test")], None)


def authenticator() -> Authenticator:
    return Authenticator(own_id=BROKER)


def reason_for(evidence: Evidence, trust: TrustBundles = TRUST, now: datetime = NOW) -> Reason:
    with pytest.raises(Refusal) as refused:
        authenticator().authenticate(evidence, trust, now)
    return refused.value.reason


def pem_of(base: Svid, *, leaf: bytes | None = None, chain: bytes = b"") -> Evidence:
    return Evidence(
        leaf=base.leaf_pem if leaf is None else leaf,
        chain=chain,
        tls_version="TLSv1.3",
        session_reused=False,
        source="",
    )


def constrained() -> Svid:
    authority = HOME.intermediate(extensions=((FOREIGN_ONLY, True),))
    return HOME.svid(issuer=authority)


def raw_san(uri: bytes) -> Svid:
    return HOME.svid(san=tlv(0x30, tlv(0x86, uri)))


def under(authority: Authority) -> Svid:
    return HOME.svid(issuer=authority)


PEERS: dict[str, Callable[[], Svid]] = {
    "plain": HOME.svid,
    "federated": lambda: PARTNER.svid("/agent"),
    "one-intermediate": lambda: HOME.svid(depth=1),
    "four-intermediates": lambda: HOME.svid(depth=4),
    "intermediate-without-id": lambda: under(HOME.intermediate(uris=())),
    "root-sent-along": lambda: replace(nested := HOME.svid(depth=4), sent=(*nested.sent, HOME.bundle[0])),
    "p384": lambda: HOME.svid(key="p384"),
    "rsa2048": lambda: HOME.svid(key="rsa2048"),
    "dns-names-beside-the-uri": lambda: HOME.svid(dns=("agent.example.org",)),
    "no-extended-key-usage": lambda: HOME.svid(eku=None),
    "no-basic-constraints": lambda: HOME.svid(is_ca=None),
    "spire-as-a-prefix-of-a-word": lambda: HOME.svid("/spirex"),
    "spire-further-down": lambda: HOME.svid("/ns/spire"),
}

ATTACKS: dict[str, tuple[Callable[[], Svid], Reason]] = {
    # the ID
    "D3-F1-home-id-signed-by-partner": (lambda: PARTNER.svid("spiffe://example.org/admin"), Reason.SVID_CHAIN_INVALID),
    "D3-F1-home-id-signed-below-partner": (
        lambda: PARTNER.svid("spiffe://example.org/admin", depth=1),
        Reason.SVID_CHAIN_INVALID,
    ),
    "D3-partner-id-signed-by-home": (lambda: HOME.svid("spiffe://partner.test/agent"), Reason.SVID_CHAIN_INVALID),
    "D4-trust-domain-without-bundle": (
        lambda: TrustDomain("else.test", now=NOW).svid(),
        Reason.SVID_TRUST_DOMAIN_UNKNOWN,
    ),
    "D4-same-name-other-authority": (lambda: TrustDomain("example.org", now=NOW).svid(), Reason.SVID_CHAIN_INVALID),
    "D5-broker-itself": (lambda: HOME.svid("/broker"), Reason.SVID_IS_BROKER),
    "D5-bare-trust-domain": (lambda: HOME.svid("spiffe://example.org"), Reason.SVID_PATH_MISSING),
    "D5-spire": (lambda: HOME.svid("/spire"), Reason.SVID_PATH_RESERVED),
    "D5-spire-server": (lambda: HOME.svid("/spire/server"), Reason.SVID_PATH_RESERVED),
    "D5-spire-agent": (lambda: HOME.svid("/spire/agent/join_token/x"), Reason.SVID_PATH_RESERVED),
    "F1-no-san": (lambda: HOME.svid(uris=()), Reason.SVID_URI_COUNT),
    "F1-dns-san-only": (lambda: HOME.svid(uris=(), dns=("agent",)), Reason.SVID_URI_COUNT),
    "F1-two-spiffe-ids": (
        lambda: HOME.svid(uris=("spiffe://example.org/a", "spiffe://example.org/b")),
        Reason.SVID_URI_COUNT,
    ),
    "F1-same-id-twice": (lambda: HOME.svid(uris=("spiffe://example.org/a",) * 2), Reason.SVID_URI_COUNT),
    "F1-id-and-https": (
        lambda: HOME.svid(uris=("spiffe://example.org/a", "https://example.org/a")),
        Reason.SVID_URI_COUNT,
    ),
    "F1-https": (lambda: HOME.svid(uris=("https://example.org/agent",)), Reason.SVID_ID_INVALID),
    "F1-scheme-upper-case": (lambda: HOME.svid(uris=("SPIFFE://example.org/agent",)), Reason.SVID_ID_INVALID),
    "D2-trust-domain-upper-case": (lambda: HOME.svid(uris=("spiffe://EXAMPLE.org/agent",)), Reason.SVID_ID_INVALID),
    "D2-dot-dot": (lambda: HOME.svid(uris=("spiffe://example.org/a/../admin",)), Reason.SVID_ID_INVALID),
    "D2-trailing-slash": (lambda: HOME.svid(uris=("spiffe://example.org/agent/",)), Reason.SVID_ID_INVALID),
    "F1-empty-uri": (lambda: raw_san(b""), Reason.SVID_ID_INVALID),
    "F1-nul-in-uri": (lambda: raw_san(b"spiffe://example.org/admin\0x"), Reason.SVID_ID_INVALID),
    "F1-latin-1-in-uri": (lambda: raw_san(b"spiffe://example.org/\xe4"), Reason.SVID_MALFORMED),
    "F1-san-is-garbage": (lambda: HOME.svid(san=b"\x30\x7f\x00"), Reason.SVID_MALFORMED),
    # the leaf
    "F1-ca": (lambda: HOME.svid(is_ca=True), Reason.SVID_CAN_SIGN),
    "F1-ca-that-may-sign": (
        lambda: HOME.svid(is_ca=True, usage=LEAF_USAGE | {"key_cert_sign"}),
        Reason.SVID_CAN_SIGN,
    ),
    "F1-key-cert-sign": (lambda: HOME.svid(usage=LEAF_USAGE | {"key_cert_sign"}), Reason.SVID_CAN_SIGN),
    "F1-crl-sign": (lambda: HOME.svid(usage=LEAF_USAGE | {"crl_sign"}), Reason.SVID_CAN_SIGN),
    "F1-no-key-usage": (lambda: HOME.svid(usage=None), Reason.SVID_CAN_SIGN),
    "F1-key-usage-not-critical": (lambda: HOME.svid(usage_critical=False), Reason.SVID_MALFORMED),
    "F1-no-digital-signature": (lambda: HOME.svid(usage=frozenset({"key_agreement"})), Reason.SVID_MALFORMED),
    "F3-server-only": (lambda: HOME.svid(eku=(SERVER,)), Reason.SVID_MALFORMED),
    "F3-client-only": (lambda: HOME.svid(eku=(CLIENT,)), Reason.SVID_MALFORMED),
    "F3-other-purpose": (lambda: HOME.svid(eku=(ExtendedKeyUsageOID.CODE_SIGNING,)), Reason.SVID_MALFORMED),
    "F3-unknown-critical-extension": (lambda: HOME.svid(extensions=UNKNOWN_CRITICAL), Reason.SVID_CHAIN_INVALID),
    "F3-duplicate-extension": (lambda: with_duplicate_extension(HOME.svid(), HOME.issuer), Reason.SVID_MALFORMED),
    "F3-sha-1": (lambda: with_sha1(HOME.svid(), HOME.issuer), Reason.SVID_CHAIN_INVALID),
    "F3-explicit-curve": (lambda: with_explicit_curve(HOME.svid(), HOME.issuer), Reason.SVID_MALFORMED),
    "F3-p224": (lambda: HOME.svid(key="p224"), Reason.SVID_MALFORMED),
    "F3-p521": (lambda: HOME.svid(key="p521"), Reason.SVID_MALFORMED),
    "F3-secp256k1": (lambda: HOME.svid(key="secp256k1"), Reason.SVID_MALFORMED),
    "F3-ed25519": (lambda: HOME.svid(key="ed25519"), Reason.SVID_MALFORMED),
    "F3-rsa-1024": (lambda: HOME.svid(key="rsa1024"), Reason.SVID_MALFORMED),
    "F3-rsa-16384": (lambda: HOME.svid(public_key=HUGE_RSA), Reason.SVID_MALFORMED),
    "F1-expired": (lambda: HOME.svid(start=timedelta(hours=-2), ttl=timedelta(hours=-1)), Reason.SVID_EXPIRED),
    "F1-not-yet-valid": (lambda: HOME.svid(start=timedelta(minutes=1)), Reason.SVID_NOT_YET_VALID),
    # the path
    "F3-five-intermediates": (lambda: HOME.svid(depth=5), Reason.SVID_CHAIN_INVALID),
    "F3-intermediate-of-rsa-16384": (
        lambda: under(HOME.intermediate(public_key=HUGE_RSA)),
        Reason.SVID_MALFORMED,
    ),
    "F3-chain-of-6": (lambda: replace(HOME.svid(), sent=HOME.bundle * 6), Reason.SVID_MALFORMED),
    "F3-intermediate-of-17-kilobytes": (lambda: under(HOME.intermediate(extensions=PADDING)), Reason.SVID_MALFORMED),
    "F3-leaf-of-9-kilobytes": (lambda: HOME.svid(extensions=PADDING[:1]), Reason.SVID_MALFORMED),
    "F3-intermediate-is-no-ca": (lambda: under(HOME.intermediate(is_ca=False)), Reason.SVID_CHAIN_INVALID),
    "F3-intermediate-may-not-sign": (
        lambda: under(HOME.intermediate(usage=frozenset({"digital_signature"}))),
        Reason.SVID_CHAIN_INVALID,
    ),
    "F3-intermediate-with-a-workload-id": (
        lambda: under(HOME.intermediate(uris=("spiffe://example.org/agent",))),
        Reason.SVID_CHAIN_INVALID,
    ),
    "F3-intermediate-expired": (
        lambda: under(HOME.intermediate(start=timedelta(hours=-2), ttl=timedelta(hours=-1))),
        Reason.SVID_EXPIRED,
    ),
    "F3-path-length-broken": (
        lambda: under(HOME.intermediate(HOME.intermediate(path_length=0))),
        Reason.SVID_CHAIN_INVALID,
    ),
    "F3-name-constraint-broken": (constrained, Reason.SVID_CHAIN_INVALID),
    "F3-signed-by-a-leaf": (
        lambda: under(Authority(key=(leaf := HOME.svid("/evil")).key, certificate=leaf.leaf, path=(leaf.leaf,))),
        Reason.SVID_CHAIN_INVALID,
    ),
}


@pytest.mark.parametrize("make", PEERS.values(), ids=PEERS)
def test_lets_in(make: Callable[[], Svid]) -> None:
    peer = make()
    principal = authenticator().authenticate(peer.evidence(), TRUST, NOW)
    assert str(principal.spiffe_id) == peer.id
    assert principal.login == "x509"


@pytest.mark.parametrize(("make", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_refuses(make: Callable[[], Svid], reason: Reason) -> None:
    evidence = make().evidence()
    started = time.process_time()
    assert reason_for(evidence) is reason
    assert time.process_time() - started < 0.05, "bounded work"


def test_the_principal_is_what_the_leaf_says() -> None:
    peer = HOME.svid("/agent", ttl=timedelta(minutes=7))
    principal = authenticator().authenticate(peer.evidence(), TRUST, NOW)
    # RFC 8705 3.1, computed another way.
    digest = hashlib.sha256(der([peer.leaf])).digest()
    assert principal.thumbprint == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert principal.not_after == NOW + timedelta(minutes=7)


def test_an_authority_need_not_be_self_signed() -> None:
    authority = HOME.intermediate()
    peer = HOME.svid(issuer=authority)
    principal = authenticator().authenticate(
        peer.evidence(), bundles_of({"example.org": (authority.certificate,)}), NOW
    )
    assert str(principal.spiffe_id) == peer.id


def test_the_end_is_the_earliest_in_the_chain() -> None:
    authority = HOME.intermediate(ttl=timedelta(minutes=3))
    principal = authenticator().authenticate(HOME.svid(issuer=authority).evidence(), TRUST, NOW)
    assert principal.not_after == NOW + timedelta(minutes=3)


GARBAGE = {
    "nothing": (b"", b"", Reason.SVID_ABSENT),
    "no-pem": (b"garbage", b"", Reason.SVID_MALFORMED),
    "pem-around-garbage": (
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"",
        Reason.SVID_MALFORMED,
    ),
    "a-key": (HOME.svid().private_key, b"", Reason.SVID_MALFORMED),
    "a-megabyte": (b"A" * (1 << 20), b"", Reason.SVID_MALFORMED),
    "a-megabyte-in-a-certificate": (
        HOME.svid(
            extensions=((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\0" * (1 << 20)), False),)
        ).leaf_pem,
        b"",
        Reason.SVID_MALFORMED,
    ),
    "two-leaves": (HOME.svid().leaf_pem + HOME.svid("/admin").leaf_pem, b"", Reason.SVID_MALFORMED),
    "chain-of-garbage": (HOME.svid().leaf_pem, b"garbage", Reason.SVID_MALFORMED),
    "F3-chain-of-100": (
        HOME.svid().leaf_pem,
        pem([HOME.bundle[0]] * 100),
        Reason.SVID_MALFORMED,
    ),
    "chain-of-a-megabyte": (HOME.svid().leaf_pem, b"\n" * (1 << 20), Reason.SVID_MALFORMED),
}


@pytest.mark.parametrize(("leaf", "chain", "reason"), GARBAGE.values(), ids=GARBAGE)
def test_refuses_garbage(leaf: bytes, chain: bytes, reason: Reason) -> None:
    started = time.process_time()
    assert reason_for(pem_of(HOME.svid(), leaf=leaf, chain=chain)) is reason
    assert time.process_time() - started < 0.05, "bounded work"


def test_every_cut_and_flip_of_a_certificate_ends_in_a_refusal() -> None:
    whole = der([HOME.svid().leaf])
    judge = authenticator()
    for position in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[position] ^= 0x41
        for broken in (bytes(flipped), whole[:position]):
            leaf = _armoured(broken)
            with pytest.raises(Refusal):
                judge.authenticate(pem_of(HOME.svid(), leaf=leaf), TRUST, NOW)


def _armoured(content: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(content).encode()


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.1", "", "TLSv1.3 ", "tlsv1.3"])
def test_refuses_other_versions_of_tls(version: str) -> None:
    assert reason_for(HOME.svid().evidence(tls_version=version)) is Reason.TLS_VERSION_REFUSED


def test_no_bundles_at_all_is_another_refusal_than_no_bundle_of_this_domain() -> None:
    evidence = HOME.svid().evidence()
    assert reason_for(evidence, bundles_of({})) is Reason.TRUST_UNAVAILABLE
    assert reason_for(evidence, bundles_of({"example.org": ()})) is Reason.SVID_TRUST_DOMAIN_UNKNOWN
    assert reason_for(evidence, PARTNER.bundles()) is Reason.SVID_TRUST_DOMAIN_UNKNOWN


@pytest.mark.parametrize("resumed", [False, True], ids=["open-connection", "resumed-session"])
def test_f2_an_end_that_comes_later_counts(resumed: bool) -> None:
    judge, peer = authenticator(), HOME.svid(ttl=timedelta(minutes=5))
    evidence = peer.evidence(session_reused=resumed)
    end = NOW + timedelta(minutes=5)
    judge.authenticate(evidence, TRUST, NOW)
    judge.authenticate(evidence, TRUST, end - timedelta(microseconds=1))
    with pytest.raises(Refusal) as refused:
        judge.authenticate(evidence, TRUST, end)
    assert refused.value.reason is Reason.SVID_EXPIRED


def test_a_clock_that_jumps_back_counts() -> None:
    judge, evidence = authenticator(), HOME.svid(start=timedelta(minutes=-1)).evidence()
    judge.authenticate(evidence, TRUST, NOW)
    with pytest.raises(Refusal) as refused:
        judge.authenticate(evidence, TRUST, NOW - timedelta(minutes=2))
    assert refused.value.reason is Reason.SVID_NOT_YET_VALID


def test_an_authority_that_ends_before_the_leaf_counts() -> None:
    domain = TrustDomain("short.test", now=NOW, authorities=[])
    domain.add_authority(ttl=timedelta(minutes=2))
    domain.remove_authority()
    judge, evidence = authenticator(), domain.svid(ttl=timedelta(minutes=5)).evidence()
    judge.authenticate(evidence, domain.bundles(), NOW)
    with pytest.raises(Refusal) as refused:
        judge.authenticate(evidence, domain.bundles(), NOW + timedelta(minutes=3))
    assert refused.value.reason is Reason.SVID_CHAIN_INVALID


def test_f2_a_removed_authority_counts_at_the_next_epoch() -> None:
    domain = TrustDomain("example.org", now=NOW)
    judge, evidence = authenticator(), domain.svid().evidence()
    judge.authenticate(evidence, domain.bundles(epoch=1), NOW)
    domain.add_authority()
    judge.authenticate(evidence, domain.bundles(epoch=2), NOW)
    domain.remove_authority()
    with pytest.raises(Refusal) as refused:
        judge.authenticate(evidence, domain.bundles(epoch=3), NOW)
    assert refused.value.reason is Reason.SVID_CHAIN_INVALID


def test_a_verified_path_is_remembered_and_a_forged_chain_beside_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = _counted(monkeypatch, "_verify_path")
    judge, nested = authenticator(), HOME.svid(depth=1)
    for _ in range(3):
        judge.authenticate(nested.evidence(), TRUST, NOW)
    assert len(verified) == 1
    with pytest.raises(Refusal):
        judge.authenticate(pem_of(nested, chain=b""), TRUST, NOW)
    assert len(verified) == 2


def test_a_bad_certificate_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = _counted(monkeypatch, "examine")
    judge, evidence = authenticator(), HOME.svid(uris=()).evidence()
    for _ in range(3):
        with pytest.raises(Refusal) as refused:
            judge.authenticate(evidence, TRUST, NOW)
        assert refused.value.reason is Reason.SVID_URI_COUNT
    assert len(parsed) == 1


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = _counted(monkeypatch, "_verify_path")
    judge = module.SvidVerifier(remembered=2)
    peers = [HOME.svid(f"/agent-{number}") for number in range(3)]
    for peer in (*peers, peers[2], peers[1], peers[0]):
        judge.verify(peer.leaf_pem, b"", TRUST, NOW)
    assert len(verified) == 4, "the two newest are known, the oldest was forgotten"


def _counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[None]:
    """Count the calls of one of the module's functions."""
    calls: list[None] = []
    original = getattr(module, name)

    def counting(*args: object) -> object:
        calls.append(None)
        return original(*args)

    monkeypatch.setattr(module, name, counting)
    return calls
