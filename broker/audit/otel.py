"""OpenTelemetry: an event as a log record in OTLP/JSON, for those whose tools collect that.

One line is one `LogsData` message of opentelemetry-proto with a single record, as OTLP's file exporter writes it and
a file receiver reads it. Where the semantic conventions have an attribute it is used; what is only ours begins with
`credential_broker.`. The body is the event, byte for byte. docs/formats/siem.md shows the map.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from broker.audit.ocsf import KINDS
from broker.audit.shown import Shown

PREFIX: Final = "credential_broker."
SCOPE: Final = "spiffe-credential-broker"
# Attributes of the semantic conventions, by the member that they hold.
CONVENTIONS: Final[Mapping[str, str]] = MappingProxyType({"reason": "error.type"})
# By OCSF's severity: unknown, informational, low, medium. The numbers are those of opentelemetry-proto.
_SEVERITIES: Final = ((0, ""), (9, "INFO"), (13, "WARN"), (17, "ERROR"))
# What the record holds elsewhere, and what only its body holds.
_LEFT_OUT: Final = frozenset({"v", "type", "at", "trace", "commitments"})
# Objects whose members are attributes of their own.
_OPENED_UP: Final = frozenset({"intent", "resource", "decision"})


def to_otel(event: Shown) -> dict[str, Any]:
    """Return an event as a LogsData message in JSON."""
    service = [{"key": "service.name", "value": {"stringValue": SCOPE}}]
    scope = {"scope": {"name": SCOPE}, "logRecords": [_record(event)]}
    return {"resourceLogs": [{"resource": {"attributes": service}, "scopeLogs": [scope]}]}


def _record(event: Shown) -> dict[str, Any]:
    kind = KINDS.get(event.type)
    number, text = _SEVERITIES[kind.severity if kind else 0]
    record: dict[str, Any] = {
        "timeUnixNano": str(event.microseconds * 1000),
        "eventName": f"{PREFIX}{event.members['type']}",
        "body": {"stringValue": event.text},
        "attributes": [{"key": key, "value": _value(value)} for key, value in _attributes(event)],
    }
    if number:
        record |= {"severityNumber": number, "severityText": text}
    if trace := event.members.get("trace"):
        record["traceId"] = trace  # in hexadecimal: OTLP/JSON departs from protobuf's own mapping there
    return record


def _attributes(event: Shown) -> Iterator[tuple[str, Any]]:
    yield f"{PREFIX}log.position", event.position
    for name, value in event.members.items():
        if name not in _LEFT_OUT:
            yield from _named(name, value)
    if event.peer:
        yield "client.address", event.peer.address
        if event.peer.port is not None:
            yield "client.port", event.peer.port
    for name, value in event.opened.items():
        if name != "source":
            yield f"{PREFIX}personal.{name}", value


def _named(name: str, value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - a JSON value
    if name.rpartition(".")[2] in _OPENED_UP and isinstance(value, dict):
        for inner, each in value.items():
            yield from _named(f"{name}.{inner}", each)
    else:
        yield CONVENTIONS.get(name, PREFIX + name), value


def _value(value: Any) -> dict[str, Any]:  # noqa: ANN401 - a JSON value
    """Return a JSON value as OTLP's AnyValue; 64-bit integers are text there."""
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case str():
            return {"stringValue": value}
        case list():
            return {"arrayValue": {"values": [_value(each) for each in value]}}
        case dict():
            return {"kvlistValue": {"values": [{"key": key, "value": _value(each)} for key, each in value.items()]}}
        case _:
            return {}
