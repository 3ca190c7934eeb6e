"""Requests as bytes at every handler of the door: decoded, converted, sent over the port, refused or understood.

The first two bytes choose the RPC. The oracles: the wire format read by hand, and the port, which has to hear what the
door has understood. A defect (INTERNAL, or a traceback in the log) is a find.
"""

import asyncio
import atexit
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from broker.errors import Reason, Refusal
from broker.server.convert import parse
from broker.server.door import Door
from broker.server.limits import Limits
from broker.server.observe import Counters
from tests.attacks.entrances import (
    KEY,
    NO_CALL,
    NOBODYS_APPROVAL,
    NOBODYS_CREDENTIAL,
    NOBODYS_TASK,
    items,
    request,
)
from tests.attacks.inventory import methods
from tests.fuzz import oracle_wire
from tests.fuzz.port import heard, heard_exchange, plain

NOW: Final = datetime(2026, 11, 21, 12, tzinfo=UTC)
METHODS: Final = sorted(methods(), key=lambda method: method.full_name)
_KINDS: Final = {method.name: message_factory.GetMessageClass(method.input_type) for method in METHODS}


def _seed(method: str, **fields: Any) -> bytes:
    (kind,) = [_KINDS[each.name] for each in METHODS if each.name == method]
    return _name(method) + kind(**fields).SerializeToString()


def _name(method: str) -> bytes:
    """What stands for a method: of its name, so that kept inputs keep their meaning when methods are added."""
    return (zlib.crc32(method.encode()) & 0xFFFF).to_bytes(2, "big")


_AGENT: Final = "spiffe://example.org/a"
SEEDS: Final = (
    *(_name(method.name) for method in METHODS),
    _seed("Exchange", intent=request(parameters='{"amount": 1}', on_behalf_of="a customer").intent, request_id="r1"),
    _seed("Exchange", intent=request(task_id=NOBODYS_TASK, sensitivity=3, risk=1).intent),
    _seed("ExchangeStream", items=items(request(), request(parameters='{"a":[1,{"b":"c"}]}')).items),
    _seed("BeginTask", purpose="customer-support", tenant="retail", boundary={"actions": ["order.read"]}),
    _seed("EndTask", task_id=NOBODYS_TASK),
    _seed("NarrowTask", task_id=NOBODYS_TASK, boundary={"resources": [{"type": "order", "id": "1"}]}),
    _seed("NarrowTask", task_id=NOBODYS_TASK, boundary={"limits": '{"a":{"b":[1,"c"],"d":{"max":3}}}'}),
    _seed("Revoke", rule={"agent": _AGENT}, reason="r"),
    _seed("ImposeOverride", target={"action_class": 2}, reason="r"),
    _seed("ImposeOverride", target={"agent": _AGENT}, reason="r"),
    _seed("SubscribeAudit", filter={"kinds": ["a"], "tenant": "retail"}, follow=True),
    _seed("RotateKeys", use=1, reason="r", request_id="r1"),
    _seed("Redeem", credential_id=NOBODYS_CREDENTIAL, call_digest=NO_CALL, idempotency_key=KEY),
    _seed("Approve", approval_id=NOBODYS_APPROVAL, digest="sha-256:x", bypass={"seconds": 60}),
    _seed("ListApprovals", states=[1, 2], page_size=3, page_token="x"),
)


class _Ended(Exception):
    """What gRPC's abort raises."""


class _Log:
    """A log that takes no tracebacks."""

    def info(self, *_: Any, **__: Any) -> None:
        pass

    def exception(self, *words: Any, **more: Any) -> None:
        raise AssertionError((words, more))


class _Rpc:
    """One call: the bytes that came, and the status that it ends with."""

    def __init__(self, raw: bytes) -> None:
        self._raw: list[bytes] = [raw]
        self.status: Any = None

    async def read(self) -> Any:
        return self._raw.pop() if self._raw else grpc.aio.EOF

    async def write(self, _: Message) -> None:
        pass

    async def abort_with_status(self, status: Any) -> None:
        self.status = status
        raise _Ended

    def auth_context(self) -> Mapping[str, tuple[bytes, ...]]:
        return {"x509_pem_cert": (b"a leaf",), "ssl_tls_version": (b"TLSv1.3",)}

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def time_remaining(self) -> None:
        return None

    def done(self) -> bool:
        return False


