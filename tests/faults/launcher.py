"""`broker`, started so that it can be made to fail: `python -m tests.faults.launcher serve ...`.

The commands are the real ones and so is everything they compose; around a few functions stand kill points, and the
store's connection can be told to fail. Nothing of this is in the product.
"""

import asyncio
import functools
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from broker.store.approval_items import ChangeApproval
from tests.faults.points import KeyPoint, Orders, Point

FOLDER_VARIABLE = "FAULTS_FOLDER"
# A file in the folder: the store does not wait for its disk.
CARELESS = "careless"
READ_ONLY, IO_ERROR, IO_ERROR_AFTER = "read-only", "I/O error", "I/O error after the commit"

_OF_EVENT = {
    "credential.granted": "exchange",
    "approval.requested": "hold",
    "approval.approved": "approve",
    "approval.denied": "deny",
    "revocation.made": "revoke",
    "task.begun": "begin_task",
    "task.ended": "end_task",
    "override.imposed": "impose_override",
    "credential.redeemed": "redeem",
    "usage.accepted": "report",
    "outcome.reported": "report",
    "task.narrowed": "narrow_task",
    "task.resumed": "resume_task",
    "task.drifted": "drift",
    "revocation.lifted": "lift",
    "override.lifted": "lift_override",
    "approval.withdrawn": "withdraw_approval",
}
_OF_WRITE = {
    "AddGrant": "exchange",
    "OpenApproval": "hold",
    "AddRevocation": "revoke",
    "AddTask": "begin_task",
    "EndTask": "end_task",
    "AddOverride": "impose_override",
    "AddRedemption": "redeem",
    "AddReport": "report",
    "NarrowTask": "narrow_task",
    "ResumeTask": "resume_task",
    "AddDrifted": "drift",
    "LiftRevocation": "lift",
    "LiftOverride": "lift_override",
}
_OF_STATE = {"approved": "approve", "denied": "deny", "withdrawn": "withdraw_approval"}
_OF_ACTION = {
    "broker.revoke": "revoke",
    "broker.task.begin": "begin_task",
    "broker.task.end": "end_task",
    "broker.redeem": "redeem",
    "broker.outcome.report": "report",
}
_OF_RESPONSE = {
    "ExchangeResponse": "exchange",
    "RevokeResponse": "revoke",
    "BeginTaskResponse": "begin_task",
    "EndTaskResponse": "end_task",
    "RedeemResponse": "redeem",
    "ApproveResponse": "approve",
    "DenyResponse": "deny",
    "ReportResponse": "report",
}
_OF_OPERATION = {"report_outcomes": "report", "lift_revocation": "lift"}
# What the issuer is asked over its port.
VERBS = (
    *("exchange", "redeem", "report", "approve", "deny", "withdraw_approval"),
    *("begin_task", "narrow_task", "end_task", "resume_task"),
    *("revoke", "lift", "impose_override", "lift_override"),
)
# What the orders to end where keys change are given for.
KEYS = "keys"


