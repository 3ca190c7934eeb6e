"""Trace ids and counters."""

import pytest

from broker.server.observe import Counters, trace_id

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"

ROWS = {
    "version 00": (f"00-{TRACE}-{SPAN}-01", TRACE),
    "not sampled": (f"00-{TRACE}-{SPAN}-00", TRACE),
    "later version": (f"cc-{TRACE}-{SPAN}-01", TRACE),
    "later version with more": (f"cc-{TRACE}-{SPAN}-01-what-ever", TRACE),
    "version 00 with more": (f"00-{TRACE}-{SPAN}-01-x", ""),
    "version ff": (f"ff-{TRACE}-{SPAN}-01", ""),
    "capitals": (f"00-{TRACE.upper()}-{SPAN}-01", ""),
    "zero trace": (f"00-{'0' * 32}-{SPAN}-01", ""),
    "zero span": (f"00-{TRACE}-{'0' * 16}-01", ""),
    "short trace": (f"00-{TRACE[:-1]}-{SPAN}-01", ""),
    "long flags": (f"00-{TRACE}-{SPAN}-011", ""),
    "newline at the end": (f"00-{TRACE}-{SPAN}-01\n", ""),
    "space before": (f" 00-{TRACE}-{SPAN}-01", ""),
    "other digits": (f"00-{'٠' * 32}-{SPAN}-01", ""),
    "empty": ("", ""),
    "bytes": (b"00-" + TRACE.encode() + b"-" + SPAN.encode() + b"-01", ""),
}


@pytest.mark.parametrize(("value", "expected"), ROWS.values(), ids=ROWS.keys())
def test_a_trace_id_is_taken_from_a_valid_traceparent_alone(value: str | bytes, expected: str) -> None:
    assert trace_id([("a", "b"), ("traceparent", value)]) == expected


def test_two_are_none() -> None:
    one = ("traceparent", f"00-{TRACE}-{SPAN}-01")
    assert trace_id([one]) == TRACE
    assert trace_id([one, one]) == ""


def test_a_connection_is_counted_once() -> None:
    counters = Counters()
    for peer in ("a", "a", "b", "a"):
        counters.call_from(peer)
    assert counters.connections_with_a_call == 2


def test_remembered_connections_are_bounded() -> None:
    counters = Counters()
    for number in range(40_000):
        counters.call_from(f"ipv4:127.0.0.1:{number}")
        counters.call_from("ipv4:127.0.0.1:0")  # in use all the time, so never forgotten
    assert counters.connections_with_a_call == 40_000
    assert len(counters._peers) <= 16_384


def test_calls_are_counted_by_method_and_outcome() -> None:
    counters = Counters()
    for outcome in ("OK", "OK", "INTERNAL"):
        counters.call_over("/a/B", outcome)
    assert counters.calls == {"/a/B OK": 2, "/a/B INTERNAL": 1}
