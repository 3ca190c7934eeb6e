"""A workload of its own, attested by the path of its interpreter: does what each line of its input says.

A line is a JSON object with "do" and the arguments of that verb; the answer is one line. Tokens never leave it.
"""

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc

from broker.client import Ask, BrokerError, RefusedError, Session, Unreachable, connect
from broker.credential.revocation import RuleKind
from broker.errors import Reason


async def exchange(session: Session, ask: dict[str, Any]) -> dict[str, Any]:
    credential = await session.exchange(**_intent(ask))
    return {
        "credential": credential.id,
        "thumbprint": credential.thumbprint,
        "policies": list(credential.policy_ids),
        "tenant": credential.tenant,
    }


async def exchange_for(session: Session, ask: dict[str, Any]) -> dict[str, Any]:
    """Exchange again and again for some seconds; count what happened, and the SVIDs it happened with."""
    loop = asyncio.get_running_loop()
    end = loop.time() + ask.pop("seconds")
    done, failed, thumbprints = 0, [], set()
    while loop.time() < end:
        try:
            thumbprints.add((await session.exchange(**_intent(ask))).thumbprint)
            done += 1
        except (RefusedError, Unreachable) as problem:
            failed.append(repr(problem))
        await asyncio.sleep(0.02)
    return {"done": done, "failed": failed, "thumbprints": sorted(thumbprints)}


@dataclass(kw_only=True)
class Calling:
    """Calls of a service that go on in the background, each with a credential for itself."""

    done: int = 0
    failed: list[str] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def run(self, session: Session, service: str, address: str) -> None:
        """Call without end."""
        from orders.v1 import orders_pb2, orders_pb2_grpc  # noqa: PLC0415 - only who calls a service has it

        ask = Ask(action="order.read", resource=("order", "1234"), purpose="customer-support")
        channel = session.channel(service, address, intents={"/orders.v1.OrdersService/GetOrder": lambda _: ask})
        stub = orders_pb2_grpc.OrdersServiceStub(channel)
        while True:
            try:
                await stub.GetOrder(orders_pb2.GetOrderRequest(order_id="1234"))
            except (BrokerError, grpc.aio.AioRpcError) as problem:
                self.failed.append(repr(problem))
                await asyncio.sleep(0.05)
            else:
                self.done += 1


CALLING = Calling()


async def begin_calls(session: Session, ask: dict[str, Any]) -> dict[str, Any]:
    """Begin to call a service, several calls at once."""
    CALLING.tasks += [
        asyncio.create_task(CALLING.run(session, ask["service"], ask["address"])) for _ in range(ask["at_once"])
    ]
    return {}


async def count(session: Session, ask: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """Say how many calls went well."""
    return {"done": CALLING.done}


async def calls(session: Session, ask: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """Say how the calls go; forget how they failed until now."""
    failed, CALLING.failed = CALLING.failed, []
    return {"done": CALLING.done, "failed": failed, "ended": [str(task) for task in CALLING.tasks if task.done()]}


async def end_calls(session: Session, ask: dict[str, Any]) -> dict[str, Any]:
    """Call no more."""
    for task in CALLING.tasks:
        task.cancel()
    await asyncio.gather(*CALLING.tasks, return_exceptions=True)
    CALLING.tasks.clear()
    return await calls(session, ask)


@dataclass(kw_only=True)
class Held:
    """A credential, and what calls with it."""

    stub: Any = None


HELD = Held()


async def hold(session: Session, ask: dict[str, Any]) -> dict[str, Any]:
    """Get a credential and keep it for `use`."""
    from orders.v1 import orders_pb2_grpc  # noqa: PLC0415 - as above

    address = ask.pop("address")
    credential = await session.exchange(**_intent(ask))
    HELD.stub = orders_pb2_grpc.OrdersServiceStub(session.channel(ask["audience"], address, credential=credential))
    return {"credential": credential.id}


async def use(session: Session, ask: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """Call with the credential that is held."""
    from orders.v1 import orders_pb2  # noqa: PLC0415 - as above

    try:
        request = orders_pb2.GetOrderRequest(order_id="1234")
        return {"article": (await HELD.stub.GetOrder(request)).article}
    except grpc.aio.AioRpcError as problem:
        return {"unreachable": f"{problem.code()}: {problem.details()}"}


async def begin_task(session: Session, ask: dict[str, Any]) -> dict[str, Any]:
    if "lifetime" in ask:
        ask["lifetime"] = timedelta(seconds=ask["lifetime"])
    task = await session.begin_task(**ask)
    return {"task": task.id, "tenant": task.tenant}


async def end_task(session: Session, ask: dict[str, Any]) -> dict[str, Any]:
    ending = await session.end_task(ask["task"])
    return {"revoked": ending.revoked}


async def revoke(session: Session, ask: dict[str, Any]) -> dict[str, Any]:
    ending = await session.revoke(RuleKind(ask["kind"]), ask["name"])
    return {"revoked": ending.revoked, "revocation": ending.revocation}


async def lift(session: Session, ask: dict[str, Any]) -> dict[str, Any]:
    await session.lift(ask["revocation"])
    return {}


async def audit(session: Session, ask: dict[str, Any]) -> dict[str, Any]:
    """Read the newest checkpoint, and then the whole log."""
    keys, checkpoint = await session.key_set(), await session.checkpoint()
    events: list[dict[str, Any]] = []
    async for message in session.subscribe_audit(forever=False, **ask):
        events += [{"position": event.position, "event": event.event.decode()} for event in message.events]
    return {"events": events, "key": keys.checkpoint_key, "note": checkpoint.note, "size": checkpoint.size}


async def revocations(session: Session, ask: dict[str, Any]) -> dict[str, Any]:
    """Follow revocations until this many have been heard of."""
    heard: list[dict[str, Any]] = []
    async for message in session.subscribe_revocations(cursor=ask.get("cursor", "")):
        heard += [{"rule": each.rule, "credentials": list(each.credential_ids)} for each in message.revoked]
        if len(heard) >= ask["count"]:
            return {"heard": heard, "cursor": message.cursor, "snapshot": message.HasField("snapshot")}
    raise AssertionError


VERBS = {
    verb.__name__: verb
    for verb in (
        exchange,
        exchange_for,
        begin_calls,
        count,
        calls,
        end_calls,
        hold,
        use,
        begin_task,
        end_task,
        revoke,
        lift,
        audit,
        revocations,
    )
}


def _intent(ask: dict[str, Any]) -> dict[str, Any]:
    kind, _, identifier = str(ask["resource"]).partition("/")
    return ask | {"resource": (kind, identifier)}


async def main() -> None:
    reader = asyncio.StreamReader(limit=2**20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with connect(os.environ["BROKER_ADDRESS"], broker_id=os.environ["BROKER_ID"]) as session:
        say({"ready": True})
        while line := await reader.readline():
            say(await answer(session, json.loads(line)))


def say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def answer(session: Session, ask: dict[str, Any]) -> dict[str, Any]:
    verb = VERBS[ask.pop("do")]
    try:
        return await verb(session, ask)
    except RefusedError as refusal:
        reason = refusal.reason.name if isinstance(refusal.reason, Reason) else refusal.reason
        return {"refused": reason, "policies": list(refusal.policy_ids), "sentence": refusal.sentence}
    except Unreachable as problem:
        return {"unreachable": str(problem)}


if __name__ == "__main__":
    asyncio.run(main())
