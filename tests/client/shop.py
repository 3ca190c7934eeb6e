"""A chat as its developers run it: a session of the SDK with the chat's SVID, an agent's beside it, and customers.

Customers sign in at an issuer on loopback; what is held for them they confirm in the chat. The broker is the real one.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import broker.client
from broker.client import Approval, Credential, Session, StepUpRequired, Task
from broker.intent import digest
from broker.settings import Oidc
from tests.attacks.house import House, open_house
from tests.fakes.identity import IdentityKey, identity_token
from tests.fakes.oidc_issuer import OidcIssuer
from tests.fakes.workload_api import WorkloadApi
from tests.operations.world import BROKER, CHAT, ORDERS, SUPPORT

CLIENT, KATE, LIAM = "chat-client", "7001", "7002"
PAYOUT: dict[str, Any] = {
    "action": "customer.payout_change",
    "resource": ("customer", "c-77"),
    "parameters": {"account": "DE02120300000000202051"},
    "purpose": "customer-support",
    "audience": ORDERS,
}
_HELD = r'@step_up("{\"kind\": \"group\", \"group\": \"refund-approvers\", \"owners\": \"excluded\"}")'
_CONFIRMED = r'@step_up("{\"kind\": \"authentication\", \"max_age\": \"PT5M\"}")'


@dataclass(kw_only=True)
class Shop:
    """What a test has in hand.

    Attributes:
        house: the broker.
        issuer: where customers sign in, and the staff too.
        sockets: of the Workload APIs, by SPIFFE ID.
        chat: the front end's session, one for all its customers.
        agent: the assistant's.

    """

    house: House
    issuer: OidcIssuer
    sockets: Mapping[str, str]
    chat: Session
    agent: Session

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.house.door.port}"

    def token(self, subject: str = KATE, *, key: IdentityKey | None = None, **changes: Any) -> str:
        """The ID token of a customer who signed in a minute ago, by the broker's clock."""
        members = {"iss": self.issuer.url, "aud": CLIENT, "sub": subject} | changes
        return identity_token(key or self.issuer.keys[0], self.house.time(), **members)

    def at(self, seconds: int) -> int:
        """So many seconds from now, as claims have it."""
        return int(self.house.time().timestamp()) + seconds

    async def begun(self, subject: str = KATE, **more: Any) -> Task:
        """Begin a task for a customer, as the chat does."""
        return await self.chat.begin_task(
            purpose="customer-support",
            agent=SUPPORT,
            person=f"{self.issuer.url}#{subject}",
            asked_digest=digest(b"please change my account"),
            **more,
        )

    async def ask(self, task: Task, **more: Any) -> Credential:
        return await self.agent.exchange(**PAYOUT, task=task, **more)

    async def held(self, subject: str = KATE) -> tuple[Task, str]:
        """Let the agent ask for what is held, without waiting; return its task and the approval's id."""
        task = await self.begun(subject)
        try:
            await self.ask(task)
        except StepUpRequired as held:
            return task, held.approval_id
        raise AssertionError("it was not held")

    async def shown(self, approval: str, subject: str = KATE) -> Approval:
        return await self.chat.approval(approval, identity_token=self.token(subject))


def signing_in(url: str) -> Callable[[dict[str, str]], dict[str, str]]:
    """Return the change of the example bundle with which the chat's customers confirm payout changes."""
    customers = f'customers = [{{ front_end = "{CHAT}", issuer = "{url}", audience = "{CLIENT}" }}]\n'

    def change(texts: dict[str, str]) -> dict[str, str]:
        kind, held = 'name = "customer-case"\n', texts["writes.cedar"]
        assert kind in texts["entities.toml"]
        assert _HELD in held
        return {
            "entities.toml": texts["entities.toml"].replace(kind, kind + customers),
            "writes.cedar": held.replace(_HELD, _CONFIRMED),
        }

    return change


@asynccontextmanager
async def open_shop(folder: Path) -> AsyncIterator[Shop]:
    """Build it all, and let it serve."""
    async with AsyncExitStack() as stack:
        issuer = OidcIssuer(folder=folder).start()
        stack.callback(issuer.stop)
        house = await stack.enter_async_context(open_house())
        configured = Oidc(issuer=issuer.url, ca_file=issuer.ca_file)
        house.settings = house.settings.model_copy(update={"oidc": (configured,)})
        await house.restart()
        await house.policy(signing_in(issuer.url))
        sockets, sessions = {}, {}
        for name, who in (("chat", CHAT), ("agent", SUPPORT)):
            api = WorkloadApi(house.folder / f"of-{name}.sock")
            api.give_svid(house.svid(who), house.home)
            stack.callback(api.start().stop)
            sockets[who] = api.socket
            sessions[who] = await stack.enter_async_context(
                broker.client.connect(f"127.0.0.1:{house.door.port}", broker_id=BROKER, socket=api.socket, timeout=20)
            )
        yield Shop(house=house, issuer=issuer, sockets=sockets, chat=sessions[CHAT], agent=sessions[SUPPORT])
