"""Events as OCSF: every type has its class, and each class what the schema requires of it.

REQUIRED is what https://schema.ocsf.io/1.5.0 marks as required for the classes and objects that are used, and its
"at least one of" constraints; written down here by hand, and only as far as it is used.
"""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from broker.audit.event import Event
from broker.audit.ocsf import _CALLS, _KEY_STATES, KINDS, to_ocsf
from broker.audit.ocsf_schema import SCHEMA
from tests.unit.audit.siem import ACCEPTED, IDS, event_of, future, shown

PAGE = Path(__file__).resolve().parents[3] / "docs" / "formats" / "siem.md"
TYPES = {kind.TYPE for kind in get_args(Event)}

BASE = {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}
REQUIRED: dict[int, set[str]] = {
    0: BASE,
    3003: BASE | {"user"},
    3004: BASE | {"entity"},
    6002: BASE | {"app"},
    6003: BASE | {"actor", "api", "src_endpoint"},
}
AT_LEAST_ONE: dict[int, set[str]] = {3003: {"privileges", "groups", "iam_roles"}}
ACTIVITIES: dict[int, set[int]] = {
    0: {0, 99},
    3003: {0, 1, 2, 3, 99},
    3004: {*range(14), 99},
    6002: {*range(9), 99},
    6003: {*range(5), 99},
}
# Objects by the attribute that holds them: what is required in each, and of what one is.
OBJECTS: dict[str, tuple[set[str], set[str]]] = {
    "metadata": ({"product", "version"}, set()),
    "product": (set(), {"name", "uid"}),
    "app": (set(), {"name", "uid"}),
    "actor": (set(), {"process", "user", "invoked_by", "session", "app_name", "app_uid", "iam_role"}),
    "user": (set(), {"account", "name", "uid"}),
    "api": ({"operation"}, set()),
    "service": (set(), {"name", "uid"}),
    "request": ({"uid"}, set()),
    "entity": (set(), {"name", "uid"}),
    "policy": (set(), {"name", "uid"}),
    "src_endpoint": (set(), {"ip", "uid", "name", "hostname", "svc_name"}),
    "dst_endpoint": (set(), {"ip", "uid", "name", "hostname", "svc_name"}),
}
TEXTS = {"activity_name", "category_name", "class_name", "type_name", "severity", "status", "message", "raw_data",
         "comment", "status_code", "status_detail"}  # fmt: skip
INTEGERS = {"activity_id", "category_uid", "class_uid", "severity_id", "status_id", "time", "type_uid", "count", "port",
            "sequence", "expiration_time", "type_id"}  # fmt: skip
OF_BASE = TEXTS | {"metadata", "unmapped", "time", "count", "activity_id", "category_uid", "class_uid", "severity_id",
                   "status_id", "type_uid"}  # fmt: skip
OWN: dict[int, set[str]] = {
    0: set(),
    3003: {"actor", "user", "privileges", "session", "src_endpoint", "dst_endpoint"},
    3004: {"actor", "entity", "src_endpoint", "comment"},
    6002: {"app"},
    6003: {"actor", "api", "src_endpoint"},
}


def faults(found: dict[str, Any]) -> list[str]:
    """Return in what an object is no event of the schema."""
    uid = found["class_uid"]
    told = [f"{name} is missing" for name in REQUIRED[uid] if name not in found]
    told += [f"{name} is unknown in {uid}" for name in found if name not in OF_BASE | OWN[uid]]
    if uid in AT_LEAST_ONE and not AT_LEAST_ONE[uid] & set(found):
        told.append(f"none of {AT_LEAST_ONE[uid]}")
    if found["activity_id"] not in ACTIVITIES[uid]:
        told.append("activity_id")
    if found["type_uid"] != uid * 100 + found["activity_id"] or found["category_uid"] != uid // 1000:
        told.append("type_uid or category_uid")
    if found["severity_id"] not in {*range(7), 99} or found["status_id"] not in {0, 1, 2, 99}:
        told.append("severity_id or status_id")
    return told + in_objects({name: value for name, value in found.items() if name != "unmapped"})


def in_objects(members: dict[str, Any]) -> list[str]:
    told: list[str] = []
    for name, value in members.items():
        if name in TEXTS and not (isinstance(value, str) and value):
            told.append(f"{name} is no text")
        if name in INTEGERS and type(value) is not int:
            told.append(f"{name} is no integer")
        if name in OBJECTS:
            required, one_of = OBJECTS[name]
            told += [f"{name}.{each} is missing" for each in required - set(value)]
            told += [f"{name} has none of {one_of}"] if one_of and not one_of & set(value) else []
        for inner in value if isinstance(value, list) else [value]:
            told += in_objects(inner) if isinstance(inner, dict) else []
    return told


@pytest.mark.parametrize("personal", [True, False], ids=["personal", "not"])
@pytest.mark.parametrize("vector", ACCEPTED, ids=IDS)
def test_an_event_is_one_of_the_schema(vector: dict[str, Any], personal: bool) -> None:
    found = to_ocsf(shown(vector, personal=personal))
    assert faults(found) == []
    assert found["class_uid"] != 0 or vector["type"] == "refusals.suppressed"
    assert found["raw_data"] == vector["content"]
    assert json.loads(json.dumps(found)) == found
    metadata = found["metadata"]
    assert (metadata["version"], metadata["event_code"], metadata["sequence"]) == (SCHEMA, vector["type"], 7)


