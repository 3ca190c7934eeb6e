"""A group of items, checked and written inside one transaction."""

import sqlite3
from collections.abc import Sequence

from broker.audit.entry import Entry
from broker.store.interface import Answer, Committed, Item, Rejected
from broker.store.sqlite import writes
from broker.store.sqlite.guards import first_refusal


def write_group(
    connection: sqlite3.Connection,
    items: Sequence[Item],
    size: int,
) -> tuple[Sequence[Answer], Sequence[Entry]]:
    """Check and write the items one after another, so that each meets what the ones before it did."""
    answers: list[Answer] = []
    entries: list[Entry] = []
    for item in items:
        position = size + len(entries)
        refusal = first_refusal(connection, item.guards)
        if refusal is not None:
            entry = item.refused(refusal) if item.refused else None
            at = None if entry is None else position
            answers.append(Rejected(reason=refusal.reason, position=at, detail=refusal.detail))
        else:
            revoked = tuple(writes.apply(connection, item.writes, position))
            entry = item.accepted(revoked) if item.accepted else None
            if entry is None and revoked:
                raise ValueError("a revocation without an event")
            answers.append(Committed(position=None if entry is None else position, revoked=revoked))
        if entry is not None:
            entries.append(entry)
    return answers, entries
