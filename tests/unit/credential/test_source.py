"""Signers from files: private, durable, whole."""

import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from broker.credential.keys import raw_ed25519, read_jwks
from broker.credential.ring import KeyUse
from broker.credential.source import CheckpointSigner, KeyFileError, open_signers
from broker.errors import Reason, Refusal


def test_a_new_key_signs_and_is_there_again(tmp_path: Path) -> None:
    signers = open_signers(tmp_path / "keys")
    signer = signers.make(KeyUse.TOKENS)
    again = open_signers(tmp_path / "keys")
    assert again.kids == signers.kids == {signer.kid}
    signature = again.signer(signer.kid).sign(b"message")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    public = read_jwks('{"keys":[' + signer.public_jwk + "]}")[signer.kid]
    public.verify(encode_dss_signature(r, s), b"message", ec.ECDSA(SHA256()))


def test_checkpoints_are_signed_with_ed25519(tmp_path: Path) -> None:
    made = open_signers(tmp_path / "keys").make(KeyUse.CHECKPOINTS)
    checkpoint = open_signers(tmp_path / "keys").signer(made.kid)
    assert isinstance(checkpoint, CheckpointSigner)
    assert raw_ed25519(checkpoint.public_jwk) == checkpoint.public
    ed25519.Ed25519PublicKey.from_public_bytes(checkpoint.public).verify(checkpoint.sign(b"note"), b"note")


def test_everything_made_is_private(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        for use in KeyUse:
            open_signers(tmp_path / "keys").make(use)
    finally:
        os.umask(umask)
    made = list((tmp_path / "keys").iterdir())
    assert len(made) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_a_key_is_durable_before_it_is_given_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signers = open_signers(tmp_path / "keys")
    synced: list[bool] = []
    fsync = os.fsync

    def watch(handle: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(handle).st_mode))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watch)
    signers.make(KeyUse.TOKENS)
    assert synced == [False, True]


def test_a_key_that_cannot_be_made_durable_is_not_given_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signers = open_signers(tmp_path / "keys")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyFileError, match="Input/output error"):
        signers.make(KeyUse.TOKENS)
    assert not signers.kids


