"""Canaries: values that must not come out, the places where they are looked for, and what looks.

A value is looked for as it is and as something on its way out may have turned it: base64 (at each of its three
alignments), hexadecimal, percent-encoded, escaped; and all of that again with the breaks between lines taken out.
"""

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Self
from urllib.parse import quote_from_bytes

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

# What may stand between two pieces of one value that was broken into lines: the break, indents, quotes, a plus.
_BREAKS = re.compile(rb"(?:\\r|\\n|[\s\"'+,|])+")
_SHORTEST = 12


class Place(Enum):
    """Where something can come out."""

    LOGS = "logs of the broker, the SDK and the validator, at their most talkative, with their traces"
    ERRORS = "refusals, whole, as a client reads them"
    EVENTS = "the audit log's entries"
    FEED = "the stream of revocations"
    STREAM = "the audit stream, without personal values"
    STATUS = "the admin socket"
    EXPORTS = "exports without personal values: saved, OCSF, OpenTelemetry"
    COMMANDS = "what commands print, without personal values"
    ANSWERS = "what who asked is answered"
    APPROVERS = "what approvers are shown"
    PERSONAL = "streams, exports and commands with personal values"
    STORE = "the issuer's database"
    KEYS = "the issuer's directory of keys"
    SPOOL = "a service's spool"
    SENT = "what clients sent, or hold themselves"


@dataclass(frozen=True, slots=True)
class Content:
    """What came out at a place, as it is and with the breaks between lines taken out."""

    whole: bytes
    squeezed: bytes

    @classmethod
    def of(cls, whole: bytes) -> Self:
        """Take the breaks out."""
        return cls(whole, _squeezed(whole))

    def holds(self, value: bytes) -> bool:
        """Whether a value stands in it, in whatever form."""
        assert len(value) >= _SHORTEST, "what is so short is found by chance"
        return any(form in self.whole or _squeezed(form) in self.squeezed for form in _encodings(value))


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A value, and where it may be.

    Attributes:
        name: of the row.
        forms: the value, and what else would give it away.
        home: where it is found, without which finding it nowhere proves nothing.
        may: where it may be found besides.

    """

    name: str
    forms: tuple[bytes, ...] = field(repr=False)
    home: Place
    may: frozenset[Place] = frozenset()

    def found(self, places: Mapping[Place, Content]) -> set[Place]:
        """Return the places where it is."""
        return {place for place, content in places.items() if any(map(content.holds, self.forms))}

    def allowed(self) -> set[Place]:
        """Return the places where it may be; whoever sent it, or holds it, has it."""
        return {self.home, Place.SENT, *self.may}


def _squeezed(content: bytes) -> bytes:
    return _BREAKS.sub(b"", content)


def _encodings(value: bytes) -> Iterator[bytes]:
    yield value
    yield value.hex().encode()
    yield value.hex().upper().encode()
    yield value.hex(":").encode()
    yield quote_from_bytes(value, safe="").encode()
    yield repr(value)[2:-1].encode()
    for shift in range(3):
        for encode in (b64encode, urlsafe_b64encode):
            # The characters at both ends hold bits of what stands beside the value.
            encoded = encode(b"\0" * shift + value).rstrip(b"=")
            yield encoded[(0, 2, 3)[shift] : len(encoded) - (1 if (shift + len(value)) % 3 else 0)]


def key_forms(pem: bytes) -> tuple[bytes, ...]:
    """Return what gives a private key away: its file's lines, its DER, its secret number in bytes and in digits."""
    key = serialization.load_pem_private_key(pem, None)
    plain = serialization.NoEncryption()
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, plain)
    forms = [b"".join(pem.strip().splitlines()[1:-1]), der]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        number = key.private_numbers().private_value
        forms += [number.to_bytes(32, "big"), str(number).encode()]
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        forms.append(key.private_bytes_raw())
    return tuple(forms)


def token_forms(token: str) -> tuple[bytes, ...]:
    """Return what gives a token away: all of it, what is signed, its claims, its signature."""
    header, payload, signature = token.encode().split(b".")
    return token.encode(), header + b"." + payload, payload, signature
