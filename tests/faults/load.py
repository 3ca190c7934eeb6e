"""Load: all that clients and people do, without pause; whatever got no answer is asked again until it has one."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from uuid import UUID

from tests.faults.bundle import REFUNDS
from tests.faults.client import Client, supply_of
from tests.faults.ledger import Held
from tests.faults.requests import LARGE, LARGE_PARAMETERS, READ, REFUND, REFUND_PARAMETERS, failure_of, use_of
from tests.faults.spawned import Spawned
from tests.operations.world import SUPPORT
from tests.polling import eventually

EXCHANGERS = 3
# Service has to resume by itself; how soon is a figure, and this only ends a run in which it does not.
PATIENCE = 240.0


class Load:
    """Clients at work.

    Attributes:
        answers: how many steps were answered.
        going: whether to begin another round.

    """

    def __init__(self, broker: Spawned, seed: int) -> None:
        self.broker = broker
        self.answers = 0
        self.going = True
        self._dice = random.Random(seed)  # noqa: S311
        own = supply_of(broker.domain.svid(SUPPORT), broker.domain)
        # The same leaf for all: a request asked again must come from the leaf that asked first.
        self.clients = [Client.open(own, broker.port, broker.ledger) for _ in range(EXCHANGERS + 4)]

    async def run(self) -> None:
        """Work until told to stop; every round that was begun is finished."""
        *exchangers, tasks, refunds, approvals, _ = self.clients
        works = [self._exchange(client) for client in exchangers]
        people = self._ask_people(approvals)
        await asyncio.gather(*works, self._revoke(), self._work_in_tasks(tasks), self._refund(refunds), people)

    async def probe(self) -> None:
        """Wait until somebody who asks now gets a credential."""
        await self._until(partial(_held, self.clients[-1], self.broker.name("probe")))

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self.clients))

    async def _until(self, ask: Callable[[], Awaitable[str]]) -> None:
        """Ask until it is answered as it should be, though the load may have ended meanwhile."""
        why = ""

        async def answered() -> bool:
            nonlocal why
            why = await ask()
            return not why

        try:
            await eventually(answered, within=PATIENCE)
        except TimeoutError as problem:
            raise AssertionError(f"{ask} is answered {why}") from problem
        self.answers += 1

    async def _exchange(self, client: Client) -> None:
        while self.going:
            await self._until(partial(_held, client, self.broker.name("request")))

    async def _revoke(self) -> None:
        security, ledger = self.broker.security, self.broker.ledger
        while self.going:
            credential = self._dice.choice(ledger.held).credential
            await self._until(partial(security.revoke, credential))

    async def _begin(self, client: Client) -> str:
        task = ""

        async def begin() -> str:
            nonlocal task
            task, why = await client.begin(self.broker.name("conversation"))
            return why

        await self._until(begin)
        return task

    async def _work_in_tasks(self, client: Client) -> None:
        while self.going:
            task = await self._begin(client)
            # Its end may happen without an answer: then the task is over, and so is asking.
            await self._until(partial(_held, client, self.broker.name("in-task"), task=task))
            await self._until(partial(_ended, client, task))

    async def _refund(self, client: Client) -> None:
        """Refund as often as a task may, and once more; spend what was given, and say what became of it."""
        while self.going:
            task = await self._begin(client)
            names = [self.broker.name("refund") for _ in range(REFUNDS + 1)]
            # All at once: which of them is one too many is decided where it is recorded, or not at all.
            refund = partial(
                _held, client, task=task, action=REFUND, parameters=REFUND_PARAMETERS, over="LIMIT_REACHED"
            )
            await asyncio.gather(*(self._until(partial(refund, name)) for name in names))
            await self._until(partial(self._refused, client, task, "LIMIT_REACHED"))
            given = [each.credential for each in self.broker.ledger.held if each.request_id in names]
            if not given:  # revoked before anybody heard of them
                continue
            credential = given[0]
            await self._until(partial(self._spent, credential, f"a-key-of-{credential}"))
            use = self._uuid()
            await self._until(partial(self.broker.service.report, use_of(credential, use)))
            if self._dice.random() < 0.5:
                failure = failure_of(credential, use, self._uuid())
                await self._until(partial(self.broker.service.report, failure))

    async def _refused(self, client: Client, task: str, reason: str, *, approval: str = "", large: bool = False) -> str:
        """Ask for one too many; whatever is given then is a broken word."""
        action, parameters = (LARGE, LARGE_PARAMETERS) if large else (REFUND, REFUND_PARAMETERS)
        answer = await client.exchange(
            self.broker.name("beyond"), task=task, action=action, parameters=parameters, approval=approval
        )
        if isinstance(answer, Held):
            self.broker.ledger.broken.append(f"{answer.credential}: given, {reason} was due")
            return ""
        return "" if answer == reason else answer

    async def _spent(self, credential: str, key: str) -> str:
        answer = await self.broker.service.spend(credential, key)
        # Somebody may have revoked it first.
        return "" if isinstance(answer, int) or answer == "CREDENTIAL_REVOKED" else answer

    async def _ask_people(self, client: Client) -> None:
        """Ask for what people have to approve: mostly they do."""
        for number in count():
            if not self.going:
                return
            task = await self._begin(client)
            name = self.broker.name("large")
            approval = await self._hold(client, name, task)
            if number == 0 or (number > 1 and self._dice.random() < 0.25):  # each of both at once
                await self._until(partial(_said, self.broker.lead.deny, approval, "APPROVAL_DENIED"))
                await self._until(
                    partial(self._refused, client, task, "APPROVAL_DENIED", approval=approval, large=True)
                )
                continue
            await self._until(partial(_said, self.broker.lead.approve, approval, ""))
            large = partial(_held, client, task=task, action=LARGE, parameters=LARGE_PARAMETERS, approval=approval)
            rivals = (name, self.broker.name("rival"))
            await asyncio.gather(*(self._until(partial(large, each, over="APPROVAL_USED")) for each in rivals))
            await self._until(partial(self._refused, client, task, "APPROVAL_USED", approval=approval, large=True))

    async def _hold(self, client: Client, name: str, task: str) -> str:
        approval = ""

        async def hold() -> str:
            nonlocal approval
            approval = await client.hold(name, task)
            return "" if approval else "no approval to wait for"

        await self._until(hold)
        return approval

    def _uuid(self) -> str:
        return str(UUID(int=self._dice.getrandbits(128), version=4))


async def _held(  # noqa: PLR0913 -- what there is to ask for
    client: Client,
    name: str,
    *,
    task: str = "",
    action: str = READ,
    parameters: str = "{}",
    approval: str = "",
    over: str = "",
) -> str:
    """Ask for a credential; with `over`, that reason is as good an answer."""
    answer = await client.exchange(name, task=task, action=action, parameters=parameters, approval=approval)
    # What was granted unheard may have been revoked by the time it is asked for again.
    return "" if isinstance(answer, Held) or answer in ("CREDENTIAL_REVOKED", over) else answer


async def _ended(client: Client, task: str) -> str:
    why = await client.end(task)
    return "" if why == "TASK_ENDED" else why


async def _said(say: Callable[[str], Awaitable[str]], approval: str, before: str) -> str:
    why = await say(approval)
    return "" if why == before else why
