"""A trust domain that issues any X.509-SVID, good or bad, in one call."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.svid.principal import Evidence, TrustBundles

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

BOTH_PURPOSES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
LEAF_USAGE = frozenset({"digital_signature", "key_agreement"})
AUTHORITY_USAGE = frozenset({"key_cert_sign", "crl_sign"})
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_KEYS: Mapping[str, Callable[[], PrivateKey]] = {
    "p224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "rsa1024": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 - to be refused
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def new_key(kind: str = "p256") -> PrivateKey:
    """Make a key of a kind in the table above."""
    return _KEYS[kind]()


def key_usage(names: Iterable[str]) -> x509.KeyUsage:
    """Make a key usage extension from the names of its set bits."""
    chosen = set(names)
    return x509.KeyUsage(**{name: name in chosen for name in _USAGES})


def pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Join certificates as PEM."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def der(certificates: Iterable[x509.Certificate]) -> bytes:
    """Join certificates as DER, the form of the Workload API."""
    return b"".join(certificate.public_bytes(serialization.Encoding.DER) for certificate in certificates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Svid:
    """An issued SVID with its key. `sent` is what a peer presents after the leaf."""

    id: str
    key: PrivateKey
    leaf: x509.Certificate
    sent: tuple[x509.Certificate, ...] = ()

    @property
    def leaf_pem(self) -> bytes:
        return pem([self.leaf])

    @property
    def chain_pem(self) -> bytes:
        """The further certificates alone, as gRPC's x509_pem_cert_chain."""
        return pem(self.sent)

    @property
    def certificate_chain(self) -> bytes:
        """Leaf and further certificates, as a TLS library takes them."""
        return self.leaf_pem + self.chain_pem

    @property
    def private_key(self) -> bytes:
        return self._key_in(serialization.Encoding.PEM)

    @property
    def private_key_der(self) -> bytes:
        return self._key_in(serialization.Encoding.DER)

    def _key_in(self, encoding: serialization.Encoding) -> bytes:
        return self.key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    def evidence(self, *, tls_version: str = "TLSv1.3", session_reused: bool = False) -> Evidence:
        """What a connection with this SVID presents."""
        return Evidence(
            leaf=self.leaf_pem,
            chain=self.chain_pem,
            tls_version=tls_version,
            session_reused=session_reused,
            source="ipv4:127.0.0.1:1",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A signing certificate with its key, and the path from it to (but not including) the root."""

    key: PrivateKey
    certificate: x509.Certificate
    path: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a certificate is made of; every word of it can be wrong."""

    uris: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    is_ca: bool | None = False
    path_length: int | None = None
    usage: frozenset[str] | None = LEAF_USAGE
    usage_critical: bool = True
    eku: tuple[x509.ObjectIdentifier, ...] | None = BOTH_PURPOSES
    start: timedelta = timedelta(minutes=-1)
    ttl: timedelta = timedelta(hours=1)
    key: str = "p256"
    public_key: CertificatePublicKeyTypes | None = None
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    san: bytes | None = None
    subject: str = "SPIRE"


@dataclass(slots=True)
class TrustDomain:
    """A trust domain; `authorities` are the roots of its bundle, of which the active one (else the last) issues."""

    name: str = "example.org"
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    authorities: list[Authority] = field(default_factory=list)
    active: Authority | None = None

    def __post_init__(self) -> None:
        if not self.authorities:
            self.add_authority()

    @property
    def bundle(self) -> tuple[x509.Certificate, ...]:
        return tuple(authority.certificate for authority in self.authorities)

    @property
    def issuer(self) -> Authority:
        return self.active or self.authorities[-1]

    def add_authority(self, **form: object) -> Authority:
        """Add a root to the bundle; unless another one is active, it issues from now on."""
        authority = self._authority(None, **form)
        self.authorities.append(authority)
        return authority

    def prepare_authority(self) -> Authority:
        """Add a root to the bundle that does not issue yet, which is how a rotation begins."""
        self.active = self.issuer
        return self.add_authority()

    def activate(self, authority: Authority) -> None:
        """Let a root issue."""
        self.active = authority

    def remove_authority(self) -> Authority:
        """Take the oldest root out of the bundle."""
        return self.authorities.pop(0)

    def intermediate(self, issuer: Authority | None = None, **form: object) -> Authority:
        """Make a signing certificate below a root or below another one."""
        return self._authority(issuer or self.issuer, **form)

    def svid(self, path: str = "/agent", *, issuer: Authority | None = None, depth: int = 0, **form: object) -> Svid:
        """Issue an SVID. `path` may be a whole ID of any domain; `depth` puts that many intermediates in between."""
        spiffe_id = path if "://" in path else f"spiffe://{self.name}{path}"
        issuer = issuer or self.issuer
        for _ in range(depth):
            issuer = self.intermediate(issuer)
        wanted = replace(Form(uris=(spiffe_id,)), **form)  # type: ignore[arg-type]  # any word of the form
        key = new_key(wanted.key)
        leaf = _certificate(wanted, key, issuer.certificate, issuer.key, self.now)
        return Svid(id=spiffe_id, key=key, leaf=leaf, sent=issuer.path)

    def bundles(self, *others: "TrustDomain", epoch: int = 1) -> TrustBundles:
        """Trust this domain and others."""
        return bundles_of({domain.name: domain.bundle for domain in (self, *others)}, epoch=epoch)

    def _authority(self, issuer: Authority | None, **form: object) -> Authority:
        base = Form(
            uris=(f"spiffe://{self.name}",),
            is_ca=True,
            usage=AUTHORITY_USAGE,
            eku=None,
            ttl=timedelta(days=1),
            subject=f"authority {x509.random_serial_number()}",
        )
        wanted = replace(base, **form)  # type: ignore[arg-type]  # any word of the form
        key = new_key(wanted.key)
        certificate = _certificate(
            wanted, key, issuer.certificate if issuer else None, issuer.key if issuer else key, self.now
        )
        return Authority(key=key, certificate=certificate, path=(certificate, *issuer.path) if issuer else ())


def bundles_of(authorities: Mapping[str, tuple[x509.Certificate, ...]], *, epoch: int = 1) -> TrustBundles:
    """Make trust bundles from plain certificates."""
    return TrustBundles(authorities=MappingProxyType(dict(authorities)), epoch=epoch)


def _certificate(
    form: Form, key: PrivateKey, issuer: x509.Certificate | None, issuer_key: PrivateKey, now: datetime
) -> x509.Certificate:
    public_key = form.public_key or key.public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, form.subject)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + form.start)
        .not_valid_after(now + form.ttl)
    )
    for extension, critical in (*_extensions(form), *form.extensions):
        builder = builder.add_extension(extension, critical)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    if issuer:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        builder = builder.add_extension(authority, critical=False)
    return builder.sign(issuer_key, None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def _extensions(form: Form) -> Iterable[tuple[x509.ExtensionType, bool]]:
    if form.is_ca is not None:
        yield x509.BasicConstraints(ca=form.is_ca, path_length=form.path_length), True
    if form.usage is not None:
        yield key_usage(form.usage), form.usage_critical
    if form.eku is not None:
        yield x509.ExtendedKeyUsage(form.eku), False
    names = [x509.UniformResourceIdentifier(uri) for uri in form.uris]
    if form.san is not None:
        yield x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, form.san), False
    elif names or form.dns:
        yield x509.SubjectAlternativeName([*names, *(x509.DNSName(name) for name in form.dns)]), False