class _Issuer:
    """Refuses everything, after it has heard over the port what the door understood."""

    async def exchange(self, calls: Any) -> Any:
        for call in calls:
            assert plain(heard_exchange(call)) == plain(call), call
        return [Refusal(Reason.POLICY_NOT_PERMITTED) for _ in calls]

    async def refuse(self, call: Any) -> Refusal:
        assert plain(heard("refuse", call)) == plain(call), call
        refusal: Refusal = call.refusal
        return refusal

    async def authenticate(self, _: Any) -> datetime:
        return NOW + timedelta(hours=1)

    def changes(self) -> Any:
        raise NotImplementedError

    def __getattr__(self, method: str) -> Any:
        async def ask(call: Any = None) -> Any:
            assert plain(heard(method, call)) == plain(call), call
            raise Refusal(Reason.POLICY_NOT_PERMITTED)

        return ask


class _Server:
    """Takes the handlers that the door would serve."""

    def __init__(self) -> None:
        self.handlers: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self.handlers += handlers

    def add_secure_port(self, *_: Any) -> int:
        return 1

    async def start(self) -> None:
        pass


class _Details:
    """Which method is called."""

    invocation_metadata = ()

    def __init__(self, method: str) -> None:
        self.method = method


_LOOP: Final = asyncio.new_event_loop()
atexit.register(_LOOP.close)


async def _handlers() -> dict[bytes, tuple[MethodDescriptor, Any]]:
    """Return what the door serves, by the bytes that stand for it."""
    server = _Server()
    ids = count()
    door = Door(
        issuer=_Issuer(),
        credentials=None,  # type: ignore[arg-type]  # nothing is served
        address="",
        admin_socket=None,
        counters=Counters(),
        log=_Log(),  # type: ignore[arg-type]  # what is written
        new_id=lambda prefix: f"{prefix}_{next(ids)}",
        clock=lambda: NOW,
        limits=Limits(),
    )
    made = grpc.aio.server
    grpc.aio.server = lambda **_: server  # type: ignore[assignment]  # until the handlers are here
    try:
        await door._start_server()
    finally:
        grpc.aio.server = made
    served: dict[bytes, tuple[MethodDescriptor, Any]] = {}
    for method in METHODS:
        details = _Details(f"/{method.containing_service.full_name}/{method.name}")
        found = [each for handler in server.handlers if (each := handler.service(details))]  # type: ignore[arg-type]  # has what is asked
        served |= {_name(method.name): (method, handler) for handler in found}
    return served


_HANDLERS: Final = _LOOP.run_until_complete(_handlers())
_NAMES: Final = sorted(_HANDLERS)


def one(data: bytes) -> None:
    """Send one request."""
    if len(data) < len(_NAMES[0]):
        return
    method, handler = _HANDLERS.get(data[:2]) or _HANDLERS[_NAMES[data[0] % len(_NAMES)]]
    raw = data[2:]
    _decoded(raw, _KINDS[method.name], method.input_type)
    reason = _LOOP.run_until_complete(_asked(handler, raw))
    assert reason != Reason.INTERNAL.name
    assert reason or method.name == "ExchangeStream", "served by an issuer that refuses everything"


def _decoded(raw: bytes, kind: type[Message], described: Descriptor) -> None:
    """What protobuf's library reads is all that stands there; what it does not read has another meaning or none."""
    try:
        wanted = oracle_wire.without_defaults(oracle_wire.read(raw, described), described)
    except oracle_wire.NotRead:
        wanted = None
    try:
        found = oracle_wire.said(parse(raw, kind))
    except Refusal as refusal:
        assert refusal.reason is Reason.REQUEST_MALFORMED
        assert wanted is None, raw
        return
    assert wanted == found, (wanted, found)


async def _asked(handler: Any, raw: bytes) -> str:
    rpc = _Rpc(raw)
    work = handler.unary_unary or handler.unary_stream or handler.stream_stream
    try:
        await work(raw, rpc)
    except _Ended:
        status = Status.FromString(dict(rpc.status.trailing_metadata)["grpc-status-details-bin"])
        info = ErrorInfo()
        for detail in status.details:
            detail.Unpack(info)
        return info.reason
    return ""
