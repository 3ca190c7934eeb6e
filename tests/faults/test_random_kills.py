"""SIGKILL at random instants under load: exchanges, revocations and tasks at once.

FAULTS_KILLS sets how many (a long run: FAULTS_KILLS=1000 with --timeout=0), FAULTS_SEED repeats a run's choices.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from tests.faults.client import Client, supply_of
from tests.faults.ledger import Facts, Held, differences
from tests.faults.spawned import Spawned, spawn
from tests.operations.world import SUPPORT
from tests.polling import eventually

KILLS = int(os.environ.get("FAULTS_KILLS", "15"))
SEED = int(os.environ.get("FAULTS_SEED", "0")) or random.randrange(1, 1_000_000)  # noqa: S311
EXCHANGERS = 5
VICTIMS = ("issuer", "issuer", "door", "issuer", "all")


class Load:
    """Clients that ask without pause; whatever got no answer is asked again until it has one."""

    def __init__(self, broker: Spawned) -> None:
        self.broker = broker
        self.answers = 0
        self.going = True
        own = supply_of(broker.domain.svid(SUPPORT), broker.domain)
        # The same leaf for all: a request asked again must come from the leaf that asked first.
        self.clients = [Client.open(own, broker.port, broker.ledger) for _ in range(EXCHANGERS + 1)]

    async def run(self) -> None:
        works = [self._exchange(client) for client in self.clients[:-1]]
        await asyncio.gather(*works, self._revoke(), self._work_in_tasks(self.clients[-1]))

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self.clients))

    async def _until(self, ask: Callable[[], Awaitable[object]]) -> None:
        """Ask until there is an answer, though the load may have ended meanwhile."""

        async def answered() -> bool:
            return bool(await ask())

        await eventually(answered, within=60)
        self.answers += 1

    async def _exchange(self, client: Client) -> None:
        while self.going:
            await self._until(partial(_held, client, self.broker.name("request")))

    async def _revoke(self) -> None:
        security, ledger = self.broker.security, self.broker.ledger
        dice = random.Random(SEED)  # noqa: S311
        while self.going:
            credential = dice.choice(ledger.held).credential
            await self._until(partial(_revoked, security, credential))

    async def _work_in_tasks(self, client: Client) -> None:
        while self.going:
            await self._until(partial(_begun, client, self.broker.name("conversation")))
            task = self.broker.ledger.begun[-1]
            # Its end may happen without an answer: then the task is over, and so is asking.
            await self._until(partial(_held, client, self.broker.name("in-task"), task))
            await self._until(partial(_ended, client, task))


async def _held(client: Client, name: str, task: str = "") -> bool:
    answer = await client.exchange(name, task=task)
    return isinstance(answer, Held)


async def _begun(client: Client, conversation: str) -> bool:
    return bool((await client.begin(conversation))[0])


async def _ended(client: Client, task: str) -> bool:
    return await client.end(task) in ("", "TASK_ENDED")


async def _revoked(client: Client, credential: str) -> bool:
    return not await client.revoke(credential)


@pytest.mark.timeout(60 + 10 * KILLS)
async def test_no_kill_at_any_instant_parts_a_credential_from_its_event(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    print(f"FAULTS_SEED={SEED}")  # noqa: T201 -- what repeats the run
    dice = random.Random(SEED)  # noqa: S311
    kills: Counter[str] = Counter()
    async with spawn(tmp_path_factory.mktemp("b")) as broker:
        load = Load(broker)
        running = asyncio.create_task(load.run())
        try:
            # Rather more kills than a run that hits nothing.
            while kills.total() < KILLS or (not unanswered(broker.facts()) and kills.total() < 3 * KILLS):
                victim = VICTIMS[kills.total() % len(VICTIMS)]
                await kill_at_some_instant(broker, load, victim, dice)
                kills[victim] += 1
                assert differences(broker.ledger, broker.facts()) == []
            load.going = False
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await load.close()
        await broker.serves()
        facts = await broker.reopened()
    assert differences(broker.ledger, facts) == []
    found = unanswered(facts)
    print(  # noqa: T201 -- the figures of a long run
        f"{dict(kills)}; {len(broker.ledger.held)} tokens held, {len(broker.ledger.revocations)} revocations and"
        f" {len(broker.ledger.ended)} ends acknowledged, {len(broker.ledger.lost)} exchanges asked without an answer,"
        f" {len(found)} committed and unanswered; {len(facts.events)} events"
    )
    assert found, "no grant was committed and unanswered: the run proves nothing"


async def kill_at_some_instant(broker: Spawned, load: Load, victim: str, dice: random.Random) -> None:
    """Wait for a number of answers, then for a part of the time that one takes, and kill."""
    wanted = load.answers + dice.randrange(5, 60)

    async def answered() -> bool:
        return load.answers >= wanted

    await eventually(answered, within=60)
    await asyncio.sleep(dice.random() * 0.01)  # the instant is what is random here
    broker.kill(victim)
    if victim == "all":
        broker.start()


def unanswered(facts: Facts) -> set[str]:
    """Return the credentials that were committed before anybody heard of them, and were asked for again."""
    return {event["credential"] for event in facts.of("credential.reissued")}
