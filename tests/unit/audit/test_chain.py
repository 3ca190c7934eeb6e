"""One checkpoint key after another: what an auditor who trusts one key believes of the next, and until when."""

import json
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from broker.audit.chain import KeyChain, endorse
from broker.audit.checkpoint import Checkpoint, CheckpointInvalid, VerifierKey, sign
from broker.audit.tree import Frontier, leaf_hash
from broker.audit.verify import FaultKind, LoggedEntry, verify_log
from tests.contract.store_builders import entry

LOG = "broker.example.org/log_1"


class Key:
    """A test key of the log, by number."""

    def __init__(self, number: int, name: str = LOG) -> None:
        self.private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number] * 32))
        self.verifier = VerifierKey(name=name, public_key=self.private.public_key().public_bytes_raw())

    def note(self, contents: Sequence[bytes], size: int) -> str:
        root = Frontier().extend(leaf_hash(each) for each in contents[:size]).root()
        checkpoint = Checkpoint(origin=self.verifier.name, size=size, root=root)
        return sign(checkpoint, self.verifier.public_key, self.private)

    def introducing(self, other: "Key") -> str:
        return endorse(other.verifier, self.verifier, self.private)


K0, K1, K2, K3, THIEF = (Key(number) for number in range(5))


def changed(key: Key, state: str, note: str = "") -> bytes:
    event: dict[str, object] = {
        "type": "key.changed",
        "use": "checkpoint",
        "state": state,
        "key": key.verifier.to_text(),
        "kid": "k",
    }
    event |= {"v": 1, "at": "2026-11-21T12:00:00.000000Z"} | ({"note": note} if note else {})
    return json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def other(count: int) -> list[bytes]:
    return [entry(f"entry {number}").content for number in range(count)]


# K0 signs 0..4, K1 from 5 on, is stolen and removed at 9; K2 from 10 on.
HISTORY = [
    changed(K0, "current"),
    changed(K1, "next", K0.introducing(K1)),
    *other(2),
    changed(K0, "retired"),
    changed(K1, "current"),
    changed(K2, "next", K1.introducing(K2)),
    *other(2),
    changed(K1, "removed"),
    changed(K2, "current"),
    changed(K3, "next", K2.introducing(K3)),
    *other(3),
]


def believed(contents: Sequence[bytes], note: str, *, key: Key = K0) -> bool:
    """Whether an auditor who holds one key believes the log by one checkpoint."""
    entries = [LoggedEntry(position=number, content=each) for number, each in enumerate(contents)]
    try:
        report = verify_log(entries, pinned=[note], key=key.verifier)
    except CheckpointInvalid:
        return False
    assert report.fault is None
    return True


@pytest.mark.parametrize(
    ("key", "size", "counts"),
    [
        pytest.param(K0, 0, True, id="first-key-of-the-empty-log"),
        pytest.param(K0, 4, True, id="first-key-up-to-where-it-retires"),
        pytest.param(K0, 5, False, id="first-key-beyond"),
        pytest.param(K1, 1, False, id="second-key-before-it-is-introduced"),
        pytest.param(K1, 2, True, id="second-key-from-there-on"),
        pytest.param(K1, 9, True, id="second-key-up-to-where-it-is-removed"),
        pytest.param(K1, 10, False, id="stolen-key-beyond"),
        pytest.param(K1, 15, False, id="stolen-key-at-the-end"),
        pytest.param(K2, 15, True, id="third-key-at-the-end"),
        pytest.param(K3, 15, True, id="next-key"),
        pytest.param(THIEF, 15, False, id="a-stranger"),
    ],
)
def test_a_key_counts_from_where_it_is_introduced_to_where_it_ends(key: Key, size: int, counts: bool) -> None:
    assert believed(HISTORY, key.note(HISTORY, size)) is counts


def test_whoever_begins_with_a_later_key_follows_from_there() -> None:
    assert believed(HISTORY, K2.note(HISTORY, 15), key=K2)
    assert not believed(HISTORY, K0.note(HISTORY, 4), key=K2)


def with_(position: int, content: bytes) -> list[bytes]:
    return [*HISTORY[:position], content, *HISTORY[position:]]


