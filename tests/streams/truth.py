"""The truth about a log: what there was to be told, worked out from its events alone, read from the file itself."""

import hashlib
import json
import sqlite3
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.streams.history import Content, Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a subscriber follows: the log or what a filter leaves of it, or the revocations of one reader."""

    stream: str
    reader: str
    kinds: tuple[str, ...] = ()
    tenant: str = ""

    @property
    def begins(self) -> int | None:
        """Where it begins without a cursor; None: with a snapshot."""
        return 0 if self.stream == "audit" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A credential that was given."""

    credential: str
    agent: str
    audience: str
    index: str
    task: str
    over: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A log, and what ended where.

    Attributes:
        events: position by position, each with its exact bytes.
        ended: the credentials that ended at a position.

    """

    events: Sequence[tuple[bytes, Mapping[str, Any]]]
    ended: Mapping[int, Sequence[Granted]]

    @classmethod
    def read(cls, database: Path) -> "Log":
        """Read the file of a store; nothing but its table of events is looked at."""
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT position, content FROM event ORDER BY position").fetchall()
        assert [position for position, _ in rows] == list(range(len(rows))), "the log itself has gaps"
        events = [(content, json.loads(content)) for _, content in rows]
        return cls(events=events, ended=dict(_endings([event for _, event in events])))

    def truth(self, view: View, *, until: int, known: Sequence[tuple[int, datetime]] = ()) -> Truth:
        """Return what there was to be told in a view, at least up to a position."""
        if view.stream == "audit":
            return Truth(size=until, contents=dict(self._matching(view)), known=known)
        name, wanted = _named_for(view.reader)
        ended = {at: [each for each in found if wanted(each)] for at, found in self.ended.items()}
        return Truth(
            size=until,
            contents={at: frozenset(name(each) for each in found) for at, found in ended.items() if found},
            over={name(each): each.over for found in ended.values() for each in found},
            known=known,
        )

    def _matching(self, view: View) -> Iterator[tuple[int, Content]]:
        for position, (content, event) in enumerate(self.events):
            if view.kinds and event["type"] not in view.kinds:
                continue
            if not view.tenant or event.get("tenant") == view.tenant:
                yield position, frozenset({leaf_of(content)})


def leaf_of(content: bytes) -> str:
    """Return the RFC 6962 leaf hash of an event."""
    return urlsafe_b64encode(hashlib.sha256(b"\0" + content).digest()).rstrip(b"=").decode()


def _named_for(reader: str) -> tuple[Callable[[Granted], str], Callable[[Granted], bool]]:
    """Return how a reader is told of a credential, and of which ones."""
    if "/service/" in reader:
        return (lambda each: each.index), (lambda each: each.audience == reader)
    return (lambda each: each.credential), (lambda each: each.agent == reader)


def _endings(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Sequence[Granted]]]:
    """Play the log: what each rule covered when it came, and had not ended or run out before."""
    live: dict[str, Granted] = {}
    for position, event in enumerate(events):
        if event["type"] == "credential.granted":
            live[event["credential"]] = _granted(event)
            continue
        covered = _covered(event)
        now = datetime.fromisoformat(event["at"])
        found = [each for each in live.values() if each.over > now and covered(each)]
        assert _indexes(found) == _indexes_told(event), f"{position} contradicts the grants before it"
        for each in found:
            del live[each.credential]
        if found:
            yield position, found


def _granted(event: Mapping[str, Any]) -> Granted:
    return Granted(
        credential=event["credential"],
        agent=event["spiffe_id"],
        audience=event["audience"],
        index=str(event["status_index"]),
        task=event.get("task", ""),
        over=datetime.fromisoformat(event["expires_at"]),
    )


def _covered(event: Mapping[str, Any]) -> Callable[[Granted], bool]:
    match event["type"], event.get("rule"):
        case "task.ended", _:
            return lambda each: each.task == event["task"]
        case "revocation.made", "credential":
            return lambda each: each.credential == event["name"]
        case "revocation.made", "task":
            return lambda each: each.task == event["name"]
        case "revocation.made", "agent":
            return lambda each: each.agent == event["name"]
        case _:
            return lambda _: False


def _indexes(ended: Sequence[Granted]) -> set[tuple[str, int]]:
    return {(each.audience, int(each.index)) for each in ended}


def _indexes_told(event: Mapping[str, Any]) -> set[tuple[str, int]]:
    ranges = event.get("status_indexes", {})
    return {
        (audience, index)
        for audience, found in ranges.items()
        for first, last in found
        for index in range(first, last + 1)
    }