def test_the_judge_sees_what_is_wrong() -> None:
    good = to_ocsf(event_of("credential.granted"))
    for name in sorted(REQUIRED[3003] - {"class_uid", "activity_id", "severity_id", "type_uid", "category_uid"}):
        assert faults({key: value for key, value in good.items() if key != name}) != [], name
    assert faults(good | {"privileges": None, "more": 1}) != []
    assert faults(good | {"activity_id": 9}) != []
    assert faults(good | {"type_uid": 300309}) != []
    assert faults(good | {"user": {}}) != []
    assert faults(good | {"time": "now"}) != []


def test_every_type_has_a_class() -> None:
    assert set(KINDS) == TYPES
    assert {each["type"] for each in ACCEPTED} == TYPES, "a vector for every type"


def test_time_is_in_milliseconds() -> None:
    found = to_ocsf(event_of("broker.started"))
    assert found["time"] == 1795262400000  # 2026-11-21T12:00:00Z
    assert found["metadata"]["original_time"] == "2026-11-21T12:00:00.000000Z"


def test_a_grant_says_who_may_do_what_where_until_when() -> None:
    event = event_of("credential.granted")
    found = to_ocsf(event)
    assert found["user"]["uid"] == event.members["spiffe_id"]
    assert found["privileges"] == [event.members["intent"]["action"]]
    assert found["dst_endpoint"] == {"svc_name": event.members["audience"]}
    assert found["session"]["uid"] == event.members["credential"]
    assert found["session"]["expiration_time"] > found["time"]
    policies = [each["policy"]["uid"] for each in found["actor"]["authorizations"]]
    assert policies == event.members["decision"]["policies"]
    assert found["metadata"]["tenant_uid"] == event.members["tenant"]
    assert found["unmapped"]["intent"]["resource"] == event.members["intent"]["resource"]


def test_a_refusal_says_why() -> None:
    found = to_ocsf(event_of("exchange.refused"))
    assert (found["status_id"], found["api"]["operation"], found["activity_name"]) == (2, "exchange", "Create")
    assert found["status_code"] == found["api"]["response"]["error"] == event_of("exchange.refused").members["reason"]
    assert {each["decision"] for each in found["actor"]["authorizations"]} == {"Denied"}
    unknown = next(each for each in ACCEPTED if each["id"] == "request-refused-unknown-caller")
    found = to_ocsf(shown(unknown, personal=True))
    assert found["actor"]["user"] == {"name": "unverified"}
    assert found["src_endpoint"] == {"svc_name": "unverified", "ip": "192.0.2.9", "port": 1}


def test_an_event_of_the_future_is_a_base_event() -> None:
    for event in (future(), future('{"at":"2026-11-21T12:00:00.000001Z","type":"credential.granted","v":2}')):
        found = to_ocsf(event)
        assert faults(found) == []
        assert (found["class_uid"], found["activity_id"], found["type_uid"]) == (0, 99, 99)
        assert (found["activity_name"], found["severity_id"]) == (event.members["type"], 0)
    assert to_ocsf(future())["unmapped"] == {"more": {"a": [1]}, "personal": {"text": "why"}}


@pytest.mark.parametrize("vector", ACCEPTED, ids=IDS)
def test_personal_values_stand_there_only_when_they_were_shown(vector: dict[str, Any]) -> None:
    event = shown(vector, personal=True)
    with_them, without = (json.dumps(to_ocsf(shown(vector, personal=each))) for each in (True, False))
    for name, value in event.opened.items():
        told = [json.dumps(value)]
        if name == "source" and event.peer:
            told.append(json.dumps(event.peer.address))
        assert any(each in with_them for each in told), name
        assert not any(each in without for each in told), name


# --- the page ------------------------------------------------------------------------------------------------------


def table() -> str:
    """Return the map as docs/formats/siem.md shows it."""
    by = {"exchange.refused": "by the call", "request.refused": "by the call", "stream.opened": "by the call"}
    lines = ["| event | class | activity | severity | status |", "|---|---|---|---|---|"]
    for name, kind in sorted(KINDS.items()):
        if isinstance(kind.activity, int):
            activity = f"{kind.of.activities.get(kind.activity) or kind.name} ({kind.activity})"
        else:
            activity = by.get(name, "by the state")
        severity = f"{to_ocsf(event_of(name))['severity']} ({kind.severity})"
        status = {1: "Success (1)", 2: "Failure (2)"}[kind.status]
        lines.append(f"| `{name}` | {kind.of.name} ({kind.of.uid}) | {activity} | {severity} | {status} |")
    return "\n".join(lines)


def pairs(named: dict[str, int], names: dict[int, str]) -> str:
    return ", ".join(f"`{name}` {names[number]} ({number})" for name, number in named.items())


def test_the_page_says_what_the_map_says() -> None:
    page = PAGE.read_text()
    assert table() in page, table()
    assert (line := pairs(dict(_CALLS), dict(KINDS["stream.opened"].of.activities))) in page.replace("\n", " "), line
    assert (line := pairs(dict(_KEY_STATES), dict(KINDS["key.changed"].of.activities))) in page.replace("\n", " "), line
    assert f"schema {SCHEMA}" in page