FORGED = {
    "introduces-itself": changed(THIEF, "next", THIEF.introducing(THIEF)),
    "introduced-by-nobody": changed(THIEF, "current"),
    "by-the-retired-key": changed(THIEF, "next", K0.introducing(THIEF)),
    "by-the-removed-key": changed(THIEF, "next", K1.introducing(THIEF)),
    "by-a-key-of-another-log": changed(THIEF, "next", Key(9, "other.example.org/log").introducing(THIEF)),
    "a-note-for-another-key": changed(THIEF, "next", K2.introducing(K3)),
    "a-checkpoint-for-a-note": changed(THIEF, "next", K2.note(HISTORY, 3)),
    "a-token-key": changed(THIEF, "next", K2.introducing(THIEF)).replace(b'"checkpoint"', b'"token"'),
    "another-event": changed(THIEF, "next", K2.introducing(THIEF)).replace(b'"key.changed"', b'"key.planned"', 1),
    "a-note-that-is-a-number": changed(THIEF, "next", "x").replace(b'"note":"x"', b'"note":7'),
    "a-state-that-is-a-list": changed(THIEF, "next").replace(b'"next"', b'["next"]'),
    "no-key": b'{"at":"2026-11-21T12:00:00.000000Z","type":"key.changed","use":"checkpoint","v":1}',
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_a_forged_introduction_introduces_nobody(forged: bytes) -> None:
    log = with_(13, forged)
    chain = KeyChain(anchor=K0.verifier)
    for content in log:
        chain.read(content)
    with pytest.raises(CheckpointInvalid):
        chain.verify(THIEF.note(log, 16))
    assert chain.verify(K2.note(log, 16)).size == 16
    genuine = with_(13, changed(THIEF, "next", K2.introducing(THIEF)))
    assert believed(genuine, THIEF.note(genuine, 16)), "what they all lack is the signature of the key that counts"


@pytest.mark.parametrize("content", [b"", b'"type":"key.changed"', b"[" * 9999 + b'"type":"key.changed"', b"\xff"])
def test_what_is_no_event_changes_nothing(content: bytes) -> None:
    chain = KeyChain(anchor=K0.verifier)
    chain.read(content)
    assert chain.verify(K0.note(HISTORY, 3)).size == 3


def test_a_key_that_ended_does_not_come_back() -> None:
    log = [*HISTORY, changed(K0, "next", K0.introducing(K0)), changed(K0, "current"), *other(1)]
    assert not believed(log, K0.note(log, len(log)))


def test_a_rewritten_log_is_found_out_by_a_checkpoint_of_any_key_of_the_chain() -> None:
    forged = [*HISTORY[:7], entry("another").content, *HISTORY[8:]]
    entries = [LoggedEntry(position=number, content=each) for number, each in enumerate(forged)]
    for key, size in ((K1, 9), (K2, 15)):
        fault = verify_log(entries, pinned=[key.note(HISTORY, size)], key=K0.verifier).fault
        assert fault is not None
        assert (fault.kind, fault.last) == (FaultKind.REWRITTEN, size - 1)
    beside = [THIEF.note(forged, 12), "no note", K0.note(HISTORY, 4)]
    report = verify_log(entries[:7], pinned=[], history=beside[1:], key=K0.verifier)
    assert (report.fault, report.vouched) == (None, 4)
    assert verify_log(entries, pinned=[], history=beside, key=K0.verifier).fault is None


def test_a_log_cut_before_its_newest_key_came_does_not_verify() -> None:
    assert not believed(HISTORY[:5], K2.note(HISTORY, 15))
    entries = [LoggedEntry(position=number, content=each) for number, each in enumerate(HISTORY[:12])]
    fault = verify_log(entries, pinned=[K2.note(HISTORY, 15)], key=K0.verifier).fault
    assert fault is not None
    assert (fault.kind, fault.position) == (FaultKind.SHORT, 12)


def test_signed_notes_are_not_taken_without_a_key() -> None:
    with pytest.raises(ValueError, match="a key"):
        verify_log([], pinned=[K0.note(HISTORY, 0)])
