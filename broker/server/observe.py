"""Observe: counters, one log line a call, trace ids. Never a value of a request; a peer's address is not logged."""

import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from structlog.typing import FilteringBoundLogger

from broker.errors import Refusal

_REMEMBERED_PEERS: Final = 16_384

# W3C Trace Context, section 3.2: version 00 has exactly these four fields; a later version may have more after them.
_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-.*)?"
)


def trace_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the trace id of the caller's traceparent; empty when there is none, several, or one that is not valid."""
    values = [value for key, value in metadata if key == "traceparent"]
    if len(values) != 1 or not isinstance(values[0], str):
        return ""
    found = _TRACEPARENT.fullmatch(values[0])
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["more"]):
        return ""
    if set(found["trace"]) == {"0"} or set(found["span"]) == {"0"}:
        return ""
    return found["trace"]


class Counters:
    """Counts since the start. Handshakes are counted on gRPC's threads, everything else on the door's loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handshakes = 0
        self._rotation_failures = 0
        self._connections = 0
        self._peers: OrderedDict[str, None] = OrderedDict()
        self._calls: Counter[str] = Counter()

    def handshake_begun(self) -> None:
        """Count a TLS handshake that began. Callable from any thread."""
        with self._lock:
            self._handshakes += 1

    def rotation_failed(self) -> None:
        """Count a new SVID or bundle that could not be handed to gRPC. Callable from any thread."""
        with self._lock:
            self._rotation_failures += 1

    def call_from(self, peer: str) -> None:
        """Count the connection when this is its first call; the newest connections are remembered by their address."""
        if peer in self._peers:
            self._peers.move_to_end(peer)
            return
        self._connections += 1
        self._peers[peer] = None
        if len(self._peers) > _REMEMBERED_PEERS:
            self._peers.popitem(last=False)

    def call_over(self, method: str, outcome: str) -> None:
        """Count a call by its method and gRPC code."""
        self._calls[f"{method} {outcome}"] += 1

    @property
    def handshakes_begun(self) -> int:
        """TLS handshakes that began."""
        return self._handshakes

    @property
    def rotation_failures(self) -> int:
        """Changes of SVID or bundles that gRPC did not get."""
        return self._rotation_failures

    @property
    def connections_with_a_call(self) -> int:
        """Connections of which a first call reached a handler."""
        return self._connections

    @property
    def calls(self) -> Mapping[str, int]:
        """Calls by "method outcome"."""
        return self._calls


class CallLog:
    """Writes one line for each call."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log

    def over(self, *, method: str, outcome: str, refusal: Refusal | None, seconds: float, request: str) -> None:
        """Write the line of a call that is over."""
        self._log.info(
            "call",
            method=method,
            status=outcome,
            reason=refusal.reason.name if refusal else "",
            decision=refusal.decision_id if refusal else "",
            milliseconds=round(seconds * 1000, 3),
            request=request,
        )

    def defect(self, *, method: str, request: str) -> None:
        """Write the traceback of the exception being handled; the caller is told the request's id only."""
        self._log.exception("defect", method=method, request=request)
