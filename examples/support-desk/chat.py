"""The chat that customers write to: it begins a task for the assistant, says for whom, and bounds it to their orders.

What a customer wrote stays here; the broker gets a digest of it. When the customer changes the subject, the chat
narrows the task: what the assistant still holds for the old subject is over.

SPIFFE_ENDPOINT_SOCKET says where the SPIRE agent answers, BROKER_ADDRESS and BROKER_ID which broker to ask.
"""

import asyncio
import os
from dataclasses import dataclass
from typing import Any

from agent import identity
from lines import answer

from broker.client import Session, connect
from broker.client.trail import trail_of


@dataclass(slots=True, kw_only=True)
class Chat:
    """The front end's session with the broker."""

    session: Session

    async def begin(
        self, *, agent: str, person: str, said: str, conversation: str, orders: list[str]
    ) -> dict[str, Any]:
        """Begin a task for an agent, about these orders and nothing else."""
        task = await self.session.begin_task(
            purpose="customer-support",
            agent=agent,
            person=person,
            asked_digest=trail_of(prompt=said).prompt_digest,
            conversation=conversation,
            resources=[("order", order) for order in orders],
        )
        return {"task": task.id, "tenant": task.tenant, "type": task.type}

    async def narrow(self, *, task: str, orders: list[str], reason: str) -> dict[str, Any]:
        """Let the task go on with fewer orders."""
        going = await self.session.narrow_task(task, resources=[("order", order) for order in orders], reason=reason)
        return {"revoked": going.revoked}


async def main() -> None:
    """Do what it is told until standard input ends."""
    async with connect(os.environ["BROKER_ADDRESS"], broker_id=os.environ["BROKER_ID"]) as session:
        chat = Chat(session=session)
        await answer({"identity": identity, "begin": chat.begin, "narrow": chat.narrow})


if __name__ == "__main__":
    asyncio.run(main())
