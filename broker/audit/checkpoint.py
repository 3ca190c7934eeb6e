"""Checkpoint: a signed statement of how long the log is and what its root is.

The text is a C2SP tlog-checkpoint (c2sp.org/tlog-checkpoint), the envelope a signed note with Ed25519
(c2sp.org/signed-note, signature type 0x01); the key's name is the log's origin. Whoever keeps a checkpoint outside the
broker can prove later that the log has been cut, or changed below it.
"""

import binascii
import hashlib
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from broker.audit.tree import HASH_BYTES, MAX_SIZE

MAX_NOTE_BYTES: Final = 64 * 1024
_ED25519: Final = b"\x01"
_KEY_BYTES: Final = 32
_KEY_ID_BYTES: Final = 4
_MARK: Final = "\u2014 "  # em dash and space: what a signature line begins with
_TEXT_LINES: Final = 3


class CheckpointInvalid(ValueError):
    """A note or a verifier key is not what it should be. The message never repeats it."""


class Signer(Protocol):
    """Signs with one Ed25519 key; holds the private key so that nobody else has to."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of RFC 8032."""


def _require_name(name: str) -> None:
    if not name or "+" in name or any(c.isspace() or c < " " or "\ud800" <= c <= "\udfff" for c in name):
        raise CheckpointInvalid("a key name is not empty and has neither spaces, nor '+', nor control characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public key and the name under which it signs; as text: name+hex of the key id+base64(0x01 ‖ key)."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        """Refuse a name that cannot stand in a note, or what is no Ed25519 key."""
        _require_name(self.name)
        if len(self.public_key) != _KEY_BYTES:
            raise CheckpointInvalid("an Ed25519 public key is 32 bytes")

    @property
    def key_id(self) -> bytes:
        """SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key), first four bytes: a hint, not a proof."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:_KEY_ID_BYTES]

    def to_text(self) -> str:
        """Return the verifier key as one line of text."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(_ED25519 + self.public_key).decode()}"

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Read a verifier key.

        Raises:
            CheckpointInvalid: it is not one, is for another algorithm, or its id does not match its key.

        """
        # The key's base64 may hold "+", the name and the id may not.
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        key = _base64(encoded, "the key")
        if key[:1] != _ED25519:
            raise CheckpointInvalid("the key is not Ed25519 (type 0x01)")
        parsed = cls(name=name, public_key=key[1:])
        if parsed.key_id.hex() != key_id:
            raise CheckpointInvalid("the key's id does not match its name and key")
        return parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How long the log is, and its root.

    Attributes:
        origin: names the log; the name of its key too.
        size: number of entries.
        root: RFC 6962 root hash at that size.

    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Refuse what cannot be written as a checkpoint."""
        _require_name(self.origin)
        if not 0 <= self.size <= MAX_SIZE:
            raise CheckpointInvalid("a log's size lies within 0 and 2^63-1")
        if len(self.root) != HASH_BYTES:
            raise CheckpointInvalid("a root is 32 bytes")

    def to_text(self) -> str:
        """Return the text that is signed: three lines, the newline of the last one included."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Read the text of a note. Extension lines are allowed and mean nothing here.

        Raises:
            CheckpointInvalid: it is no checkpoint.

        """
        lines = text.split("\n")
        if lines.pop() or len(lines) < _TEXT_LINES or not all(lines):
            raise CheckpointInvalid("a checkpoint is three or more lines, none empty, each ended by a newline")
        origin, size, root, *_ = lines
        if not (size.isascii() and size.isdigit() and len(size) <= len(str(MAX_SIZE))) or str(int(size)) != size:
            raise CheckpointInvalid("the second line is the size, a decimal number without leading zeroes")
        return cls(origin=origin, size=int(size), root=_base64(root, "the root"))


def sign(checkpoint: Checkpoint, public_key: bytes, signer: Signer) -> str:
    """Return the checkpoint as a signed note.

    Args:
        checkpoint: what to state; its origin is the key's name.
        public_key: the signer's public key, 32 bytes.
        signer: signs the text.

    """
    return sign_text(checkpoint.to_text(), VerifierKey(name=checkpoint.origin, public_key=public_key), signer)


def sign_text(text: str, key: VerifierKey, signer: Signer) -> str:
    """Return a text, which ends with a newline, as a signed note of this key."""
    signature = b64encode(key.key_id + signer.sign(text.encode())).decode()
    return f"{text}\n{_MARK}{key.name} {signature}\n"


def verify(note: str, key: VerifierKey) -> Checkpoint:
    """Return what a note states, once a signature of this key stands under it.

    Signatures of other keys (witnesses, an earlier key) are ignored, as the standard demands.

    Raises:
        CheckpointInvalid: it is no note, no signature of this key stands under it, one that does is wrong, or the note
            speaks of another log than the key's.

    """
    checkpoint = Checkpoint.parse(verify_text(note, key))
    if checkpoint.origin != key.name:
        raise CheckpointInvalid("the checkpoint is of another log than the key")
    return checkpoint


def verify_text(note: str, key: VerifierKey) -> str:
    """Return a note's text, once a signature of this key stands under it.

    Raises:
        CheckpointInvalid: it is no note, no signature of this key stands under it, or one that does is wrong.

    """
    text, signatures = _split(note)
    public_key = Ed25519PublicKey.from_public_bytes(key.public_key)
    signed = False
    for name, signature in signatures:
        if (name, signature[:_KEY_ID_BYTES]) != (key.name, key.key_id):
            continue
        try:
            public_key.verify(signature[_KEY_ID_BYTES:], text.encode())
        except InvalidSignature as problem:
            raise CheckpointInvalid("the signature does not verify") from problem
        signed = True
    if not signed:
        raise CheckpointInvalid("no signature of this key")
    return text


def stated(note: str) -> Checkpoint:
    """Return what a note states, whoever signed it: nothing that could be relied on.

    Raises:
        CheckpointInvalid: it is no checkpoint.

    """
    return Checkpoint.parse(_split(note)[0])


def _split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Split a note at its last empty line into the text and the signatures."""
    if len(note.encode(errors="surrogatepass")) > MAX_NOTE_BYTES:
        raise CheckpointInvalid("a note is at most 64 KiB")
    if any((c < " " and c != "\n") or "\ud800" <= c <= "\udfff" for c in note):
        raise CheckpointInvalid("a note has no control characters")
    text, separator, tail = note.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise CheckpointInvalid("a note is a text, an empty line, and signature lines")
    signatures = []
    for line in tail.removesuffix("\n").split("\n"):
        name, space, encoded = line.removeprefix(_MARK).partition(" ")
        if not (line.startswith(_MARK) and space):
            raise CheckpointInvalid("a signature line is an em dash, a name and a signature")
        _require_name(name)
        signature = _base64(encoded, "a signature")
        if len(signature) <= _KEY_ID_BYTES:
            raise CheckpointInvalid("a signature is a key id and more")
        signatures.append((name, signature))
    return text + "\n", signatures


def _base64(text: str, what: str) -> bytes:
    """Decode RFC 4648 section 4, the one canonical form only."""
    try:
        decoded = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise CheckpointInvalid(f"{what} is not base64") from problem
    if b64encode(decoded).decode() != text:
        raise CheckpointInvalid(f"{what} is not base64 in its one form")
    return decoded
