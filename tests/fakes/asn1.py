"""Certificates that no well-behaved library will build: their DER is taken apart, changed and signed again."""

from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fakes.trust_domain import Authority, Svid

SEQUENCE = 0x30
_ECDSA_WITH_SHA1 = bytes.fromhex("06072a8648ce3d0401")
_ECDSA_WITH_SHA256 = bytes.fromhex("06082a8648ce3d040302")
_EC_PUBLIC_KEY = bytes.fromhex("06072a8648ce3d0201")
_PRIME_FIELD = bytes.fromhex("06072a8648ce3d0101")
_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_GX = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
_GY = 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SPKI_FIELD = 6
_EXTENSIONS_FIELD = 7


def tlv(tag: int, *contents: bytes) -> bytes:
    """Encode one element of DER."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def split(content: bytes) -> list[bytes]:
    """Split a constructed element's content into whole elements."""
    found = []
    while content:
        size = _whole(content)
        found.append(content[:size])
        content = content[size:]
    return found


def inside(element: bytes) -> bytes:
    """Return an element's content."""
    first = element[1]
    return element[2 + (first & 0x7F if first & 0x80 else 0) :]


def with_sha1(svid: Svid, issuer: Authority) -> Svid:
    """Sign the leaf again, with SHA-1."""
    return _resigned(svid, issuer, algorithm=_ECDSA_WITH_SHA1, digest=hashes.SHA1())  # noqa: S303 - that is the attack


def with_explicit_curve(svid: Svid, issuer: Authority) -> Svid:
    """Name the leaf's curve by its parameters instead of its OID (they are P-256's own)."""
    point = svid.leaf.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    coefficient = (_P - 3).to_bytes(32, "big")
    generator = b"\x04" + _GX.to_bytes(32, "big") + _GY.to_bytes(32, "big")
    parameters = tlv(
        SEQUENCE,
        _integer(1),
        tlv(SEQUENCE, _PRIME_FIELD, _integer(_P)),
        tlv(SEQUENCE, tlv(0x04, coefficient), tlv(0x04, _B.to_bytes(32, "big"))),
        tlv(0x04, generator),
        _integer(_N),
        _integer(1),
    )
    spki = tlv(SEQUENCE, tlv(SEQUENCE, _EC_PUBLIC_KEY, parameters), tlv(0x03, b"\x00", point))
    return _resigned(svid, issuer, spki=spki)


def with_duplicate_extension(svid: Svid, issuer: Authority) -> Svid:
    """Carry the first extension twice."""
    return _resigned(svid, issuer, duplicate=True)


def _resigned(
    svid: Svid,
    issuer: Authority,
    *,
    spki: bytes | None = None,
    algorithm: bytes = _ECDSA_WITH_SHA256,
    digest: hashes.HashAlgorithm | None = None,
    duplicate: bool = False,
) -> Svid:
    assert isinstance(issuer.key, ec.EllipticCurvePrivateKey)
    fields = split(inside(svid.leaf.tbs_certificate_bytes))
    fields[2] = tlv(SEQUENCE, algorithm)
    if spki is not None:
        fields[_SPKI_FIELD] = spki
    if duplicate:
        extensions = split(inside(inside(fields[_EXTENSIONS_FIELD])))
        fields[_EXTENSIONS_FIELD] = tlv(0xA3, tlv(SEQUENCE, *extensions, extensions[0]))
    to_sign = tlv(SEQUENCE, *fields)
    signature = issuer.key.sign(to_sign, ec.ECDSA(digest or hashes.SHA256()))
    whole = tlv(SEQUENCE, to_sign, tlv(SEQUENCE, algorithm), tlv(0x03, b"\x00", signature))
    return replace(svid, leaf=x509.load_der_x509_certificate(whole))


def _integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _whole(content: bytes) -> int:
    first = content[1]
    if not first & 0x80:
        return 2 + first
    count = first & 0x7F
    return 2 + count + int.from_bytes(content[2 : 2 + count], "big")
