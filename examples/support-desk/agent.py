"""A small agent: before each tool call it declares what it is about to do, and calls with what it is given.

It holds no key and no password: SPIRE tells the broker and the service who it is. It is told what to do a line at a
time (`lines.py`), as it would be by a language model. `leak` is there so that the demonstration has something to steal.

SPIFFE_ENDPOINT_SOCKET says where the SPIRE agent answers, BROKER_ADDRESS and BROKER_ID which broker to ask.
"""

import asyncio
import json
import os
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from lines import Refused, answer
from orders.v1 import orders_pb2, orders_pb2_grpc
from shop import ORDERS

from broker.client import Credential, RefusedError, Session, StepUpRequired, Task, connect
from broker.client.errors import from_rpc
from broker.client.trail import trail_of
from broker.link.source import IdentitySource


@dataclass(slots=True, kw_only=True)
class Agent:
    """One agent: its session with the broker, where the orders service is, and what it holds."""

    session: Session
    service: str
    service_address: str = ""
    credentials: dict[str, Credential] = field(default_factory=dict)
    task: Task | str = ""
    calling: asyncio.Task[dict[str, Any]] | None = None
    waiting: asyncio.Task[dict[str, Any]] | None = None

    def channel(self, credential: Credential | None = None) -> grpc.aio.Channel:
        """Return a connection that only the orders service can answer."""
        return self.session.channel(self.service, self.service_address, credential=credential)

    def stub(self, credential: Credential | None = None) -> "orders_pb2_grpc.OrdersServiceAsyncStub":
        """Return the orders service."""
        return orders_pb2_grpc.OrdersServiceStub(self.channel(credential))

    async def ask(
        self,
        *,
        action: str,
        resource: list[str],
        purpose: str,
        parameters: dict[str, Any] | None = None,
        prompt: str = "",
        wait: float = 0.0,
    ) -> dict[str, Any]:
        """Declare an intent to the broker; keep the credential, and tell what it says but its signature.

        Of the prompt that led to it a digest goes along, for the audit log. `wait` is how many seconds a person has to
        approve it, where policy wants one.
        """
        try:
            credential = await self.session.exchange(
                action=action,
                resource=(resource[0], resource[1]),
                parameters=parameters,
                purpose=purpose,
                audience=self.service,
                task=self.task,
                trail=trail_of(prompt=prompt),
                wait=timedelta(seconds=wait) if wait else None,
            )
        except RefusedError as error:
            raise Refused(_told(error)) from None
        self.credentials[credential.id] = credential
        header, claims, _ = credential.token.reveal().split(".")
        return {
            "credential": credential.id,
            "policies": credential.policy_ids,
            "decision": credential.decision_id,
            "header": decoded(header),
            "claims": decoded(claims),
        }

    async def ask_people(self, **intent: Any) -> dict[str, Any]:  # noqa: ANN401  # as `ask`
        """Declare an intent that a person has to approve; return what to tell the user, and wait in the background."""
        try:
            await self.ask(**intent)
        except Refused as refusal:
            if refusal.members["reason"] != "STEP_UP_REQUIRED":
                raise
            # The same intent again is the same request: nobody is asked twice.
            self.waiting = asyncio.create_task(self.ask(**intent, wait=60.0))
            return refusal.members
        raise RuntimeError("nobody had to approve it")

    async def approved(self) -> dict[str, Any]:
        """Wait for the answer of the people; return what `ask` returns."""
        if self.waiting is None:
            raise RuntimeError("ask_people comes first")
        return await self.waiting

    async def join_task(self, *, task: str) -> dict[str, Any]:
        """Work in a task that the chat has begun for this agent."""
        self.task = task
        return {}

    async def begin_task(self, *, purpose: str) -> dict[str, Any]:
        """Begin the piece of work that writes belong to."""
        self.task = await self.session.begin_task(purpose=purpose)
        return {"task": self.task.id, "tenant": self.task.tenant}

    async def end_task(self) -> dict[str, Any]:
        """End it; its credentials end with it."""
        task, self.task = self.task, ""
        ending = await self.session.end_task(task)
        return {"revoked": ending.revoked}

    async def get_order(self, *, credential: str, order: str) -> dict[str, Any]:
        """Call the service with a credential."""
        held = self.credentials[credential]
        return await self.get_order_with((), order, held)

    async def get_order_with(
        self, metadata: tuple[tuple[str, str], ...], order: str, held: Credential | None = None
    ) -> dict[str, Any]:
        """Look an order up with a credential that is held, or with whatever the metadata says."""
        request = orders_pb2.GetOrderRequest(order_id=order)
        with refusals():
            found = await self.stub(held).GetOrder(request, metadata=metadata, timeout=10)
        return {"article": found.article, "price_cents": found.price_cents}

    async def refund(self, *, credential: str, order: str, amount_cents: int) -> dict[str, Any]:
        """Pay back with a credential."""
        held = self.credentials[credential]
        return await self.refund_with((), order, amount_cents, held)

    async def refund_with(
        self, metadata: tuple[tuple[str, str], ...], order: str, amount_cents: int, held: Credential | None = None
    ) -> dict[str, Any]:
        """Pay back with a credential that is held, or with whatever the metadata says."""
        request = orders_pb2.RefundOrderRequest(order_id=order, amount_cents=amount_cents)
        with refusals():
            paid = await self.stub(held).RefundOrder(request, metadata=metadata, timeout=10)
        return {"refunded_cents": paid.refunded_cents}

    async def change_address(self, *, credential: str, order: str, address: str) -> dict[str, Any]:
        """Send an order elsewhere with a credential."""
        request = orders_pb2.ChangeAddressRequest(order_id=order, address=address)
        with refusals():
            stub = orders_pb2_grpc.DeliveryServiceStub(self.channel(self.credentials[credential]))
            await stub.ChangeAddress(request, timeout=10)
        return {}

    async def refund_again(self, *, credential: str, order: str, amount_cents: int) -> dict[str, Any]:
        """Send a credential once more that was good once: a loop, a retry, or a thief in this very process."""
        bearer = (("authorization", f"Bearer {self.credentials[credential].token.reveal()}"),)
        return await self.refund_with(bearer, order, amount_cents)

    async def try_all_orders(self, *, credential: str) -> dict[str, Any]:
        """Try one credential on every order of the shop."""
        held = self.credentials[credential]
        return await self.try_all_with((), held)

    async def try_all_with(
        self, metadata: tuple[tuple[str, str], ...], held: Credential | None = None
    ) -> dict[str, Any]:
        """Try what `get_order_with` takes on every order; count what was opened, and each reason for a refusal."""
        opened: list[str] = []
        reasons: dict[str, int] = {}
        for order in ORDERS:
            try:
                found = await self.get_order_with(metadata, order, held)
            except Refused as refusal:
                reason = refusal.members["reason"]
                reasons[reason] = reasons.get(reason, 0) + 1
            else:
                opened += [order] if found["article"] == ORDERS[order].article else []
        return {"tried": len(ORDERS), "opened": opened, "reasons": reasons}

    async def leak(self, *, credential: str) -> dict[str, Any]:
        """Lose a credential: what a prompt injection or a careless log line would do."""
        return {"token": self.credentials[credential].token.reveal()}

    async def keep_calling(self, *, credential: str, order: str) -> dict[str, Any]:
        """Go on calling with a credential in the background, until it is refused; return after the first answer."""
        first = await self.get_order(credential=credential, order=order)
        self.calling = asyncio.create_task(self._call_until_refused(credential, order))
        return first

    async def refused_at(self) -> dict[str, Any]:
        """Wait for that refusal: how many calls came through before, and when it arrived (CLOCK_MONOTONIC, ns)."""
        if self.calling is None:
            raise RuntimeError("keep_calling comes first")
        return await asyncio.wait_for(self.calling, 30)

    async def _call_until_refused(self, credential: str, order: str) -> dict[str, Any]:
        accepted = 0
        while True:
            try:
                await self.get_order(credential=credential, order=order)
            except Refused as refusal:
                return {"at": time.monotonic_ns(), "accepted": accepted, **refusal.members}
            accepted += 1

    async def reach(self, *, service_address: str) -> dict[str, Any]:
        """Be told where the orders service listens."""
        self.service_address = service_address
        return {}

    def handlers(self) -> dict[str, Any]:
        """Return what this agent can be told to do."""
        names = (
            "ask", "ask_people", "approved", "begin_task", "join_task", "end_task", "get_order", "refund",
            "change_address", "refund_again", "try_all_orders", "leak", "keep_calling", "refused_at", "reach",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names} | {"identity": identity}


