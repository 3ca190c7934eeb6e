"""Log: the events' rows and the tail that must match them."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from broker.audit.entry import Entry
from broker.audit.tree import Frontier, leaf_hash
from broker.store.interface import StoreUnavailable

# The largest subtree that ends at each position of this stride is kept, so that a frontier is rebuilt from O(log n)
# rows and fewer leaves than the stride.
STRIDE: Final = 256


def read_tail(connection: sqlite3.Connection) -> Frontier:
    """Return the tail as it is recorded.

    Raises:
        StoreUnavailable: the tail is no tail.

    """
    row = connection.execute("SELECT size, frontier FROM log").fetchone()
    try:
        frontier = Frontier.from_bytes(row[1])
    except (TypeError, ValueError) as problem:
        raise StoreUnavailable("the log's tail is unreadable: the store is damaged") from problem
    if frontier.size != row[0]:
        raise StoreUnavailable("the log's tail contradicts itself: the store is damaged")
    return frontier


def verify_tail(connection: sqlite3.Connection, acknowledged: Frontier | None) -> Frontier:
    """Return the tail, proven to match the last events; in time that does not grow with the log.

    Args:
        connection: the store, just opened.
        acknowledged: the tail that this process last acknowledged; every entry below must still be there.

    Raises:
        StoreUnavailable: events or tail are damaged, or acknowledged entries are gone.

    """
    tail = read_tail(connection)
    (last,) = connection.execute("SELECT max(position) FROM event").fetchone()
    if tail.size != (0 if last is None else last + 1):
        raise StoreUnavailable("the log's tail does not end at its last event: the store is damaged")
    if _rebuild(connection, tail.size) != tail:
        raise StoreUnavailable("the log's tail does not match its last events: the store is damaged")
    if acknowledged is None:
        return tail
    if tail.size < acknowledged.size or _rebuild(connection, acknowledged.size) != acknowledged:
        raise StoreUnavailable("the store has lost entries that were acknowledged: was it restored from a backup?")
    return tail


def _rebuild(connection: sqlite3.Connection, size: int) -> Frontier:
    """Return the frontier at a size, from the subtrees and the last leaves below it."""
    nodes: list[bytes] = []
    start, width = 0, 1 << size.bit_length()
    while (width := width >> 1) >= STRIDE:
        if size & width:
            start += width
            row = connection.execute("SELECT hash FROM subtree WHERE position = ?", (start - 1,)).fetchone()
            if row is None:
                raise StoreUnavailable("a part of the log's tree is missing: the store is damaged")
            nodes.append(row[0])
    query = "SELECT position, content, leaf FROM event WHERE position >= ? AND position < ? ORDER BY position"
    rest = Frontier()
    for position, content, leaf in connection.execute(query, (start, size)):
        if position != start + rest.size or leaf_hash(content) != leaf:
            raise StoreUnavailable(f"the event at {start + rest.size} is missing or damaged")
        rest = rest.append(leaf)
    if rest.size != size - start:
        raise StoreUnavailable("the last events are missing: the store is damaged")
    return Frontier(size=size, nodes=(*nodes, *rest.nodes))


def append(connection: sqlite3.Connection, tail: Frontier, entries: Sequence[Entry]) -> Frontier:
    """Insert entries after the tail, record the new one, and return it."""
    events: list[tuple[int, bytes, bytes]] = []
    subtrees: list[tuple[int, bytes]] = []
    openings: list[tuple[int, str, bytes, bytes]] = []
    for entry in entries:
        position, leaf = tail.size, leaf_hash(entry.content)
        tail = tail.append(leaf)
        events.append((position, entry.content, leaf))
        if tail.size % STRIDE == 0:
            subtrees.append((position, tail.nodes[-1]))
        openings += [(position, each.field, each.value, each.salt) for each in entry.openings]
    connection.executemany("INSERT INTO event VALUES (?, ?, ?)", events)
    connection.executemany("INSERT INTO opening VALUES (?, ?, ?, ?)", openings)
    connection.executemany("INSERT INTO subtree VALUES (?, ?)", subtrees)
    connection.execute("UPDATE log SET size = ?, frontier = ?", (tail.size, tail.to_bytes()))
    return tail
