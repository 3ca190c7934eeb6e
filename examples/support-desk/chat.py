"""The chat that customers write to: it begins a task for the assistant, says for whom, and bounds it to their orders.

What a customer wrote stays here; the broker gets a digest of it. What waits for a customer's own word is shown to them
here, and their answer goes to the broker with the ID token that they signed in with. When the customer changes the
subject, the chat narrows the task: what the assistant still holds for the old subject is over.

SPIFFE_ENDPOINT_SOCKET says where the SPIRE agent answers, BROKER_ADDRESS and BROKER_ID which broker to ask.
"""

import asyncio
import os
from dataclasses import dataclass, field
from typing import Any

from agent import decoded, identity, refusals
from lines import answer

from broker.client import Approval, Session, connect
from broker.client.trail import trail_of
from broker.visible import rows, visible


@dataclass(slots=True, kw_only=True)
class Chat:
    """The front end's session with the broker, and who is signed in.

    Attributes:
        id_tokens: of whoever is signed in, by the name that the broker knows them by.

    """

    session: Session
    id_tokens: dict[str, str] = field(default_factory=dict, repr=False)

    async def signed_in(self, *, id_token: str) -> dict[str, Any]:
        """Take what a browser brings from the sign-in; the broker says whether it counts, now and each time."""
        with refusals():
            await self.session.approvals(identity_token=id_token)
        claims = decoded(id_token.split(".")[1])
        person = f"{claims['iss']}#{claims['sub']}"
        self.id_tokens[person] = id_token
        return {"person": person}

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

    async def shown_to(self, *, person: str) -> dict[str, Any]:
        """Return what waits for a customer's own word, as they see it."""
        waiting = await self.session.approvals(identity_token=self.id_tokens[person])
        return {"waiting": [_shown(each) for each in waiting]}

    async def confirm(self, *, person: str, approval: str, digest: str) -> dict[str, Any]:
        """Bring a customer's yes to what they were shown."""
        token = self.id_tokens[person]
        with refusals():
            answered = await self.session.approve(approval, digest=digest, identity_token=token)
        return {"state": answered.state}

    async def narrow(self, *, task: str, orders: list[str], reason: str) -> dict[str, Any]:
        """Let the task go on with fewer orders."""
        going = await self.session.narrow_task(task, resources=[("order", order) for order in orders], reason=reason)
        return {"revoked": going.revoked}


def _shown(approval: Approval) -> dict[str, Any]:
    """Return what a customer looks at; what an agent wrote cannot hide anything."""
    if approval.details is None:
        raise RuntimeError("it waits, and is not shown")
    intent = approval.details.intent
    return {
        "approval": approval.id,
        "wants": f"{intent.action} on {intent.resource.type} {visible(intent.resource.id)}",
        "parameters": ", ".join(f"{path} {value}" for path, value in rows(intent.parameters)),
        "digest": approval.details.digest,
    }


async def main() -> None:
    """Do what it is told until standard input ends."""
    async with connect(os.environ["BROKER_ADDRESS"], broker_id=os.environ["BROKER_ID"]) as session:
        chat = Chat(session=session)
        names = ("signed_in", "begin", "shown_to", "confirm", "narrow")
        await answer({name: getattr(chat, name) for name in names} | {"identity": identity})


if __name__ == "__main__":
    asyncio.run(main())