async def identity() -> dict[str, Any]:
    """Tell who SPIRE says this process is."""
    source = await IdentitySource.open(socket=None, spiffe_id=None, hint=None, timeout=30)
    try:
        own = source.identity()
        return {
            "spiffe_id": str(own.spiffe_id),
            "not_after": own.not_after.isoformat(),
            "thumbprint": own.thumbprint,
            "program": _program(),
            "trusts": sorted(source.bundles().authorities),
        }
    finally:
        source.close()


def _program() -> str:
    return str(Path("/proc/self/exe").readlink())


@contextmanager
def refusals() -> Iterator[None]:
    """Turn a service's refusal into ours; whatever else happens stays what it is."""
    try:
        yield
    except RefusedError as error:
        raise Refused(_told(error)) from None
    except grpc.aio.AioRpcError as error:  # of a channel that sends no credential by itself
        found = from_rpc(error, connection=None)
        if isinstance(found, RefusedError):
            raise Refused(_told(found)) from None
        raise


def _told(error: RefusedError) -> dict[str, Any]:
    return {
        "reason": getattr(error.reason, "name", error.reason),
        "sentence": error.sentence,
        "next_step": error.next_step or str(error).partition(": ")[2],
        "policies": error.policy_ids,
        "decision": error.decision_id,
        "approval": error.approval_id if isinstance(error, StepUpRequired) else "",
    }


def decoded(part: str) -> dict[str, Any]:
    """Return what a part of a token says, without asking whether it is true."""
    found: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


async def main(service: str) -> None:
    """Do what it is told until standard input ends."""
    async with connect(os.environ["BROKER_ADDRESS"], broker_id=os.environ["BROKER_ID"]) as session:
        await answer(Agent(session=session, service=service).handlers())


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main("spiffe://example.org/service/orders"))
