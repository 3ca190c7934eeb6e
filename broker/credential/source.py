"""Signers from files: private keys by kid, one file each, in a directory of their own.

Files have mode 0600, the directory 0700, and both belong to the user who runs the broker. Whatever is wider, is a
symbolic link or belongs to somebody else is refused, with the command that puts it right: the broker does not sign with
a key that others may have read, and does not repair the mode behind the operator's back.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from broker.credential.keys import public_jwk, thumbprint
from broker.credential.ring import KeyUse
from broker.errors import Reason, Refusal

# What an earlier release called the one checkpoint key that it had; it goes on under that name until it is replaced.
CHECKPOINT_FILE: Final = "checkpoint.pem"
CHECKPOINT_PREFIX: Final = "checkpoint-"
MAX_KEY_FILE_LENGTH: Final = 16 * 1024

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}\.pem")
_CHECKPOINT: Final = re.compile(r"checkpoint(-[A-Za-z0-9_-]{43})?\.pem")
_UNFINISHED: Final = re.compile(r"\.(new|old)-.*")
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
    """Signs checkpoints with one Ed25519 key."""

    __slots__ = ("_key", "kid", "public", "public_jwk")

    def __init__(self, key: ed25519.Ed25519PrivateKey) -> None:
        self._key = key
        self.kid = thumbprint(key.public_key())
        self.public = key.public_key().public_bytes_raw()
        self.public_jwk = public_jwk(key.public_key())

    def sign(self, signing_input: bytes) -> bytes:
        """Return the Ed25519 signature (RFC 8032), 64 bytes."""
        return self._key.sign(signing_input)

    def __repr__(self) -> str:
        """Return the public key."""
        return f"<checkpoint signer {self.public.hex()}>"


AnySigner: TypeAlias = TokenSigner | CheckpointSigner


class Signers:
    """The private keys of a directory; new ones are on disk, durably, before they can sign.

    Args:
        directory: where they lie.
        by_file: what was read from it, by the file's name.

    """

    __slots__ = ("_directory", "_files", "_signers")

    def __init__(self, directory: Path, by_file: dict[str, AnySigner]) -> None:
        self._directory = directory
        self._signers = {signer.kid: signer for signer in by_file.values()}
        self._files = {signer.kid: name for name, signer in by_file.items()}

    def __repr__(self) -> str:
        """Return how many there are."""
        return f"<{len(self._signers)} signers>"

    @property
    def kids(self) -> frozenset[str]:
        """The keys that can sign."""
        return frozenset(self._signers)

    def signer(self, kid: str) -> AnySigner:
        """Return the signer of a key.

        Raises:
            Refusal: SIGNING_UNAVAILABLE when its file is not there.

        """
        signer = self._signers.get(kid)
        if signer is None:
            raise Refusal(Reason.SIGNING_UNAVAILABLE, f"no key file for {kid}")
        return signer

    @property
    def earlier(self) -> AnySigner | None:
        """The checkpoint key of an earlier release, which had one for good."""
        return next((self._signers[kid] for kid, name in self._files.items() if name == CHECKPOINT_FILE), None)

    def make(self, use: KeyUse) -> AnySigner:
        """Make a key pair, keep it, and return its signer.

        Raises:
            KeyFileError: it cannot be written.

        """
        tokens = use is KeyUse.TOKENS
        key = ec.generate_private_key(ec.SECP256R1()) if tokens else ed25519.Ed25519PrivateKey.generate()
        signer = TokenSigner(key) if isinstance(key, ec.EllipticCurvePrivateKey) else CheckpointSigner(key)
        name = f"{'' if tokens else CHECKPOINT_PREFIX}{signer.kid}.pem"
        with _opened(self._directory) as handle:
            _write(self._directory, handle, name, key)
        self._signers[signer.kid], self._files[signer.kid] = signer, name
        return signer

    def forget(self, kid: str) -> None:
        """Overwrite and remove a key that will not sign again: when it retires, not before that is committed.

        What a disk keeps of overwritten blocks (snapshots, copy on write, flash) is out of reach here.

        Raises:
            KeyFileError: the file is still there. The key does not sign all the same.

        """
        self._signers.pop(kid, None)
        name = self._files.get(kid)
        if name is None:
            return
        with _opened(self._directory) as handle:
            with suppress(FileNotFoundError):
                _destroy(name, handle)
            os.fsync(handle)
        del self._files[kid]


def open_signers(directory: Path) -> Signers:
    """Read every key of a directory; make the directory when it is not there.

    Raises:
        KeyFileError: the directory or a file is not safe to use, or cannot be read.

    """
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as problem:
        raise KeyFileError(f"{directory}: {problem.strerror}") from problem
    with _opened(directory) as handle:
        names = sorted(os.listdir(handle))  # noqa: PTH208 - of the directory that was checked
        for name in filter(_UNFINISHED.fullmatch, names):  # a crash while a key was made, or destroyed
            _destroy(name, handle)
        by_file: dict[str, AnySigner] = {}
        for name in names:
            if _CHECKPOINT.fullmatch(name):
                by_file[name] = _read_checkpoint_signer(directory, handle, name)
            elif _TOKEN.fullmatch(name):
                by_file[name] = _read_token_signer(directory, handle, name)
    return Signers(directory, by_file)


def _read_checkpoint_signer(directory: Path, handle: int, name: str) -> CheckpointSigner:
    key = _read(directory, handle, name)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise KeyFileError(f"{directory / name}: not an Ed25519 key")
    signer = CheckpointSigner(key)
    if name not in (CHECKPOINT_FILE, f"{CHECKPOINT_PREFIX}{signer.kid}.pem"):
        raise KeyFileError(f"{directory / name}: holds the key {signer.kid}; a file is named by the key it holds")
    return signer


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


def _destroy(name: str, handle: int) -> None:
    """Overwrite a file's content and remove it; under another name: a crash leaves no half of a key under its own."""
    if not _UNFINISHED.fullmatch(name):
        os.rename(name, ".old-" + name, src_dir_fd=handle, dst_dir_fd=handle)
        name = ".old-" + name
    _overwrite(name, handle)
    os.unlink(name, dir_fd=handle)


def _overwrite(name: str, handle: int) -> None:
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, dir_fd=handle), "wb") as stream:
        stream.write(bytes(os.fstat(stream.fileno()).st_size))
        stream.flush()
        os.fsync(stream.fileno())
