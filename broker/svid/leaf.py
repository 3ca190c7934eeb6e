"""The form of an X.509-SVID: everything that can be judged from the certificates alone, without bundle and clock.

Parsing strangers' certificates is bounded here, in bytes, in number and in key size, before anything is computed with
them.
"""

import base64
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker.errors import Reason, Refusal
from broker.svid.spiffe_id import SpiffeId

MAX_LEAF_BYTES = 8 * 1024
MAX_CHAIN_BYTES = 16 * 1024
MAX_CHAIN_CERTIFICATES = 5  # four intermediates, and the root that some peers send along
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 4096

_PEM_BEGIN = b"-----BEGIN"
_RESERVED_PATH = "/spire"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedSvid:
    """An X.509-SVID of the right form; who issued it and whether it is in time is still open.

    Attributes:
        spiffe_id: what the leaf says it is.
        leaf: the leaf.
        intermediates: the further certificates, as sent.
        not_before: UTC; the latest start among all of them.
        not_after: UTC; the earliest end among all of them.
        thumbprint: base64url SHA-256 of the leaf's DER, without padding.

    """

    spiffe_id: SpiffeId
    leaf: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    not_before: datetime
    not_after: datetime
    thumbprint: str


def examine(leaf: bytes, chain: bytes) -> UnverifiedSvid:
    """Judge the form of what a peer presented (X509-SVID sections 2 to 4 and 5.2).

    Args:
        leaf: PEM of the leaf.
        chain: PEM of the further certificates, may be empty.

    Raises:
        Refusal: SVID_ABSENT, SVID_MALFORMED, SVID_URI_COUNT, SVID_ID_INVALID, SVID_PATH_MISSING, SVID_PATH_RESERVED or
            SVID_CAN_SIGN.

    """
    if not leaf:
        raise Refusal(Reason.SVID_ABSENT)
    if len(leaf) > MAX_LEAF_BYTES or len(chain) > MAX_CHAIN_BYTES or chain.count(_PEM_BEGIN) > MAX_CHAIN_CERTIFICATES:
        raise Refusal(Reason.SVID_MALFORMED, "more or larger certificates than an SVID needs")
    try:
        return _examine(leaf, chain)
    except Refusal:
        raise
    except Exception as error:
        # Extensions are parsed on access, and a broken one raises whatever its parser does (ValueError,
        # DuplicateExtension, UnsupportedAlgorithm, ...): a stranger's certificate ends in a refusal, not in a defect.
        raise Refusal(Reason.SVID_MALFORMED, type(error).__name__) from error


def thumbprint_of(leaf: x509.Certificate) -> str:
    """Return the `x5t#S256` of a certificate (RFC 8705 section 3.1)."""
    return base64.urlsafe_b64encode(leaf.fingerprint(hashes.SHA256())).rstrip(b"=").decode("ascii")


def _examine(leaf_pem: bytes, chain_pem: bytes) -> UnverifiedSvid:
    leaves = x509.load_pem_x509_certificates(leaf_pem)
    if len(leaves) != 1:
        raise Refusal(Reason.SVID_MALFORMED, "not exactly one leaf")
    leaf = leaves[0]
    intermediates = tuple(x509.load_pem_x509_certificates(chain_pem)) if chain_pem else ()
    presented = (leaf, *intermediates)
    for certificate in presented:
        _check_key(certificate)
    spiffe_id = _spiffe_id(leaf)
    _check_cannot_sign(leaf)
    _check_usage(leaf)
    for certificate in intermediates:
        _check_signing_id(certificate)
    return UnverifiedSvid(
        spiffe_id=spiffe_id,
        leaf=leaf,
        intermediates=intermediates,
        not_before=max(certificate.not_valid_before_utc for certificate in presented),
        not_after=min(certificate.not_valid_after_utc for certificate in presented),
        thumbprint=thumbprint_of(leaf),
    )


def _check_key(certificate: x509.Certificate) -> None:
    # Before any signature is checked: a 16,384-bit key from a stranger's intermediate is work for a stranger.
    key = certificate.public_key()
    match key:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1() | ec.SECP384R1()):
            pass
        case rsa.RSAPublicKey(key_size=bits) if MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            pass
        case _:
            raise Refusal(Reason.SVID_MALFORMED, "a key other than P-256, P-384 or RSA of 2048 to 4096 bits")
    # A curve given by its parameters is loaded like the named one that it equals; RFC 5480 2.1.1 forbids it.
    named = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if named not in certificate.tbs_certificate_bytes:
        raise Refusal(Reason.SVID_MALFORMED, "a key in another form than the usual one")


def _spiffe_id(leaf: x509.Certificate) -> SpiffeId:
    """Return the leaf's ID (X509-SVID sections 2, 3.1 and 5.2)."""
    uris = _uris(leaf)
    if len(uris) != 1:
        raise Refusal(Reason.SVID_URI_COUNT, f"{len(uris)} URI SANs")
    spiffe_id = SpiffeId.parse(uris[0])
    if not spiffe_id.path:
        raise Refusal(Reason.SVID_PATH_MISSING)
    if spiffe_id.path == _RESERVED_PATH or spiffe_id.path.startswith(_RESERVED_PATH + "/"):
        raise Refusal(Reason.SVID_PATH_RESERVED)
    return spiffe_id


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return list(names.get_values_for_type(x509.UniformResourceIdentifier))


def _check_cannot_sign(leaf: x509.Certificate) -> None:
    """Refuse a leaf that is an authority or might act as one (X509-SVID sections 4.1, 4.3 and 5.2)."""
    extensions = leaf.extensions
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise Refusal(Reason.SVID_CAN_SIGN, "cA is true")
    except x509.ExtensionNotFound:
        pass  # RFC 5280 4.2.1.9: cA is false by default
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise Refusal(Reason.SVID_CAN_SIGN, "no key usage, so any") from None
    if usage.key_cert_sign or usage.crl_sign:
        raise Refusal(Reason.SVID_CAN_SIGN, "keyCertSign or cRLSign")


def _check_usage(leaf: x509.Certificate) -> None:
    """Demand what a leaf's key must be for (X509-SVID sections 4.3 and 4.4)."""
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    if not usage.critical or not usage.value.digital_signature:
        raise Refusal(Reason.SVID_MALFORMED, "key usage is not critical or lacks digitalSignature")
    try:
        purposes = set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return  # section 4.4: SHOULD be there, need not be
    if not purposes >= {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}:
        raise Refusal(Reason.SVID_MALFORMED, "extended key usage lacks serverAuth or clientAuth")


def _check_signing_id(certificate: x509.Certificate) -> None:
    """Refuse a signing certificate with a workload's ID (X509-SVID section 3.2)."""
    for uri in _uris(certificate):
        if uri.startswith("spiffe:") and SpiffeId.parse(uri).path:
            raise Refusal(Reason.SVID_CHAIN_INVALID, "a signing certificate with a path in its ID")