def wrap(
    owner: Any,
    name: str,
    *,
    before: Callable[..., object] | None = None,
    after: Callable[..., object] | None = None,
) -> None:
    """Call `before` with the arguments of a function first, and `after` with its answer and its arguments."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def plain(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before(*args, **kwargs)
        answer = original(*args, **kwargs)
        if after is not None:
            after(answer, *args, **kwargs)
        return answer

    @functools.wraps(original)
    async def waiting(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before(*args, **kwargs)
        answer = await original(*args, **kwargs)
        if after is not None:
            after(answer, *args, **kwargs)
        return answer

    setattr(owner, name, waiting if asyncio.iscoroutinefunction(original) else plain)


def put_points_in_the_door(orders: Orders) -> None:
    """Put kill points between the bytes and the port."""
    from broker.server import reception  # noqa: PLC0415 -- each process loads its own half

    def verb(call: Any) -> str:
        operation: str = call.method.operation
        return _OF_OPERATION.get(operation, operation)

    for asking in ("ask", "ask_first"):
        wrap(
            reception.Reception,
            asking,
            before=lambda _, call, __: orders.at(Point.DOOR_RECEIVED, verb(call)),
            after=lambda _, __, call, ___: orders.at(Point.DOOR_ANSWERED, verb(call)),
        )
    wrap(
        reception,
        "_serialise",
        after=lambda _, message: orders.at(Point.DOOR_ENCODED, _OF_RESPONSE.get(type(message).__name__, "")),
    )


def verb_of(write: Any) -> str:
    """Return the verb whose write this is; empty when that of none."""
    if isinstance(write, ChangeApproval):
        return _OF_STATE.get(write.approval.state.value, "")
    return _OF_WRITE.get(type(write).__name__, "")


def put_points_in_the_issuer(orders: Orders) -> None:
    """Put kill points between the link and the store."""
    from broker.issuer import local, server  # noqa: PLC0415 -- each process loads its own half
    from broker.operations import attempt, exchange  # noqa: PLC0415
    from broker.store.sqlite import SqliteStore, limits, log, writes  # noqa: PLC0415

    for verb in VERBS:
        wrap(local.LocalIssuer, verb, before=lambda *_, verb=verb: orders.at(Point.ISSUER_RECEIVED, verb))
    wrap(exchange.Exchange, "_identify", after=lambda *_: orders.at(Point.IDENTIFIED, "exchange"))
    wrap(exchange, "decide", after=lambda *_: orders.at(Point.DECIDED, "exchange"))
    wrap(
        attempt.Attempt,
        "allowed",
        after=lambda _, __, ___, action, ____: orders.at(Point.DECIDED, _OF_ACTION.get(action, "")),
    )
    wrap(exchange.Exchange, "_credential", after=lambda *_: orders.at(Point.SIGNED, "exchange"))

    def written(_: object, __: object, done: Sequence[object], ___: object) -> None:
        for write in done:
            orders.at(Point.HALF_WRITTEN, verb_of(write))

    wrap(limits, "charge", before=lambda *_: orders.at(Point.HALF_CHARGED, "exchange"))
    wrap(writes, "apply", after=written)
    group: list[str] = []

    def appended(_: object, __: object, ___: object, entries: Sequence[Any]) -> None:
        group[:] = {_OF_EVENT.get(json.loads(entry.content)["type"], "") for entry in entries}
        for verb in group:
            orders.at(Point.BEFORE_COMMIT, verb)

    def committed(*_: object) -> None:
        for verb in group:
            orders.at(Point.AFTER_COMMIT, verb)

    wrap(log, "append", after=appended)
    wrap(SqliteStore, "commit", before=lambda *_: group.clear(), after=committed)
    wrap(
        server._Link,
        "_answer",
        after=lambda _, __, frame: orders.at(Point.BEFORE_ANSWER, frame.WhichOneof("body")),
    )


def put_points_where_keys_change(orders: Orders) -> None:
    """Put kill points between a new key's file and the end of an old one's."""
    from broker.credential import source  # noqa: PLC0415 -- each process loads its own half
    from broker.store.sqlite import SqliteStore, log, writes  # noqa: PLC0415

    wrap(source.Signers, "make", after=lambda *_: orders.at(KeyPoint.FILE_WRITTEN, KEYS))
    wrap(source.Signers, "forget", after=lambda *_: orders.at(KeyPoint.FILE_REMOVED, KEYS))
    wrap(source, "_overwrite", after=lambda *_: orders.at(KeyPoint.OVERWRITTEN, KEYS))
    group: list[str] = []

    def written(_: object, __: object, done: Sequence[object], ___: object) -> None:
        if any(type(write).__name__ == "PutKey" for write in done):
            orders.at(KeyPoint.HALF_WRITTEN, KEYS)

    def appended(_: object, __: object, ___: object, entries: Sequence[Any]) -> None:
        group[:] = [KEYS for entry in entries if json.loads(entry.content)["type"] == "key.changed"][:1]
        for verb in group:
            orders.at(KeyPoint.BEFORE_COMMIT, verb)

    def committed(*_: object) -> None:
        for verb in group:
            orders.at(KeyPoint.AFTER_COMMIT, verb)

    wrap(writes, "apply", after=written)
    wrap(log, "append", after=appended)
    wrap(SqliteStore, "commit", before=lambda *_: group.clear(), after=committed)


def let_the_store_fail(orders: Orders) -> None:
    """Make every connection to a store one that fails as ordered."""

    class Failing(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            fault = orders.fault()
            super().execute(f"PRAGMA query_only = {'ON' if fault == READ_ONLY else 'OFF'}")
            if sql == "COMMIT" and fault in (IO_ERROR, IO_ERROR_AFTER):
                if fault == IO_ERROR_AFTER:
                    super().execute(sql)
                raise sqlite3.OperationalError("disk I/O error")
            if sql == "PRAGMA synchronous = FULL" and (orders.folder / CARELESS).exists():
                sql = "PRAGMA synchronous = OFF"
            return super().execute(sql, parameters)

    setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Failing))  # noqa: B010 -- typed as it is not


def restart_at_once() -> None:
    """Start what has died again after 0.1 s each time, so that many deaths fit into one test."""
    from broker.supervisor import child  # noqa: PLC0415

    child.LONGEST_DELAY = child.FIRST_DELAY  # type: ignore[misc]


def start_halves_by_this_module() -> None:
    """Have the supervisor start the two halves with their kill points."""
    from broker.cli import serve  # noqa: PLC0415
    from broker.supervisor import supervise  # noqa: PLC0415

    def ours(config_path: Path | None, **_: object) -> int:
        argv = [sys.executable, "-m", "tests.faults.launcher"]
        return supervise(config_path, argv_for=lambda role: [*argv, f"_{role}"])

    serve.supervise = ours  # type: ignore[attr-defined]


def main() -> None:
    """Run one of the broker's commands."""
    role = "embedded" if "--embedded" in sys.argv else sys.argv[1]
    orders = Orders(folder=Path(os.environ[FOLDER_VARIABLE]), role=role)
    (orders.folder / f"{role}.pid").write_text(str(os.getpid()))
    if role in ("_door", "embedded"):
        put_points_in_the_door(orders)
    if role in ("_issuer", "embedded"):
        put_points_in_the_issuer(orders)
        put_points_where_keys_change(orders)
        let_the_store_fail(orders)
    if role == "serve":
        restart_at_once()
        start_halves_by_this_module()
    from broker.cli import broker  # noqa: PLC0415

    broker.main(prog_name="broker")


if __name__ == "__main__":
    main()