def test_a_file_half_written_by_a_crash_is_cleared_away(tmp_path: Path) -> None:
    open_signers(tmp_path / "keys")
    (tmp_path / "keys" / ".new-x.pem").write_bytes(b"-----BEGIN")
    open_signers(tmp_path / "keys").make(KeyUse.TOKENS)
    assert not [path for path in (tmp_path / "keys").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("use", KeyUse)
def test_a_retired_key_is_forgotten_on_disk_too(tmp_path: Path, use: KeyUse) -> None:
    signers = open_signers(tmp_path / "keys")
    signer, kept = signers.make(use), signers.make(KeyUse.CHECKPOINTS)
    signers.forget(signer.kid)
    signers.forget(signer.kid)
    signers.forget(f"../keys/checkpoint-{kept.kid}")
    assert open_signers(tmp_path / "keys").kids == {kept.kid}
    with pytest.raises(Refusal) as refused:
        open_signers(tmp_path / "keys").signer(signer.kid)
    assert refused.value.reason is Reason.SIGNING_UNAVAILABLE


def test_nothing_shows_a_private_key(tmp_path: Path) -> None:
    signers = open_signers(tmp_path / "keys")
    signer, checkpoint = signers.make(KeyUse.TOKENS), signers.make(KeyUse.CHECKPOINTS)
    assert isinstance(checkpoint, CheckpointSigner)
    assert repr(signer) == f"<token signer {signer.kid}>"
    assert repr(checkpoint) == f"<checkpoint signer {checkpoint.public.hex()}>"
    assert repr(signers) == "<2 signers>"
    for secret in (signer, checkpoint):
        with pytest.raises(TypeError, match="not serialised"):
            pickle.dumps(secret)


def _widen_key(key: Path) -> None:
    key.chmod(0o640)


def _widen_checkpoint(key: Path) -> None:
    next(key.parent.glob("checkpoint-*.pem")).chmod(0o604)


def _widen_directory(key: Path) -> None:
    key.parent.chmod(0o750)


def _link_key(key: Path) -> None:
    moved = key.rename(key.parent.parent / "elsewhere.pem")
    key.symlink_to(moved)


def _link_directory(key: Path) -> None:
    moved = key.parent.rename(key.parent.parent / "elsewhere")
    key.parent.symlink_to(moved)


def _pipe(key: Path) -> None:
    key.unlink()
    os.mkfifo(key, 0o600)


def _directory_for_key(key: Path) -> None:
    key.unlink()
    key.mkdir(0o600)


def _garbage(key: Path) -> None:
    key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def _empty(key: Path) -> None:
    key.write_bytes(b"")


def _pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _encrypted(key: Path) -> None:
    key.write_bytes(_pem(ec.generate_private_key(ec.SECP256R1()), b"password"))


def _other_curve(key: Path) -> None:
    key.write_bytes(_pem(ec.generate_private_key(ec.SECP384R1())))


def _other_key(key: Path) -> None:
    key.write_bytes(_pem(ec.generate_private_key(ec.SECP256R1())))


def _checkpoint_of_another_kind(key: Path) -> None:
    next(key.parent.glob("checkpoint-*.pem")).write_bytes(key.read_bytes())


def _checkpoint_of_another_name(key: Path) -> None:
    path = next(key.parent.glob("checkpoint-*.pem"))
    path.rename(key.parent / f"checkpoint-{'A' * 43}.pem")


UNSAFE = {
    "key-mode": (_widen_key, "chmod 600"),
    "checkpoint-mode": (_widen_checkpoint, "chmod 600"),
    "directory-mode": (_widen_directory, "chmod 700"),
    "key-link": (_link_key, "not a link"),
    "directory-link": (_link_directory, "not a link"),
    "pipe": (_pipe, "not a plain file"),
    "directory-for-key": (_directory_for_key, "keys"),
    "garbage": (_garbage, "PEM"),
    "empty": (_empty, "PEM"),
    "encrypted": (_encrypted, "unencrypted"),
    "other-curve": (_other_curve, "P-256"),
    "other-key": (_other_key, "named by the key"),
    "checkpoint-kind": (_checkpoint_of_another_kind, "Ed25519"),
    "checkpoint-name": (_checkpoint_of_another_name, "named by the key"),
}


@pytest.mark.parametrize(("spoil", "message"), UNSAFE.values(), ids=UNSAFE.keys())
def test_an_unsafe_key_is_not_used(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    open_signers(tmp_path / "keys").make(KeyUse.CHECKPOINTS)
    kid = open_signers(tmp_path / "keys").make(KeyUse.TOKENS).kid
    path = tmp_path / "keys" / f"{kid}.pem"
    open_signers(tmp_path / "keys").signer(kid)  # until it is spoilt
    spoil(path)
    with pytest.raises(KeyFileError, match=message) as refused:
        open_signers(tmp_path / "keys")
    assert str(tmp_path / "keys") in str(refused.value)


def test_the_command_names_the_file(tmp_path: Path) -> None:
    kid = open_signers(tmp_path / "keys").make(KeyUse.TOKENS).kid
    path = tmp_path / "keys" / f"{kid}.pem"
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match=f"chmod 600 {path}"):
        open_signers(tmp_path / "keys")


def test_a_key_is_overwritten_before_it_is_removed_and_never_half_of_it_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signers = open_signers(tmp_path / "keys")
    signer = signers.make(KeyUse.TOKENS)
    with (tmp_path / "keys" / f"{signer.kid}.pem").open("rb") as held:
        seen: list[tuple[bytes, list[str]]] = []
        unlink = os.unlink

        def watch(name: str, **options: int) -> None:
            held.seek(0)
            seen.append((held.read().strip(b"\0"), os.listdir(tmp_path / "keys")))  # noqa: PTH208
            unlink(name, **options)

        monkeypatch.setattr(os, "unlink", watch)
        signers.forget(signer.kid)
    assert seen == [(b"", [f".old-{signer.kid}.pem"])]
    assert not list((tmp_path / "keys").iterdir())


def test_a_key_that_cannot_be_removed_signs_no_more_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signers = open_signers(tmp_path / "keys")
    signer = signers.make(KeyUse.TOKENS)
    rename = os.rename

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(KeyFileError, match="Input/output error"):
        signers.forget(signer.kid)
    assert not signers.kids
    monkeypatch.setattr(os, "rename", rename)
    signers.forget(signer.kid)
    assert not list((tmp_path / "keys").iterdir())


def test_what_a_crash_left_of_a_key_that_was_destroyed_is_cleared_away(tmp_path: Path) -> None:
    signer = open_signers(tmp_path / "keys").make(KeyUse.TOKENS)
    path = tmp_path / "keys" / f"{signer.kid}.pem"
    path.rename(path.with_name(f".old-{path.name}"))
    assert not open_signers(tmp_path / "keys").kids
    assert not list((tmp_path / "keys").iterdir())


def test_a_key_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_signers(tmp_path / "keys")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(KeyFileError, match="belongs to user"):
        open_signers(tmp_path / "keys")


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="missing"):
        open_signers(tmp_path / "missing" / "keys")
