"""Checks of the signing keys: their directory, their files, and whether they are those that the store knows."""

import os
import stat
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from broker.audit.checkpoint import CheckpointInvalid, VerifierKey, verify
from broker.cli.doctor.finding import Check, Finding, ok, problem, warning
from broker.cli.doctor.places import home, own, private, quoted
from broker.cli.doctor.setup import Setup
from broker.credential.keys import thumbprint
from broker.credential.source import CHECKPOINT_FILE, CHECKPOINT_PREFIX, MAX_KEY_FILE_LENGTH

_READ: Final = "Others may have read the key, and then can sign as the broker; the broker does not start with it."
# How long a rotation may be due before it is overdue: a broker that starts now does it at once.
_PATIENCE: Final = timedelta(minutes=1)
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
    return own(directory, found, setup.issuer_uid) or narrow or ok(f"{directory} is the broker's alone")


def key_files(setup: Setup) -> Finding:
    """Each key file is the broker's alone, and holds the key that it is named by."""
    files = _files(setup)
    wide = [path for path in files if stat.S_IMODE(path.lstat().st_mode) & ~0o600 and not path.is_symlink()]
    if wide:
        shown, names = " ".join(map(str, wide)), " ".join(map(quoted, wide))
        return problem(f"others may read {shown}", why=_READ, fix=f"chmod 600 {names}; then rotate the key")
    for path in files:
        if foreign := own(path, path.lstat(), setup.issuer_uid):
            return foreign
        if defect := _defect(path):
            return problem(
                f"{path}: {defect}",
                why="The broker does not start with a key that it cannot read.",
                fix=f"{_RESTORE}, or: mv {quoted(path)} {quoted(path)}.bad",
            )
    return ok(
        f"{len(files)} key files, each the broker's alone" if files else "no keys yet; the first start makes them"
    )


def key_ring(setup: Setup) -> Finding:
    """The keys that sign tokens, by the store, are there."""
    stored = setup.stored
    if stored is None:
        return ok("no key signs yet")
    signing = stored.keys_of("token", "current", "next")
    gone = [key.kid for key in signing if not (setup.settings.keys.dir / f"{key.kid}.pem").is_file()]
    if gone:
        files = " ".join(str(setup.settings.keys.dir / f"{kid}.pem") for kid in gone)
        return problem(
            f"{files} not there, though the store says that it signs now or next",
            why="The broker has no key to sign with (SIGNING_UNAVAILABLE).",
            fix=f"{_RESTORE} that belongs to this store; keys and store are kept together.",
        )
    return ok(f"the key files of all {len(signing)} keys that sign now or next are there")


def key_rotation(setup: Setup) -> Finding:
    """No key signs for longer than it should, and none is kept from signing by a clock that went wrong."""
    stored, keys = setup.stored, setup.settings.keys
    periods = {"token": keys.rotate_every, "checkpoint": keys.rotate_checkpoints_every}
    for use in periods:
        for key in stored.keys_of(use, "next") if stored else ():
            if key.since > setup.now + _PATIENCE:
                return warning(
                    f"the {use} key {key.kid} is next since {key.since:%Y-%m-%d %H:%M} UTC, which is to come",
                    why="The clock was ahead when it was made, and no key follows until then. It has signed nothing.",
                    fix=f"Check the clock; broker keys rotate --emergency {key.kid} --reason 'made by a wrong clock'",
                )
    for use, period in periods.items():
        for key in stored.keys_of(use, "current") if stored else ():
            late = setup.now - key.since - period
            if late > max(keys.publish_ahead, _PATIENCE):
                return warning(
                    f"the {use} key {key.kid} signs since {key.since:%Y-%m-%d %H:%M} UTC, longer than {period}",
                    why="A key that leaks unseen is of use as long as it signs. A running broker rotates by itself.",
                    fix="Start the broker, or look for `chore refused` in its log; `broker keys list` shows the keys.",
                )
    return ok("no key has signed for longer than it should")


def key_leftovers(setup: Setup) -> Finding:
    """No private key lies about that will never sign."""
    stored = setup.stored
    if stored is None:
        return ok("no key is over yet")
    wanted = {key.kid for key in stored.keys if key.state in ("current", "next")}
    if not any(key.use == "checkpoint" for key in stored.keys):  # of a release that kept it in no ring
        wanted |= {_kid(path) for path in _files(setup) if path.name == CHECKPOINT_FILE}
    left = [path for path in _files(setup) if _kid(path) not in wanted]
    if not left:
        return ok("every key file is of a key that signs now or next")
    names = " ".join(map(quoted, left))
    return warning(
        f"{' '.join(map(str, left))}: of no key that the store lets sign, now or ever",
        why="A stolen copy signs as the broker to whoever still trusts that key; the broker has no use for it.",
        fix=f"If no other store needs it: shred -u {names}",
    )


def checkpoint_key(setup: Setup) -> Finding:
    """The log has kept its name, and the key that signs its checkpoints is there."""
    stored = setup.stored
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
    current = stored.keys_of("checkpoint", "current")
    if not current:
        return _earlier_release(setup, name, stored.note)
    if current[0].kid in map(_kid, _files(setup)):
        return ok("the key that signs the log's checkpoints is there")
    return problem(
        f"the file of {current[0].kid} is not there, though the store says that it signs the log's checkpoints",
        why="The broker cannot sign the log, and does not start (SIGNING_UNAVAILABLE).",
        fix=f"{_RESTORE} that belongs to this store.",
    )


def _earlier_release(setup: Setup, name: str, note: str) -> Finding:
    """Check the one checkpoint key that a release before this had; this one takes it over when it starts."""
    path = setup.settings.keys.dir / CHECKPOINT_FILE
    key = _load(path) if path.is_file() else None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        try:
            verify(note, VerifierKey(name=name, public_key=key.public_key().public_bytes_raw()))
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
    if path.name.startswith(CHECKPOINT_PREFIX) or path.name == CHECKPOINT_FILE:
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            return "not an Ed25519 key"
        named = path.name in (CHECKPOINT_FILE, f"{CHECKPOINT_PREFIX}{thumbprint(key.public_key())}.pem")
        return "" if named else "not the key that the file is named by"
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        return "not a P-256 key"
    return "" if thumbprint(key.public_key()) == path.stem else "not the key that the file is named by"


def _kid(path: Path) -> str:
    """Return the key that a file is named by; of the one of an earlier release, the key that it holds."""
    if path.name != CHECKPOINT_FILE:
        return path.stem.removeprefix(CHECKPOINT_PREFIX)
    key = _load(path)
    return thumbprint(key.public_key()) if isinstance(key, ed25519.Ed25519PrivateKey) else ""


CHECKS: Final = (
    Check(id="keys-directory", look=keys_directory, above=("users",)),
    Check(id="key-files", look=key_files, above=("keys-directory",)),
    Check(id="key-ring", look=key_ring, above=("keys-directory", "store-content")),
    Check(id="key-rotation", look=key_rotation, above=("store-content",)),
    Check(id="key-leftovers", look=key_leftovers, above=("key-files", "store-content")),
    Check(id="checkpoint-key", look=checkpoint_key, above=("key-files", "store-content")),
)
