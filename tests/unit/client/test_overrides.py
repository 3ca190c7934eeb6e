"""Overrides on the wire and as a session hands them out."""

import pytest

from broker.client.overrides import override_of, target_of
from broker.override import StopKind
from broker.v1 import override_pb2

STOPS = [
    (StopKind.AGENT, "spiffe://example.org/agent/a", ""),
    (StopKind.TENANT, "retail", ""),
    (StopKind.CLASS, "read", ""),
    (StopKind.CLASS, "write", "retail"),
    (StopKind.CLASS, "high-impact", ""),
    (StopKind.ACTION, "order.refund", "retail"),
    (StopKind.EVERYTHING, "", ""),
]


@pytest.mark.parametrize(("kind", "name", "tenant"), STOPS)
def test_what_is_stopped_is_shown_as_it_was_asked_for(kind: StopKind, name: str, tenant: str) -> None:
    shown = override_of(override_pb2.Override(override_id="ovr_1", target=target_of(kind, name, tenant)))
    assert (shown.id, shown.kind, shown.name, shown.within_tenant) == ("ovr_1", kind.value, name, tenant)


def test_no_class_is_made_up() -> None:
    with pytest.raises(ValueError, match="read, write, high-impact"):
        target_of(StopKind.CLASS, "writes", "")


def test_what_a_later_release_stops_is_shown_as_other() -> None:
    assert override_of(override_pb2.Override(override_id="ovr_1")).kind == "other"
    later = override_pb2.OverrideTarget(action_class=9)  # type: ignore[arg-type]
    assert override_of(override_pb2.Override(target=later)).name == "other"
