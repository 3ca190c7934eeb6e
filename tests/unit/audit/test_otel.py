"""Events as OpenTelemetry log records: what OpenTelemetry's own messages read, and give back as it was."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData, SeverityNumber

from broker.audit.ocsf import KINDS
from broker.audit.otel import CONVENTIONS, PREFIX, to_otel
from broker.audit.shown import Shown
from tests.unit.audit.siem import ACCEPTED, IDS, event_of, future, shown

PAGE = Path(__file__).resolve().parents[3] / "docs" / "formats" / "siem.md"


def parsed(event: Shown) -> LogsData:
    """Read as a receiver of OTLP/JSON does: trace ids are hexadecimal there, all else is protobuf's own mapping."""
    written = json.loads(json.dumps(to_otel(event)))
    for record in written["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
        if "traceId" in record:
            record["traceId"] = b64encode(bytes.fromhex(record["traceId"])).decode()
    return json_format.ParseDict(written, LogsData())


def record_of(event: Shown) -> LogRecord:
    (resource,) = parsed(event).resource_logs
    (scope,) = resource.scope_logs
    (record,) = scope.log_records
    return record


def plain(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "array_value":
            return [plain(each) for each in value.array_value.values]
        case "kvlist_value":
            return {each.key: plain(each.value) for each in value.kvlist_value.values}
        case None:
            return None
        case kind:
            return getattr(value, kind)


def attributes(record: LogRecord) -> dict[str, Any]:
    return {each.key: plain(each.value) for each in record.attributes}


@pytest.mark.parametrize("personal", [True, False], ids=["personal", "not"])
@pytest.mark.parametrize("vector", ACCEPTED, ids=IDS)
def test_an_event_is_a_record_and_survives_a_round_trip(vector: dict[str, Any], personal: bool) -> None:
    event = shown(vector, personal=personal)
    data = parsed(event)
    assert json_format.Parse(json_format.MessageToJson(data), LogsData()) == data
    record = record_of(event)
    assert record.body.string_value == vector["content"]
    assert record.time_unix_nano == event.microseconds * 1000
    assert record.event_name == PREFIX + vector["type"]
    found = attributes(record)
    assert len(found) == len(record.attributes), "no key stands twice"
    assert found[f"{PREFIX}log.position"] == 7
    conventions = {*CONVENTIONS.values(), "client.address", "client.port"}
    assert all(key.startswith(PREFIX) or key in conventions for key in found)
    resource = data.resource_logs[0]
    assert {each.key: each.value.string_value for each in resource.resource.attributes} == {
        "service.name": "spiffe-credential-broker"
    }


def test_severity_goes_by_what_happened() -> None:
    numbers = {name: record_of(event_of(name)).severity_number for name in KINDS}
    assert numbers["credential.granted"] == SeverityNumber.SEVERITY_NUMBER_INFO
    assert numbers["exchange.refused"] == SeverityNumber.SEVERITY_NUMBER_WARN
    assert numbers["policy.rejected"] == SeverityNumber.SEVERITY_NUMBER_ERROR
    texts = {record_of(event_of(name)).severity_text for name in KINDS}
    assert texts == {"INFO", "WARN", "ERROR"}


def test_a_trace_id_is_the_callers() -> None:
    traced = next(each for each in ACCEPTED if json.loads(each["content"]).get("trace"))
    event = shown(traced, personal=False)
    assert record_of(event).trace_id.hex() == event.members["trace"]
    assert not record_of(event_of("broker.started")).trace_id


def test_what_is_within_an_intent_or_a_decision_is_an_attribute_of_its_own() -> None:
    event = event_of("credential.granted", personal=False)
    found = attributes(record_of(event))
    intent = event.members["intent"]
    assert found[f"{PREFIX}intent.action"] == intent["action"]
    assert found[f"{PREFIX}intent.resource.id"] == intent["resource"]["id"]
    assert found[f"{PREFIX}decision.policies"] == event.members["decision"]["policies"]
    assert found[f"{PREFIX}spiffe_id"] == event.members["spiffe_id"]
    refused = attributes(record_of(event_of("exchange.refused")))
    assert refused["error.type"] == event_of("exchange.refused").members["reason"]


@pytest.mark.parametrize("vector", ACCEPTED, ids=IDS)
def test_personal_values_stand_there_only_when_they_were_shown(vector: dict[str, Any]) -> None:
    personal = {each["field"]: json.loads(each["value"]) for each in vector["openings"]}
    found = attributes(record_of(shown(vector, personal=True)))
    assert {key.removeprefix(f"{PREFIX}personal.") for key in found if key.startswith(f"{PREFIX}personal.")} == (
        set(personal) - {"source"}
    )
    for name, value in personal.items():
        if name != "source":
            assert found[f"{PREFIX}personal.{name}"] == value
    if "source" in personal:
        assert found["client.address"] in personal["source"].replace("%5B", "[")
        if not personal["source"].startswith("spiffe://"):  # refusals of one that was known are counted by its ID
            assert personal["source"].endswith(f":{found['client.port']}")
    without = attributes(record_of(shown(vector, personal=False)))
    assert not any(key.startswith((f"{PREFIX}personal.", "client.")) for key in without)


def test_an_event_of_the_future_is_a_record_all_the_same() -> None:
    record = record_of(future())
    assert (record.event_name, record.severity_number) == (f"{PREFIX}duty.claimed", 0)
    assert attributes(record)[f"{PREFIX}more"] == {"a": [1]}


def test_the_page_names_the_conventions() -> None:
    page = PAGE.read_text()
    for member, attribute in CONVENTIONS.items():
        assert f"| `{member}` | `{attribute}` |" in page
    for name in ("client.address", "client.port", "service.name", f"{PREFIX}log.position", f"{PREFIX}personal."):
        assert f"`{name}" in page
