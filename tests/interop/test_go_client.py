"""A client in another language: generated Go and go-spiffe, on a real SPIRE, against broker and validator."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.build import environment
from tests.interop.workloads import GoStage, Journal, kill
from tests.polling import eventually
from tests.spire.stage import ORDERS, READ

# A build with cold caches is part of the first test.
pytestmark = [pytest.mark.spire, pytest.mark.timeout(900)]

SUPPORT = "spiffe://example.org/agent/support-assistant"
WHOLESALE = "spiffe://example.org/agent/wholesale-assistant"
SECURITY = "spiffe://example.org/operator/security"
REFUND = READ | {"action": "order.refund"}


# --- the program itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["go", "vet", "./..."], ["go", "test", "-timeout=60s", "./..."]], ids=["vet", "test"]
)
def test_the_go_code_is_good(program: Path, command: list[str]) -> None:
    client = program.parents[1] / "tests" / "interop"
    done = subprocess.run(command, cwd=client, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_go_code_is_formatted(program: Path) -> None:
    client = program.parents[1] / "tests" / "interop"
    found = subprocess.run(["gofmt", "-l", "."], cwd=client, env=environment(), capture_output=True, check=True)
    assert found.stdout == b""


# --- exchange ------------------------------------------------------------------------------------------------------


async def test_an_exchange_gives_a_credential_and_a_refusal_its_reason(go: GoStage) -> None:
    granted = await go.as_(SUPPORT, READ)
    assert granted["policies"] == ["order-readers-may-look-up-orders"]
    assert granted["credential"].startswith("cred_")
    refused = await go.as_(SUPPORT, REFUND)
    assert refused == {
        "refused": "TASK_REQUIRED",
        "next_step": "Writes need a task: BeginTask, then name it.",
        "sentence": "I have to open a task for this first.",
    }


async def test_several_intents_over_one_stream_have_an_answer_each(go: GoStage) -> None:
    asked = {"do": "exchange_many", "intents": [READ, REFUND, READ]}
    first, second, third = (await go.as_(SUPPORT, asked))["answers"]
    assert second["refused"] == "TASK_REQUIRED"
    assert first["credential"].startswith("cred_")
    assert third["credential"] not in {first["credential"], ""}


async def test_a_lost_reply_is_asked_again_by_its_request_id(go: GoStage) -> None:
    asked = READ | {"request_id": "go-1"}
    granted = await go.as_(SUPPORT, asked)
    assert (await go.as_(SUPPORT, asked))["credential"] == granted["credential"]
    assert (await go.as_(SUPPORT, READ))["credential"] != granted["credential"]
    assert (await go.as_(SUPPORT, asked | {"resource": "order/1235"}))["refused"] == "REQUEST_ID_REUSED"


async def test_a_server_of_another_id_is_told_nothing(go: GoStage) -> None:
    stranger = await go.workload(SUPPORT, broker="spiffe://example.org/broker-two")
    answer = await stranger.ask(READ)
    assert "unexpected ID" in answer["failed"]
    assert (await go.as_(SUPPORT, READ))["credential"]
    await kill(stranger.process)


# --- our validator takes its token ---------------------------------------------------------------------------------


def calling(orders: str, credential: str, order: str = "1234") -> dict[str, Any]:
    return {"do": "call", "credential": credential, "address": orders, "order": order}


async def test_the_service_takes_the_token_for_what_it_covers_until_it_is_revoked(go: GoStage, orders: str) -> None:
    granted = (await go.as_(SUPPORT, READ))["credential"]
    call = calling(orders, granted)
    assert await go.as_(SUPPORT, call) == {"article": "coffee grinder", "price_cents": 8990}
    assert (await go.as_(SUPPORT, calling(orders, granted, "1235")))["refused"] == "TOKEN_SCOPE_EXCEEDED"
    assert (await go.as_(SECURITY, {"do": "revoke", "credential": granted}))["revoked"] == 1

    async def refused() -> str | None:
        reason: str | None = (await go.as_(SUPPORT, call)).get("refused")
        return reason

    assert await eventually(refused) == "TOKEN_REVOKED"
    other = (await go.as_(SUPPORT, READ))["credential"]
    assert "article" in await go.as_(SUPPORT, calling(orders, other))


async def test_the_token_in_other_hands_opens_nothing(go: GoStage, orders: str, tmp_path: Path) -> None:
    granted = (await go.as_(SUPPORT, READ))["credential"]
    left = {"credential": granted, "path": str(tmp_path / "left"), "audience": ORDERS}
    await go.as_(SUPPORT, left | {"do": "hand_over"})
    await go.as_(WHOLESALE, left | {"do": "take"})
    assert (await go.as_(WHOLESALE, calling(orders, granted)))["refused"] == "TOKEN_HOLDER_MISMATCH"
    assert "article" in await go.as_(SUPPORT, calling(orders, granted))


async def test_a_credential_stays_with_the_svid_that_asked(go: GoStage, orders: str, tmp_path: Path) -> None:
    """An entry that changes makes SPIRE give a new SVID at once."""
    agent = (await go.workload(SUPPORT)).ask  # one without connections
    before = await agent(READ)
    await asyncio.to_thread(go.of, SUPPORT, ttl=1800)

    async def renewed() -> dict[str, Any] | None:
        answer = await agent(READ)
        return answer if answer["thumbprint"] != before["thumbprint"] else None

    after = await eventually(renewed)
    assert "article" in await agent(calling(orders, before["credential"]))
    assert "article" in await agent(calling(orders, after["credential"]))
    moved = {"credential": before["credential"], "path": str(tmp_path / "moved"), "audience": ORDERS}
    await agent(moved | {"do": "hand_over"})
    assert (await agent(moved | {"do": "take"}))["thumbprint"] == after["thumbprint"]
    assert (await agent(calling(orders, before["credential"])))["refused"] == "TOKEN_HOLDER_MISMATCH"


# --- streams -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def busy(go: GoStage) -> AsyncIterator[None]:
    """Exchange again and again, so that the log grows."""
    enough = asyncio.Event()

    async def exchanging() -> None:
        while not enough.is_set():
            assert "credential" in await go.as_(WHOLESALE, READ)

    task = asyncio.create_task(exchanging())
    try:
        yield
    finally:
        enough.set()
        await task


async def revoked_at(go: GoStage, credential: str) -> int:
    made = await go.as_(SECURITY, {"do": "revoke", "credential": credential})
    return int(made["position"])


async def test_audit_goes_on_after_kills_and_a_restart_of_the_broker(go: GoStage, tmp_path: Path) -> None:
    journal = Journal(path=tmp_path / "journal")
    for _ in range(3):
        reached = max(journal.positions(), default=-1)
        follower = await go.follow(SECURITY, "audit", journal)
        async with busy(go):
            await journal.reaches(reached + 20)
            await kill(follower)
        with journal.path.open("a") as file:
            file.write('{"from":')  # what a kill in the middle of a line leaves
    follower = await go.follow(SECURITY, "audit", journal)
    await journal.reaches(await revoked_at(go, (await go.as_(SUPPORT, READ))["credential"]))
    await go.restart_broker()  # under an open stream
    await journal.reaches(await revoked_at(go, (await go.as_(SUPPORT, READ))["credential"]))
    assert follower.returncode is None
    messages = journal.messages()
    assert [message["from"] for message in messages] == [0, *(message["to"] for message in messages[:-1])]
    assert journal.positions() == list(range(messages[-1]["to"]))


async def test_a_filtered_stream_has_ranges_without_a_gap(go: GoStage, tmp_path: Path) -> None:
    journal = Journal(path=tmp_path / "journal")
    follower = await go.follow(SECURITY, "audit", journal, "credential.granted")
    granted = (await go.as_(SUPPORT, READ))["credential"]
    revoked = await revoked_at(go, granted)
    await journal.reaches(revoked)
    messages = journal.messages()
    assert [message["from"] for message in messages] == [0, *(message["to"] for message in messages[:-1])]
    assert 0 < len(journal.positions()) < revoked
    assert revoked not in journal.positions()
    await kill(follower)


async def test_a_cursor_of_another_view_is_refused_with_its_reason(go: GoStage, tmp_path: Path) -> None:
    journal = Journal(path=tmp_path / "journal")
    follower = await go.follow(SECURITY, "audit", journal, "credential.granted")
    await journal.reaches(0)
    await kill(follower)
    before = journal.messages()
    other = await go.follow(SECURITY, "audit", journal, "revocation.made")
    assert other.stdout is not None
    async with asyncio.timeout(60):
        assert b'"refused":"CURSOR_FOREIGN"' in await other.stdout.read()
        assert await other.wait() == 1
    assert journal.messages() == before


async def test_an_agent_hears_of_its_own_revocations_once_and_after_a_kill(go: GoStage, tmp_path: Path) -> None:
    journal = Journal(path=tmp_path / "journal")
    mine = [(await go.as_(SUPPORT, READ))["credential"] for _ in range(4)]
    other = (await go.as_(WHOLESALE, READ | {"resource": "order/8001"}))["credential"]
    await revoked_at(go, mine[0])
    follower = await go.follow(SUPPORT, "revocations", journal)

    async def begun() -> bool:
        return bool(journal.messages())

    await eventually(begun)
    await journal.reaches(await revoked_at(go, mine[1]))
    await kill(follower)
    await revoked_at(go, mine[2])
    await revoked_at(go, other)
    await go.follow(SUPPORT, "revocations", journal)
    await journal.reaches(await revoked_at(go, mine[3]))
    first, *later = journal.messages()
    assert mine[0] in first["snapshot"]
    assert other not in first["snapshot"]
    assert [message for message in later if message.get("snapshot")] == []
    assert journal.revoked() == mine[1:]
