"""Checkpoints against C2SP signed-note and tlog-checkpoint."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoint import Checkpoint, CheckpointInvalid, VerifierKey, sign, verify

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PRIVATE.public_key().public_bytes_raw()
ORIGIN = "example.org/log_1"
KEY = VerifierKey(name=ORIGIN, public_key=PUBLIC)
CHECKPOINT = Checkpoint(origin=ORIGIN, size=42, root=bytes(range(32)))
NOTE = sign(CHECKPOINT, PUBLIC, PRIVATE)

# The example of Go's sumdb/note, which the standard describes.
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_the_key_of_the_reference_is_read_and_written() -> None:
    assert VerifierKey.parse(NEUMANN + "\n").to_text() == NEUMANN


def test_the_signature_of_the_reference_verifies_though_it_is_no_checkpoint() -> None:
    key = VerifierKey.parse(NEUMANN)
    with pytest.raises(CheckpointInvalid, match="three or more lines"):
        verify(NEUMANN_NOTE, key)
    with pytest.raises(CheckpointInvalid, match="does not verify"):
        verify(NEUMANN_NOTE.replace("answer", "Answer"), key)


def test_a_checkpoint_is_three_lines_an_empty_one_and_a_signature() -> None:
    text, signature = NOTE.split("\n\n")
    assert text == f"{ORIGIN}\n42\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    assert signature.startswith(f"\u2014 {ORIGIN} ")
    assert signature.endswith("\n")
    assert verify(NOTE, KEY) == CHECKPOINT


def test_signatures_of_others_are_ignored() -> None:
    witness = "\u2014 witness.example AAAAAAAA\n"
    assert verify(NOTE + witness, KEY) == CHECKPOINT
    text, signature = NOTE.split("\n\n")
    assert verify(f"{text}\n\n{witness}{signature}", KEY) == CHECKPOINT
    with pytest.raises(CheckpointInvalid, match="no signature"):
        verify(f"{text}\n\n{witness}", KEY)


def test_extension_lines_mean_nothing() -> None:
    text = CHECKPOINT.to_text() + "more\n"
    note = NOTE.replace(CHECKPOINT.to_text(), text)
    with pytest.raises(CheckpointInvalid, match="does not verify"):
        verify(note, KEY)
    assert Checkpoint.parse(text) == CHECKPOINT


def test_a_key_signs_for_its_own_log_only() -> None:
    class Forgetful:
        def sign(self, message: bytes) -> bytes:
            return PRIVATE.sign(message.replace(b"log_1", b"log_2", 1))

    note = sign(CHECKPOINT, PUBLIC, Forgetful()).replace("log_1\n", "log_2\n", 1)
    with pytest.raises(CheckpointInvalid, match="another log"):
        verify(note, KEY)


NO_NOTE = {
    "empty": "",
    "no-signature": CHECKPOINT.to_text(),
    "hyphen-for-dash": NOTE.replace("\u2014", "-"),
    "no-last-newline": NOTE[:-1],
    "carriage-return": NOTE.replace("\n", "\r\n"),
    "control-character": NOTE.replace("42", "4\x002"),
    "surrogate": NOTE.replace("42", "\ud800"),
    "size-changed": NOTE.replace("\n42\n", "\n43\n"),
    "origin-changed": NOTE.replace("log_1\n", "log_2\n", 1),
    "signature-cut": NOTE[:-6] + "\n",
    "signature-not-base64": NOTE[:-3] + "!!\n",
    "blank-in-signature": NOTE.replace("\u2014 ", "\u2014  "),
    "second-signature-wrong": NOTE + "\u2014 " + ORIGIN + " " + "AAAA\n",
    "too-large": NOTE + "\u2014 w AAAAAAAA\n" * 9000,
}


@pytest.mark.parametrize("note", NO_NOTE.values(), ids=NO_NOTE)
def test_a_note_that_is_not_ours_is_refused(note: str) -> None:
    with pytest.raises(CheckpointInvalid):
        verify(note, KEY)
    assert verify(NOTE, KEY) == CHECKPOINT


NO_TEXT = {
    "two-lines": f"{ORIGIN}\n42\n",
    "leading-zero": CHECKPOINT.to_text().replace("42", "042"),
    "plus": CHECKPOINT.to_text().replace("42", "+42"),
    "arabic-digits": CHECKPOINT.to_text().replace("42", "\u0664\u0662"),
    "superscript": CHECKPOINT.to_text().replace("42", "\u00b2"),
    "negative": CHECKPOINT.to_text().replace("42", "-1"),
    "too-long": CHECKPOINT.to_text().replace("42", "9" * 20),
    "just-too-large": CHECKPOINT.to_text().replace("42", str(2**63)),
    "short-root": f"{ORIGIN}\n42\nAAAA\n",
    "loose-base64": CHECKPOINT.to_text().replace("8=\n", "9=\n"),
    "empty-line": CHECKPOINT.to_text() + "\nx\n",
    "empty-origin": "\n42\n" + CHECKPOINT.to_text().split("\n")[2] + "\n",
}


@pytest.mark.parametrize("text", NO_TEXT.values(), ids=NO_TEXT)
def test_a_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(CheckpointInvalid):
        Checkpoint.parse(text)
    assert Checkpoint.parse(CHECKPOINT.to_text()) == CHECKPOINT


NO_KEY = {
    "empty": "",
    "no-name": NEUMANN.removeprefix("PeterNeumann"),
    "another-name": NEUMANN.replace("Peter", "Petra"),
    "another-id": NEUMANN.replace("c74f20a3", "c74f20a4"),
    "upper-case-id": NEUMANN.replace("c74f20a3", "C74F20A3"),
    "another-algorithm": NEUMANN.replace("+ARpc", "+AhpC"),
    "cut": NEUMANN[:-4],
    "blank-in-name": NEUMANN.replace("Peter", "Peter "),
}


@pytest.mark.parametrize("text", NO_KEY.values(), ids=NO_KEY)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(CheckpointInvalid):
        VerifierKey.parse(text)
