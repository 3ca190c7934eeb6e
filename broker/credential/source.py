"""Signers from files: private keys by kid, one file each, in a directory of their own.

Files have mode 0600, the directory 0700, and both belong to the user who runs the broker. Whatever is wider, is a
symbolic link or belongs to somebody else is refused, with the command that puts it right: the broker does not sign with
a key that others may have read, and does not repair the mode behind the operator's back.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from broker.credential.keys import public_jwk, thumbprint
from broker.errors import Reason, Refusal

CHECKPOINT_FILE: Final = "checkpoint.pem"
MAX_KEY_FILE_LENGTH: Final = 16 * 1024

_KID: Final = re.compile("[A-Za-z0-9_-]{43}")
_UNFINISHED: Final = re.compile(r"\.new-.*")
_ES256: Final = ec.ECDSA(SHA256())


class KeyFileError(Exception):
    """A key file or its directory cannot be used; the message says what to do. It never holds a key."""


class _Unserialisable:
    """A private key does not travel."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        """Refuse to be serialised by accident."""
        message = "a signer is not serialised"
        raise TypeError(message)


class TokenSigner(_Unserialisable):
    """Signs tokens with one ES256 key."""

    __slots__ = ("_key", "kid", "public_jwk")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.kid = thumbprint(key.public_key())
        self.public_jwk = public_jwk(key.public_key())

    def sign(self, signing_input: bytes) -> bytes:
        """Return r and s, 32 bytes each (RFC 7518 section 3.4)."""
        r, s = decode_dss_signature(self._key.sign(signing_input, _ES256))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def __repr__(self) -> str:
        """Return the kid."""
        return f"<token signer {self.kid}>"


class CheckpointSigner(_Unserialisable):
    """Signs checkpoints with the one Ed25519 key."""

    __slots__ = ("_key", "public")

    def __init__(self, key: ed25519.Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature (RFC 8032), 64 bytes."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        """Return the public key."""
        return f"<checkpoint signer {self.public.hex()}>"


class Signers:
    """The private keys of a directory; new ones are on disk, durably, before they can sign."""

    __slots__ = ("_by_kid", "_directory", "checkpoint")

    def __init__(self, directory: Path, by_kid: dict[str, TokenSigner], checkpoint: CheckpointSigner) -> None:
        self._directory = directory
        self._by_kid = by_kid
        self.checkpoint = checkpoint

    def __repr__(self) -> str:
        """Return how many there are."""
        return f"<{len(self._by_kid)} token signers>"

    @property
    def kids(self) -> frozenset[str]:
        """The keys that can sign."""
        return frozenset(self._by_kid)

    def signer(self, kid: str) -> TokenSigner:
        """Return the signer of a key.

        Raises:
            Refusal: SIGNING_UNAVAILABLE when its file is not there.

        """
        signer = self._by_kid.get(kid)
        if signer is None:
            raise Refusal(Reason.SIGNING_UNAVAILABLE, f"no key file for {kid}")
        return signer

    def make(self) -> TokenSigner:
        """Make a key pair, keep it, and return its signer.

        Raises:
            KeyFileError: it cannot be written.

        """
        key = ec.generate_private_key(ec.SECP256R1())
        signer = TokenSigner(key)
        with _opened(self._directory) as handle:
            _write(self._directory, handle, signer.kid + ".pem", key)
        self._by_kid[signer.kid] = signer
        return signer

    def forget(self, kid: str) -> None:
        """Remove a key that will not sign again: when it retires, not before that is committed."""
        self._by_kid.pop(kid, None)
        if not _KID.fullmatch(kid):
            return
        with _opened(self._directory) as handle:
            try:
                os.unlink(kid + ".pem", dir_fd=handle)
            except FileNotFoundError:
                return
            os.fsync(handle)


def open_signers(directory: Path) -> Signers:
    """Read every key of a directory; make the directory and the checkpoint key when they are not there.

    Raises:
        KeyFileError: the directory or a file is not safe to use, or cannot be read.

    """
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as problem:
        raise KeyFileError(f"{directory}: {problem.strerror}") from problem
    with _opened(directory) as handle:
        names = sorted(os.listdir(handle))  # noqa: PTH208 - of the directory that was checked
        for name in filter(_UNFINISHED.fullmatch, names):  # a crash while writing; that key never signed
            os.unlink(name, dir_fd=handle)
        by_kid = {}
        for name in names:
            if name.endswith(".pem") and _KID.fullmatch(name.removesuffix(".pem")):
                signer = _read_token_signer(directory, handle, name)
                by_kid[signer.kid] = signer
        if CHECKPOINT_FILE not in names:
            _write(directory, handle, CHECKPOINT_FILE, ed25519.Ed25519PrivateKey.generate())
        checkpoint = _read(directory, handle, CHECKPOINT_FILE)
    if not isinstance(checkpoint, ed25519.Ed25519PrivateKey):
        raise KeyFileError(f"{directory / CHECKPOINT_FILE}: not an Ed25519 key")
    return Signers(directory, by_kid, CheckpointSigner(checkpoint))


def _read_token_signer(directory: Path, handle: int, name: str) -> TokenSigner:
    key = _read(directory, handle, name)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyFileError(f"{directory / name}: not a P-256 key")
    signer = TokenSigner(key)
    if signer.kid != name.removesuffix(".pem"):
        raise KeyFileError(f"{directory / name}: holds the key {signer.kid}; a file is named by the key it holds")
    return signer


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """Hold the directory open, so that what is checked is what is used."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as problem:
        raise KeyFileError(f"{directory}: {problem.strerror}; it must be a directory, not a link") from problem
    try:
        _require_private(directory, os.fstat(handle), 0o700)
        yield handle
    except OSError as problem:
        raise KeyFileError(f"{directory}: {problem.strerror}") from problem
    finally:
        os.close(handle)


def _require_private(path: Path, status: os.stat_result, widest: int) -> None:
    if status.st_uid != os.geteuid():
        raise KeyFileError(f"{path}: belongs to user {status.st_uid}, the broker runs as {os.geteuid()}; chown it")
    mode = stat.S_IMODE(status.st_mode)
    if mode & ~widest:
        raise KeyFileError(f"{path}: mode {mode:04o} lets others in; run: chmod {widest:o} {path}, then rotate the key")


def _read(directory: Path, handle: int, name: str) -> PrivateKeyTypes:
    path = directory / name
    try:
        # O_NONBLOCK: a named pipe in a key's place must not hold up the start.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=handle)
    except OSError as problem:
        raise KeyFileError(f"{path}: {problem.strerror}; it must be a plain file, not a link") from problem
    with os.fdopen(file, "rb") as stream:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"{path}: not a plain file")
        _require_private(path, status, 0o600)
        content = stream.read(MAX_KEY_FILE_LENGTH)
    try:
        return serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        raise KeyFileError(f"{path}: not an unencrypted private key in PEM form") from None


def _write(
    directory: Path, handle: int, name: str, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
) -> None:
    """Write a key file whole or not at all; it is durable when this returns."""
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    unfinished = ".new-" + name
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(unfinished, flags, 0o600, dir_fd=handle)
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(file)
        os.link(unfinished, name, src_dir_fd=handle, dst_dir_fd=handle)  # unlike rename, never over another file
        os.unlink(unfinished, dir_fd=handle)
        os.fsync(handle)
    except OSError as problem:
        raise KeyFileError(f"{directory / name}: {problem.strerror}") from problem
