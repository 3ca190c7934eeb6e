"""Tampering, row by row: each is found and its first bad entry named; clean logs raise no alarm."""

import dataclasses
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit import saved
from broker.audit.checkpoint import Checkpoint
from broker.audit.entry import Opening
from broker.audit.tree import Frontier, leaf_hash
from broker.audit.verify import FaultKind, LoggedEntry, verify_log
from tests.contract.store_builders import entry

SIZE = 20
PINNED, HISTORY = 17, (4, 8, 12, 19)


def log_of(size: int) -> list[LoggedEntry]:
    made = [entry(f"entry {n}") for n in range(size)]
    return [
        LoggedEntry(position=n, content=each.content, openings=each.openings, leaf=leaf_hash(each.content))
        for n, each in enumerate(made)
    ]


def checkpoint(log: Sequence[LoggedEntry], size: int) -> Checkpoint:
    root = Frontier().extend(leaf_hash(each.content) for each in log[:size]).root()
    return Checkpoint(origin="log", size=size, root=root)


def renumbered(log: Sequence[LoggedEntry]) -> list[LoggedEntry]:
    """Compute again everything that whoever owns the file can: positions and leaf hashes."""
    return [dataclasses.replace(each, position=n, leaf=leaf_hash(each.content)) for n, each in enumerate(log)]


def edited(log: list[LoggedEntry], at: int, **changes: object) -> list[LoggedEntry]:
    return [*log[:at], dataclasses.replace(log[at], **changes), *log[at + 1 :]]  # type: ignore[arg-type]


LOG = log_of(SIZE)
CLEAN = checkpoint(LOG, PINNED)
BESIDE = [checkpoint(LOG, size) for size in HISTORY]
OTHER = entry("another").content
LOOSE = LOG[6].content.replace(b'{"', b'{ "', 1)
FALSE_OPENING = Opening(field="detail", value=b'"about something else"', salt=b"\x07" * 32)
STRAY_OPENING = Opening(field="text", value=b'"x"', salt=b"\x07" * 32)

# id: what was done, what is found, the first bad entry (lowest and highest that it can be), and how many are proven.
Row = tuple[list[LoggedEntry], FaultKind, int, int, int]
TAMPERED: dict[str, Row] = {
    "edited": (edited(LOG, 6, content=OTHER), FaultKind.CHANGED, 6, 6, 6),
    "edited-not-canonical": (edited(LOG, 6, content=LOOSE), FaultKind.CHANGED, 6, 6, 6),
    "edited-and-hashed-again": (renumbered(edited(LOG, 6, content=OTHER, openings=())), FaultKind.REWRITTEN, 4, 7, 4),
    "not-canonical-and-hashed-again": (renumbered(edited(LOG, 6, content=LOOSE)), FaultKind.MALFORMED, 6, 6, 4),
    "not-an-event": (renumbered(edited(LOG, 6, content=b"{}")), FaultKind.MALFORMED, 6, 6, 4),
    "not-text": (renumbered(edited(LOG, 6, content=b"\xff")), FaultKind.MALFORMED, 6, 6, 4),
    "deep": (renumbered(edited(LOG, 6, content=b"[" * 99999)), FaultKind.MALFORMED, 6, 6, 4),
    "stored-hash-edited": (edited(LOG, 6, leaf=bytes(32)), FaultKind.CHANGED, 6, 6, 6),
    "stored-hash-cut": (edited(LOG, 6, leaf=b"x"), FaultKind.CHANGED, 6, 6, 6),
    "two-edited": (edited(edited(LOG, 6, content=OTHER), 13, content=OTHER), FaultKind.CHANGED, 6, 6, 6),
    "opening-edited": (edited(LOG, 6, openings=(FALSE_OPENING,)), FaultKind.OPENING, 6, 6, 6),
    "opening-added": (edited(LOG, 6, openings=(STRAY_OPENING,)), FaultKind.OPENING, 6, 6, 6),
    "deleted": (LOG[:6] + LOG[7:], FaultKind.MISSING, 6, 6, 4),
    "deleted-and-renumbered": (renumbered(LOG[:6] + LOG[7:]), FaultKind.REWRITTEN, 4, 7, 4),
    "first-deleted": (LOG[1:], FaultKind.MISSING, 0, 0, 0),
    "inserted": ([*LOG[:6], LOG[3], *LOG[6:]], FaultKind.OUT_OF_ORDER, 6, 6, 4),
    "inserted-and-renumbered": (
        renumbered([*LOG[:6], dataclasses.replace(LOG[6], content=OTHER, openings=()), *LOG[6:]]),
        FaultKind.REWRITTEN,
        4,
        7,
        4,
    ),
    "swapped": ([*LOG[:6], LOG[7], LOG[6], *LOG[8:]], FaultKind.MISSING, 6, 6, 4),
    "swapped-and-renumbered": (renumbered([*LOG[:6], LOG[7], LOG[6], *LOG[8:]]), FaultKind.REWRITTEN, 4, 7, 4),
    "tail-cut": (LOG[:14], FaultKind.SHORT, 14, 14, 12),
    "one-cut": (LOG[:16], FaultKind.SHORT, 16, 16, 12),
    "emptied": ([], FaultKind.SHORT, 0, 0, 0),
    "edited-beyond-the-pinned": (
        renumbered(edited(LOG, 18, content=OTHER, openings=())),
        FaultKind.REWRITTEN,
        17,
        18,
        17,
    ),
    "unsigned-edited": (edited(LOG, 19, content=OTHER), FaultKind.CHANGED, 19, 19, 19),
}


