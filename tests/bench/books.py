"""Books: after a run each store is counted, so that no side was faster because it did something else than is said."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.bench.stage import JOURNAL, RECORD

# Where each server writes what it gave.
_STORES: Final = {
    "durable": ("durable/broker.sqlite3", "SELECT count(*) FROM granted"),
    "off": ("off/broker.sqlite3", "SELECT count(*) FROM granted"),
    "naive": ("naive.sqlite3", "SELECT count(*) FROM event"),
}


class BooksWrong(Exception):
    """A server did not write what its side of the comparison is said to write; the run says nothing."""


def check(folder: Path, given: Mapping[str, int]) -> None:
    """Hold each store against the credentials that the client got: one row each, and none where audit is off.

    Raises:
        BooksWrong: a store holds another number.

    """
    for name, written in _written(folder):
        expected = 0 if name == "off" else given[name]
        if written != expected:
            raise BooksWrong(f"{name}: {given[name]} credentials came, {written} were written, not {expected}")


def _written(folder: Path) -> Iterator[tuple[str, int]]:
    for name, (place, query) in _STORES.items():
        with closing(sqlite3.connect(f"file:{folder / place}?mode=ro", uri=True)) as connection:
            (written,) = connection.execute(query).fetchone()
        yield name, written
    if (folder / JOURNAL).exists():
        yield "go", (folder / JOURNAL).stat().st_size // RECORD
