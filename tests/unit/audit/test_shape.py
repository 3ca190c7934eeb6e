"""Whatever a server calls an event is read, or is told to be none: shown, traced and exported without an exception."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from broker.audit.entry import PERSONAL, VERSION, Opening
from broker.audit.ocsf import to_ocsf
from broker.audit.otel import to_otel
from broker.audit.shape import MAX_DEPTH, EventMalformed, members_of, opened_of
from broker.audit.shown import Shown
from broker.audit.story import to_json
from broker.audit.trace import Finder, Gatherer, Wanted
from broker.audit.unaccounted import Accounting
from broker.cli.audit_story import draw
from broker.cli.audit_tail import _line
from tests.unit.audit.siem import ACCEPTED, IDS, openings_of, shown

NOW = "2026-11-21T12:00:00.000001Z"
NAMES = sorted({name for each in ACCEPTED for name in json.loads(each["content"])} | set(PERSONAL))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["task_1", "cred_1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*NAMES, "a"]), inner, max_size=3),
    max_leaves=6,
)


def everything(events: list[Shown]) -> None:
    """Do with events whatever any command does with them."""
    accounting = Accounting()
    for event in events:
        to_ocsf(event)
        to_otel(event)
        accounting.see(event)
        _line(event, [Opening(field=name, value=b'"x"', salt=b"") for name in event.opened])
    for found in accounting.open():
        found.to_json()
    names = {str(event.members.get(name)) for event in events for name in ("task", "credential", "transaction", "use")}
    for name in (*names, "a reference", "task_1", "appr_1"):
        finder = Finder(name)
        for event in events:
            finder.see(event)
        tell(finder.wanted(), events)
    every = frozenset(names)
    tell(Wanted(tasks=every, credentials=every, transactions=every, around=every), events)


def tell(wanted: Wanted, events: list[Shown]) -> None:
    gatherer = Gatherer(wanted)
    for event in events:
        gatherer.see(event)
    story = gatherer.story()
    json.dumps(to_json(story, NOW))
    Console(file=io.StringIO(), width=160).print(*draw(story, NOW), sep="\n")


@pytest.mark.parametrize("vector", ACCEPTED, ids=IDS)
@pytest.mark.parametrize("personal", [True, False])
def test_what_the_broker_writes_is_read(vector: dict[str, Any], personal: bool) -> None:
    everything([shown(vector, personal=personal)])


def test_all_of_them_together_are_a_story() -> None:
    everything([shown(vector, personal=True, position=number) for number, vector in enumerate(ACCEPTED)])


@st.composite
def lies(draw_: Callable[..., Any]) -> tuple[bytes, list[Opening]]:
    """Take an event, and change a few members of it, of what stands in those, or of what is opened."""
    vector = draw_(st.sampled_from(ACCEPTED))
    members = json.loads(vector["content"])
    for _ in range(draw_(st.integers(1, 3))):
        place = members
        while nested := [name for name, value in place.items() if isinstance(value, dict) and value]:
            if not draw_(st.booleans()):
                break
            place = place[draw_(st.sampled_from(nested))]
        name = draw_(st.sampled_from([*place, *NAMES]))
        if draw_(st.booleans()):
            place.pop(name, None)
        else:
            place[name] = draw_(VALUES)
    openings = openings_of(vector)
    if draw_(st.booleans()):
        value = json.dumps(draw_(VALUES)).encode()
        openings.append(Opening(field=draw_(st.sampled_from(sorted(PERSONAL))), value=value, salt=b""))
    return json.dumps(members).encode(), openings


@settings(max_examples=300, deadline=None)
@given(st.lists(lies(), min_size=1, max_size=4))
def test_a_lie_is_read_or_told(told: list[tuple[bytes, list[Opening]]]) -> None:
    events = []
    for number, (content, openings) in enumerate(told):
        try:
            events.append(Shown.read(number, content, openings))
        except EventMalformed as problem:
            assert f"event at {number} cannot be read" in str(problem)
    everything(events)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_anything_else_is_told(content: bytes) -> None:
    with pytest.raises(EventMalformed):
        Shown.read(1, content)


BAD = {
    "not text": b'{"at":"\xff"}',
    "cut off": b'{"at":"2026',
    "deeper than Python goes": b"[" * 100_000 + b"]" * 100_000,
    "too deep": b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
    "a number with a fraction": b'{"a":1.5}',
    "infinity": b'{"a":Infinity}',
    "a number beyond all bounds": b'{"a":' + b"9" * 5000 + b"}",
    "half a character": b'{"a":"\\ud800"}',
    "null": b'{"a":[null]}',
    "a list": b"[]",
    "no time": b'{"type":"task.begun","v":1}',
    "a day that is none": b'{"at":"2026-02-31T12:00:00.000001Z","type":"task.begun","v":1}',
    "a grant of nothing": b'{"at":"2026-11-21T12:00:00.000001Z","type":"credential.granted","v":1}',
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_told_without_what_it_holds(name: str) -> None:
    with pytest.raises(EventMalformed) as told:
        members_of(BAD[name])
    assert len(str(told.value)) < 80


def test_what_is_opened_has_a_shape_too() -> None:
    assert opened_of({"text": b'"why"', "parameters": b'{"a":1}'}) == {"text": "why", "parameters": {"a": 1}}
    for name, value in (
        ("text", b"1"),
        ("trail", b'{"prompt_reference":1}'),
        ("parameters", b"null"),
        ("source", b"[]"),
    ):
        with pytest.raises(EventMalformed):
            opened_of({name: value})


def test_a_later_version_needs_no_more_than_to_be_an_event() -> None:
    content = f'{{"at":"{NOW}","type":"credential.granted","v":{VERSION + 1}}}'
    assert Shown.read(1, content.encode()).type == ""