@pytest.mark.parametrize(("log", "kind", "first", "last", "vouched"), TAMPERED.values(), ids=TAMPERED)
def test_tampering_is_found_and_named(
    log: list[LoggedEntry], kind: FaultKind, first: int, last: int, vouched: int
) -> None:
    fault = verify_log(log, pinned=[CLEAN], history=BESIDE).fault
    assert fault is not None
    assert (fault.kind, fault.position, fault.last, fault.vouched) == (kind, first, last, vouched)
    assert verify_log(LOG, pinned=[CLEAN], history=BESIDE).fault is None


def test_a_log_rolled_back_and_grown_again_contradicts_the_pinned_checkpoint() -> None:
    """Everything is new and properly signed by the same key; only what was kept outside tells."""
    branch = renumbered([*LOG[:6], *(dataclasses.replace(each, content=OTHER, openings=()) for each in LOG[6:])])
    beside = [checkpoint(branch, size) for size in HISTORY]
    assert verify_log(branch, pinned=[], history=beside).fault is None
    fault = verify_log(branch, pinned=[CLEAN], history=beside).fault
    assert fault is not None
    assert (fault.kind, fault.position, fault.last, fault.vouched) == (FaultKind.REWRITTEN, 0, 16, 0)
    narrowed = verify_log(branch, pinned=[CLEAN, checkpoint(LOG, 5)], history=beside).fault
    assert narrowed is not None
    assert (narrowed.position, narrowed.last) == (5, 16)


def test_a_log_cut_and_hashed_again_is_short_even_with_its_history_gone() -> None:
    report = verify_log(renumbered(LOG[:10]), pinned=[CLEAN])
    assert report.fault is not None
    assert (report.fault.kind, report.fault.position, report.vouched) == (FaultKind.SHORT, 10, 0)


def test_what_is_newer_than_the_checkpoint_is_counted_but_not_vouched_for() -> None:
    report = verify_log(LOG, pinned=[CLEAN])
    assert (report.size, report.vouched, report.fault) == (SIZE, PINNED, None)


def test_erased_openings_are_no_fault() -> None:
    bare = [dataclasses.replace(each, openings=each.openings[:1], leaf=None) for each in LOG]
    assert verify_log(bare, pinned=[CLEAN]).fault is None


def flipped(content: bytes, bit: int) -> bytes:
    at = bit % len(content)
    return content[:at] + bytes([content[at] ^ 1 << bit % 8]) + content[at + 1 :]


Change = Callable[[list[LoggedEntry], int, int], list[LoggedEntry]]
EDITS: list[Change] = [
    lambda log, at, _: edited(log, at, content=OTHER),
    lambda log, at, _: log[:at] + log[at + 1 :],
    lambda log, at, _: log[:at],
    lambda log, at, to: [*log[:at], log[to], *log[at:]],
    lambda log, at, to: edited(edited(log, at, content=log[to].content), to, content=log[at].content),
    lambda log, at, bit: edited(log, at, content=flipped(log[at].content, bit)),
]


@given(st.data())
def test_random_edits_are_found_and_never_blamed_on_an_entry_before_them(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 24))
    log = log_of(size)
    sizes = data.draw(st.sets(st.integers(0, size), max_size=4))
    beside, pinned = [checkpoint(log, each) for each in sizes], checkpoint(log, size)
    assert verify_log(log, pinned=[pinned], history=beside).fault is None
    at, to = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    changed = data.draw(st.sampled_from(EDITS))(log, at, to)
    if data.draw(st.booleans()):
        changed = renumbered(changed)
    if changed == log:
        return
    fault = verify_log(changed, pinned=[pinned], history=beside).fault
    first = next((n for n, (a, b) in enumerate(zip(log, changed, strict=False)) if a != b), min(len(log), len(changed)))
    if [each.content for each in changed[:size]] == [each.content for each in log]:
        assert fault is None or fault.position >= first
        return
    assert fault is not None
    assert fault.vouched <= first
    assert fault.position <= first <= fault.last or fault.kind is FaultKind.SHORT


# --- a saved log --------------------------------------------------------------------------------------------------


def test_a_saved_log_is_read_as_it_was_written() -> None:
    lines = [saved.to_line(each.position, each.content, each.openings) for each in LOG]
    read = list(saved.entries([*lines, '{"from":20,"to":25}']))
    assert read == [dataclasses.replace(each, leaf=None) for each in LOG]
    assert verify_log(read, pinned=[CLEAN]).fault is None


NO_LINE = {
    "empty": "",
    "cut": "{",
    "a-list": "[]",
    "null": "null",
    "no-members": "{}",
    "no-event": '{"position":0}',
    "position-true": '{"position":true,"event":"x"}',
    "event-a-number": '{"position":0,"event":1}',
    "surrogate": '{"position":0,"event":"\\ud800"}',
    "opening-a-number": '{"position":0,"event":"x","openings":[1]}',
    "deep": "[" * 99999,
}


@pytest.mark.parametrize("line", NO_LINE.values(), ids=NO_LINE)
def test_what_is_no_line_of_a_saved_log_is_refused_by_its_number(line: str) -> None:
    good = saved.to_line(0, LOG[0].content)
    with pytest.raises(saved.SavedLogInvalid, match="line 2"):
        list(saved.entries([good, line]))
