"""A store that cannot be written gives nothing, in time, and pretends nothing; work goes on when it can be written."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import pytest

from tests.faults.client import UNKNOWN
from tests.faults.launcher import IO_ERROR, IO_ERROR_AFTER, READ_ONLY
from tests.faults.ledger import Held, differences
from tests.faults.spawned import Spawned, spawn
from tests.polling import eventually


@contextmanager
def full(broker: Spawned) -> Iterator[None]:
    """Nothing can be written to any file, the log of the broker itself included."""
    broker.limit_files(0)
    try:
        yield
    finally:
        broker.limit_files(-1)


def failing(how: str) -> Callable[[Spawned], AbstractContextManager[None]]:
    @contextmanager
    def fault(broker: Spawned) -> Iterator[None]:
        broker.orders.fail_store(how)
        try:
            yield
        finally:
            broker.orders.fail_store("")

    return fault


@contextmanager
def moved_away(broker: Spawned) -> Iterator[None]:
    """The file is not where it was: what would be written to it would be gone."""
    aside = broker.database.rename(broker.database.with_name("aside"))
    try:
        yield
    finally:
        aside.rename(broker.database)


@contextmanager
def blocked(broker: Spawned) -> Iterator[None]:
    """Another process holds the file's write lock, and does not let go."""
    with closing(sqlite3.connect(broker.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


FAULTS = {
    "disk-full": full,
    "read-only": failing(READ_ONLY),
    "io-error": failing(IO_ERROR),
    "file-moved": moved_away,
    "blocked": blocked,
}


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Spawned]:
    async with spawn(tmp_path_factory.mktemp("b")) as spawned:
        yield spawned


async def _problem_of(begun: Awaitable[tuple[str, str]]) -> str:
    return (await begun)[1]


async def works(broker: Spawned) -> Held:
    """Ask until there is a credential; nobody mends the broker meanwhile."""
    name = broker.name("after")

    async def asked() -> Held | None:
        answer = await broker.agent.exchange(name)
        return answer if isinstance(answer, Held) else None

    return await eventually(asked, within=60)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_nothing_is_given_and_nothing_pretended_while_nothing_can_be_recorded(
    broker: Spawned, fault: Callable[[Spawned], AbstractContextManager[None]]
) -> None:
    held = await works(broker)
    processes = {role: broker.pid(role) for role in ("issuer", "door")}
    before = broker.facts()
    given = len(broker.ledger.held)
    requests = [broker.name("refused") for _ in range(6)]
    with fault(broker):
        answers = await asyncio.gather(
            *(broker.agent.exchange(name) for name in requests),
            broker.security.revoke(held.credential),
            _problem_of(broker.agent.begin(broker.name("conversation"))),
        )
    # UNKNOWN would mean that the deadline passed first.
    assert set(answers) == {"AUDIT_UNAVAILABLE"}
    assert len(broker.ledger.held) == given
    again = await works(broker)
    facts = broker.facts()
    assert differences(broker.ledger, facts) == []
    assert not set(requests) & set(facts.granted.values())
    assert facts.revocations == before.revocations
    assert held.credential not in facts.revoked
    assert {role: broker.pid(role) for role in processes} == processes, "it came back by a restart"
    # Now it is recorded, and in force.
    assert await broker.security.revoke(again.credential) == ""
    assert again.credential in broker.facts().revoked


async def test_a_caller_with_less_patience_than_the_lock_hears_in_time(broker: Spawned) -> None:
    await works(broker)
    given = len(broker.ledger.held)

    async def in_time() -> bool:
        """Hear of all of them; a busy machine may bring an answer too late, but not again and again."""
        requests = [broker.name("impatient") for _ in range(4)]
        asked = [broker.agent.exchange(name, deadline=0.5) for name in requests]
        answers = set(await asyncio.gather(*asked, broker.security.revoke("cred_0", deadline=0.5)))
        assert answers <= {"ISSUER_UNAVAILABLE", "AUDIT_UNAVAILABLE", UNKNOWN}
        return UNKNOWN not in answers

    with blocked(broker):
        await eventually(in_time)
    assert len(broker.ledger.held) == given
    await works(broker)
    assert differences(broker.ledger, broker.facts()) == []


async def test_a_commit_of_which_nobody_knows_whether_it_happened_gives_nothing_yet(broker: Spawned) -> None:
    held = await works(broker)
    name = broker.name("uncertain")
    with failing(IO_ERROR_AFTER)(broker):
        assert await broker.agent.exchange(name) == "AUDIT_UNAVAILABLE"
        assert await broker.security.revoke(held.credential) == "AUDIT_UNAVAILABLE"
    await works(broker)
    facts = broker.facts()
    assert differences(broker.ledger, facts) == []
    granted = facts.credential_of(name)
    assert granted is not None
    # Both stand. The grant is given to whoever asks for it again; the revocation errs on the safe side.
    again = await broker.agent.exchange(name)
    assert isinstance(again, Held)
    assert again.credential == granted
    assert held.credential in facts.revoked


async def test_the_store_opens_again_after_all_of_it(broker: Spawned) -> None:
    await broker.serves()
    assert differences(broker.ledger, await broker.reopened()) == []
