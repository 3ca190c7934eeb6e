"""Checks of the signing keys: their directory, their files, and whether they are those that the store knows."""

import os
import stat
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from broker.audit.checkpoint import CheckpointInvalid, VerifierKey, verify
from broker.cli.doctor.finding import Check, Finding, ok, problem
from broker.cli.doctor.places import home, own, private, quoted
from broker.cli.doctor.setup import Setup
from broker.credential.keys import thumbprint
from broker.credential.source import CHECKPOINT_FILE, MAX_KEY_FILE_LENGTH

_READ: Final = "Others may have read the key, and then can sign as the broker; the broker does not start with it."
_RESTORE: Final = "Restore it from the backup"


def keys_directory(setup: Setup) -> Finding:
    """The directory is the broker's alone, or can be made."""
    directory = setup.settings.keys.dir
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return home(directory.parent) or ok(f"{directory} is not there yet; the first start makes it")
    if not stat.S_ISDIR(found.st_mode):
        return problem(
            f"{directory} is a link or a file, no directory",
            why="What is checked must be what is used; the broker does not start.",
            fix="Set [keys] dir to the directory itself.",
        )
    narrow = private(directory, found, 0o700, _READ)
    return own(directory, found, setup.uid) or narrow or ok(f"{directory} is this user's alone")


def key_files(setup: Setup) -> Finding:
    """Each key file is the broker's alone, and holds the key that it is named by."""
    files = _files(setup)
    wide = [path for path in files if stat.S_IMODE(path.lstat().st_mode) & ~0o600 and not path.is_symlink()]
    if wide:
        shown, names = " ".join(map(str, wide)), " ".join(map(quoted, wide))
        return problem(f"others may read {shown}", why=_READ, fix=f"chmod 600 {names}; then rotate the key")
    for path in files:
        if foreign := own(path, path.lstat(), setup.uid):
            return foreign
        if defect := _defect(path):
            return problem(
                f"{path}: {defect}",
                why="The broker does not start with a key that it cannot read.",
                fix=f"{_RESTORE}, or: mv {quoted(path)} {quoted(path)}.bad",
            )
    return ok(f"{len(files)} key files, each this user's alone" if files else "no keys yet; the first start makes them")


def key_ring(setup: Setup) -> Finding:
    """The keys that sign, by the store, are there."""
    stored = setup.stored
    if stored is None:
        return ok("no key signs yet")
    gone = [kid for kid in stored.keys if not (setup.settings.keys.dir / f"{kid}.pem").is_file()]
    if gone:
        files = " ".join(str(setup.settings.keys.dir / f"{kid}.pem") for kid in gone)
        return problem(
            f"{files} not there, though the store says that it signs now or next",
            why="The broker has no key to sign with (SIGNING_UNAVAILABLE).",
            fix=f"{_RESTORE} that belongs to this store; keys and store are kept together.",
        )
    return ok(f"the key files of all {len(stored.keys)} keys that sign now or next are there")


def checkpoint_key(setup: Setup) -> Finding:
    """The key of the log's checkpoints is the one that signed the newest."""
    stored, path = setup.stored, setup.settings.keys.dir / CHECKPOINT_FILE
    if stored is None or not stored.note:
        return ok("no checkpoint has been signed yet")
    name = f"{setup.settings.broker.origin}/{stored.log_id}"
    signed = stored.note.partition("\n")[0]
    if signed != name:
        return problem(
            f"the log's checkpoints are of {signed}; by [broker] issuer they would be of {name}",
            why="A log keeps its name: what auditors have kept would no longer belong to it.",
            fix=f'Set [broker] issuer back to "https://{signed.rpartition("/")[0]}", or begin with a new store.',
        )
    key = _load(path) if path.is_file() else None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        try:
            verify(stored.note, VerifierKey(name=name, public_key=key.public_key().public_bytes_raw()))
        except CheckpointInvalid:
            pass
        else:
            return ok("the checkpoint key is the one that signed the log's newest checkpoint")
    return problem(
        f"{path} is not the key that signed the log's checkpoints" if key else f"{path} is not there",
        why="With another key, the checkpoints and the verifier key that auditors keep prove nothing any more.",
        fix=f"{_RESTORE} that belongs to this store.",
    )


def _files(setup: Setup) -> list[Path]:
    directory = setup.settings.keys.dir
    return sorted(directory.glob("[!.]*.pem")) if directory.is_dir() else []


def _load(path: Path) -> PrivateKeyTypes | None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(MAX_KEY_FILE_LENGTH)
    try:
        return serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        return None


def _defect(path: Path) -> str:
    """Return what is wrong with a key file; never a word of what is in it."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return "not a plain file"
    key = _load(path)
    if key is None:
        return "not an unencrypted private key in PEM form"
    if path.name == CHECKPOINT_FILE:
        return "" if isinstance(key, ed25519.Ed25519PrivateKey) else "not an Ed25519 key"
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        return "not a P-256 key"
    return "" if thumbprint(key.public_key()) == path.stem else "not the key that the file is named by"


CHECKS: Final = (
    Check(id="keys-directory", look=keys_directory, above=("config",)),
    Check(id="key-files", look=key_files, above=("keys-directory",)),
    Check(id="key-ring", look=key_ring, above=("keys-directory", "store-content")),
    Check(id="checkpoint-key", look=checkpoint_key, above=("key-files", "store-content")),
)
