"""A task's boundary stands outside the model: nothing of the task lies beyond it, whatever policy says."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from broker.audit.event import Opening
from broker.boundary import Boundary, Extent
from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.operations.calls import EndTaskCall
from broker.operations.task_calls import Continued, HeartbeatCall, NarrowTaskCall
from broker.scope import OneOf, Range
from tests.operations.limiting import decides
from tests.operations.world import ORDERS, SHARED, SUPPORT, WHOLESALE, World
from tests.polling import eventually

CHAT = "spiffe://example.org/service/chat"
CANCEL: dict[str, Any] = {"action": "order.cancel"}
REFUND: dict[str, Any] = {"action": "order.refund", "parameters": {"amount": 4200, "currency": "EUR"}}
ASKED = "sha-256:" + "A" * 43
RACES = 10_000
CERTAIN = 30  # tasks of each end, asked in before it and after it as well
A_TASK = 5
TURNS = 200


async def refused(awaitable: object) -> Reason:
    with pytest.raises(Refusal) as refusal:
        await awaitable  # type: ignore[misc]
    return refusal.value.reason


async def beat(world: World, task: str, who: str = SUPPORT) -> Continued:
    return await world.issuer.heartbeat_task(HeartbeatCall(context=world.context(who), task=task))


async def narrow(world: World, task: str, boundary: Boundary, who: str = SUPPORT) -> Continued:
    call = NarrowTaskCall(context=world.context(who), task=task, boundary=boundary, text="another subject")
    return await world.issuer.narrow_task(call)


async def cancel(world: World, task: str, who: str = SUPPORT) -> int:
    call = EndTaskCall(context=world.context(who), task=task, cancelled=True, text="not wanted any more")
    return (await world.issuer.end_task(call)).revoked


async def dead(world: World, who: str = SUPPORT) -> set[str]:
    page = await world.revocations(who)
    assert page.snapshot is not None
    return set(page.snapshot.credential_ids)


async def events(world: World, *kinds: str) -> list[dict[str, Any]]:
    return [json.loads(event.content) for event in await world.events(kinds=kinds)]


def edit(world: World, name: str, change: Callable[[str], str]) -> None:
    """Change a file of the bundle, and bring it into force."""
    path: Path = world.folder / "policy" / name
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))


async def changed(world: World, name: str, change: Callable[[str], str]) -> None:
    # In the thread that reads it, which so never reads half of it.
    await world.stored(lambda _: edit(world, name, change))
    await decides(world)


# --- beginning -----------------------------------------------------------------------------------------------------


async def test_a_task_that_names_no_type_takes_the_only_one_that_fits(world: World) -> None:
    task = await world.begin()
    assert task.type == "customer-case"
    assert task.boundary.actions is not None
    assert task.boundary.actions >= {"order.read", "order.refund"}
    assert (task.deadline - task.begun_at) <= timedelta(hours=8)
    (event,) = await events(world, "task.begun")
    assert (event["task_type"], event["agent"]) == ("customer-case", SUPPORT)
    assert "order.refund" in event["boundary"]["actions"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"type": "nothing"}, Reason.TASK_TYPE_REFUSED),
        ({"type": "wholesale-case"}, Reason.TASK_TYPE_REFUSED),
        ({"lifetime": timedelta(hours=9)}, Reason.TASK_DEADLINE_REFUSED),
        ({"boundary": Boundary(actions=frozenset({"order.delete"}))}, Reason.TASK_BOUNDARY_WIDER),
        ({"boundary": Boundary(resources=frozenset({Extent(type="invoice")}))}, Reason.TASK_BOUNDARY_WIDER),
        ({"boundary": Boundary(services=frozenset({CHAT}))}, Reason.TASK_BOUNDARY_WIDER),
        ({"boundary": Boundary(limits={"order.delete": {"x": Range(maximum=1)}})}, Reason.TASK_BOUNDARY_WIDER),
        ({"person": "Customer 42"}, Reason.REQUEST_INVALID),
    ],
    ids=["unknown-type", "anothers-type", "too-long", "action", "resource", "service", "limit", "person"],
)
async def test_a_task_never_begins_wider_than_its_type(world: World, changes: dict[str, Any], reason: Reason) -> None:
    assert await refused(world.begin(**changes)) is reason
    (event,) = await events(world, "request.refused")
    assert event["reason"] == reason.name
    assert (await world.begin(type="customer-case", lifetime=timedelta(hours=8))).type == "customer-case"


async def test_where_several_types_fit_one_must_be_named(world: World) -> None:
    def twice(text: str) -> str:
        start = text.index("[[task_type]]")
        first = text[start : text.index("[[task_type]]", start + 1)]
        return text + first.replace('"customer-case"', '"second-case"').replace('"order.refund", ', "")

    await changed(world, "golden.toml", lambda text: without_cases(text, "task = true"))
    await changed(world, "entities.toml", twice)
    assert await refused(world.begin()) is Reason.TASK_TYPE_REQUIRED
    second = await world.begin(type="second-case")
    assert (await world.refused(**REFUND, task=second.id)).reason is Reason.TASK_BOUNDARY_EXCEEDED
    await world.granted(**REFUND, task=(await world.begin(type="customer-case")).id)


# --- what lies outside ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("boundary", "outside", "inside"),
    [
        (Boundary(actions=frozenset({"order.cancel"})), REFUND, CANCEL),
        (
            Boundary(resources=frozenset({Extent(type="order", id="1234")})),
            CANCEL | {"resource": "order/1235"},
            CANCEL | {"resource": "order/1234"},
        ),
        (
            Boundary(resources=frozenset({Extent(type="order")})),
            {"action": "customer.read", "resource": "customer/7"},
            CANCEL | {"resource": "order/1235"},
        ),
        (
            Boundary(limits={"order.refund": {"amount": Range(maximum=4200)}}),
            REFUND | {"parameters": {"amount": 4201, "currency": "EUR"}},
            REFUND,
        ),
        (Boundary(limits={"order.refund": {"note": OneOf(values=("a",))}}), REFUND, CANCEL),
    ],
    ids=["action", "one-resource", "resource-type", "limit", "limited-and-not-there"],
)
async def test_what_lies_outside_is_refused_though_policy_permits_it(
    world: World, boundary: Boundary, outside: dict[str, Any], inside: dict[str, Any]
) -> None:
    narrowed, whole = await world.begin(boundary=boundary), await world.begin()
    refusal = await world.refused(**outside, task=narrowed.id)
    assert refusal.reason is Reason.TASK_BOUNDARY_EXCEEDED
    (event,) = await events(world, "exchange.refused")
    assert (event["reason"], event["task"]) == ("TASK_BOUNDARY_EXCEEDED", narrowed.id)
    await world.granted(**inside, task=narrowed.id)
    await world.granted(**outside, task=whole.id)


async def test_a_type_that_loses_an_action_takes_it_from_the_tasks_that_run(world: World) -> None:
    task = await world.begin()
    await world.granted(**REFUND, task=task.id)
    await changed(world, "golden.toml", without_refund_cases)
    await changed(
        world, "entities.toml", lambda text: text.replace('"order.cancel", "order.refund", ', '"order.cancel", ', 1)
    )
    assert (await world.refused(**REFUND, task=task.id)).reason is Reason.TASK_BOUNDARY_EXCEEDED
    await world.granted(**CANCEL, task=task.id)


def without_refund_cases(text: str) -> str:
    return without_cases(text, 'action = "order.refund"')


def without_cases(text: str, line: str) -> str:
    return "[[case]]".join(part for part in text.split("[[case]]") if line not in part)


# --- heartbeats ----------------------------------------------------------------------------------------------------


async def test_three_missed_heartbeats_end_the_task_and_nothing_else(world: World) -> None:
    silent, heard = await world.begin(heartbeat=timedelta(seconds=10)), await world.begin()
    of_silent = await world.granted(**CANCEL, task=silent.id)
    of_heard = await world.granted(**CANCEL, task=heard.id)
    world.time.ahead = timedelta(seconds=31)
    assert (await world.refused(**CANCEL, task=silent.id)).reason is Reason.TASK_HEARTBEAT_MISSED
    (event,) = await eventually(lambda: world.events(kinds=("task.ended",)))
    assert (json.loads(event.content)["cause"], json.loads(event.content)["revoked"]) == ("heartbeat", 1)
    assert await refused(beat(world, silent.id)) is Reason.TASK_HEARTBEAT_MISSED
    assert await dead(world) == {of_silent.grant.credential_id}
    assert of_heard.grant.credential_id not in await dead(world)
    await world.granted(**CANCEL, task=heard.id)


async def test_a_heartbeat_keeps_a_task_alive_until_its_deadline(world: World) -> None:
    task = await world.begin(heartbeat=timedelta(seconds=10), lifetime=timedelta(seconds=60))
    await world.without_chores()
    for seconds in (25, 50):
        world.time.ahead = timedelta(seconds=seconds)
        await beat(world, task.id)
        await world.granted(**CANCEL, task=task.id)
    world.time.ahead = timedelta(seconds=61)
    assert await refused(beat(world, task.id)) is Reason.TASK_DEADLINE_PASSED
    assert await events(world, "task.judged") == []


async def test_a_type_says_how_often_a_task_is_heard_of_at_the_least(world: World) -> None:
    await changed(
        world,
        "entities.toml",
        lambda text: text.replace('maximum_age = "PT8H"', 'maximum_age = "PT8H"\nheartbeat = "PT20S"', 1),
    )
    for asked, every in ((None, 20), (timedelta(minutes=1), 20), (timedelta(seconds=5), 5)):
        assert (await world.begin(heartbeat=asked)).heartbeat == timedelta(seconds=every)


async def test_a_heartbeat_ends_what_the_policy_in_force_would_not_give(world: World) -> None:
    task = await world.begin()
    refund, lookup = await world.granted(**REFUND, task=task.id), await world.granted(task=task.id)
    assert (await beat(world, task.id)).revoked == 0
    await changed(world, "golden.toml", without_refund_cases)
    await changed(
        world, "writes.cedar", lambda text: text.replace("parameters.amount > 5000", "parameters.amount > 4000")
    )
    assert (await beat(world, task.id)).revoked == 1
    assert await dead(world) == {refund.grant.credential_id}
    (event,) = await events(world, "task.judged")
    assert (event["reasons"], event["revoked"], event["task"]) == (["POLICY_FORBIDDEN"], 1, task.id)
    assert (await beat(world, task.id)).revoked == 0
    assert lookup.grant.credential_id not in await dead(world)


@pytest.mark.parametrize(
    ("edited", "change", "reason"),
    [
        (
            "entities.toml",
            lambda text: text.replace('"order.cancel", "order.refund", ', '"order.cancel", ', 1),
            "TASK_BOUNDARY_EXCEEDED",
        ),
        (
            "writes.cedar",
            lambda text: text.replace('{\\"min\\": 1, \\"max\\": 5000}', '{\\"min\\": 1, \\"max\\": 4000}'),
            "SCOPE_EMPTY",
        ),
    ],
    ids=["the type", "the scope"],
)
async def test_a_credential_is_judged_by_everything_that_would_refuse_it(
    world: World, edited: str, change: Callable[[str], str], reason: str
) -> None:
    task = await world.begin()
    await world.granted(**REFUND, task=task.id)
    await changed(world, "golden.toml", without_refund_cases)
    await changed(world, edited, change)
    assert (await beat(world, task.id)).revoked == 1
    (event,) = await events(world, "task.judged")
    assert event["reasons"] == [reason]


# --- narrowing -----------------------------------------------------------------------------------------------------


async def test_narrowing_ends_what_no_longer_fits_and_nothing_else(world: World) -> None:
    task, other = await world.begin(), await world.begin()
    fits = await world.granted(**CANCEL, task=task.id)
    unfit = await world.granted(**REFUND, task=task.id)
    elsewhere = await world.granted(**REFUND, task=other.id)
    going = await narrow(world, task.id, Boundary(actions=frozenset({"order.cancel"})))
    assert (going.revoked, going.task.boundary.actions) == (1, frozenset({"order.cancel"}))
    assert await dead(world) == {unfit.grant.credential_id}
    assert {fits.grant.credential_id, elsewhere.grant.credential_id}.isdisjoint(await dead(world))
    assert (await world.refused(**REFUND, task=task.id)).reason is Reason.TASK_BOUNDARY_EXCEEDED
    await world.granted(**CANCEL, task=task.id)
    (event,) = await events(world, "task.narrowed")
    assert (event["boundary"]["actions"], event["revoked"]) == (["order.cancel"], 1)


async def test_a_task_is_never_widened(world: World) -> None:
    task = await world.begin(boundary=Boundary(actions=frozenset({"order.cancel", "order.read"})))
    wider = [
        Boundary(actions=frozenset({"order.cancel", "order.refund"})),
        Boundary(limits={"order.refund": {"amount": Range(maximum=1)}}),
    ]
    for boundary in wider:
        assert await refused(narrow(world, task.id, boundary)) is Reason.TASK_BOUNDARY_WIDER
    await narrow(world, task.id, Boundary(actions=frozenset({"order.cancel"})))
    assert (
        await refused(narrow(world, task.id, Boundary(actions=frozenset({"order.read"})))) is Reason.TASK_BOUNDARY_WIDER
    )
    assert await refused(narrow(world, task.id, Boundary())) is Reason.REQUEST_INVALID


# --- whose it is, and when it is over ------------------------------------------------------------------------------


async def test_a_task_is_its_agents_own_at_every_verb(world: World) -> None:
    task = await world.begin()
    less = Boundary(actions=frozenset({"order.read"}))
    for who in (WHOLESALE, SHARED, CHAT):
        assert await refused(beat(world, task.id, who)) is Reason.TASK_UNKNOWN
        assert await refused(narrow(world, task.id, less, who)) is Reason.TASK_UNKNOWN
        assert await refused(cancel(world, task.id, who)) is Reason.TASK_UNKNOWN
    await beat(world, task.id)


async def test_a_cancelled_task_gives_nothing_at_any_verb(world: World) -> None:
    task = await world.begin()
    given = await world.granted(**CANCEL, task=task.id)
    assert await cancel(world, task.id) == 1
    assert await dead(world) == {given.grant.credential_id}
    (event,) = await events(world, "task.ended")
    assert event["cause"] == "cancelled"
    assert (await world.refused(**CANCEL, task=task.id)).reason is Reason.TASK_ENDED
    less = Boundary(actions=frozenset({"order.read"}))
    for after in (beat(world, task.id), narrow(world, task.id, less), cancel(world, task.id), world.end(task.id)):
        assert await refused(after) is Reason.TASK_ENDED


async def test_a_revoked_task_is_not_heard(world: World) -> None:
    task = await world.begin()
    await beat(world, task.id)
    await world.revoke("task", task.id)
    assert await refused(beat(world, task.id)) is Reason.TASK_REVOKED


# --- front ends ----------------------------------------------------------------------------------------------------


async def test_a_front_end_begins_and_the_agent_works(world: World) -> None:
    task = await world.begin(CHAT, agent=SUPPORT, person="Customer 42", asked=ASKED)
    assert (task.agent, task.begun_by) == (SUPPORT, CHAT)
    given = await world.granted(**REFUND, task=task.id)
    await beat(world, task.id)
    (event,) = await world.events(kinds=("task.begun",), personal=True)
    told = json.loads(event.content)
    assert (told["spiffe_id"], told["agent"]) == (CHAT, SUPPORT)
    assert "Customer 42" not in event.content.decode()
    assert opened(event.openings) >= {("person", '"Customer 42"'), ("asked", f'"{ASKED}"')}
    assert (await narrow(world, task.id, Boundary(actions=frozenset({"order.read"})), CHAT)).revoked == 1
    assert await dead(world) == {given.grant.credential_id}
    await cancel(world, task.id, CHAT)


def opened(openings: tuple[Opening, ...]) -> set[tuple[str, str]]:
    return {(opening.field, opening.value.decode()) for opening in openings}


@pytest.mark.parametrize(
    ("who", "changes", "reason"),
    [
        (CHAT, {"agent": SHARED, "tenant": "retail"}, Reason.TASK_TYPE_REFUSED),
        (CHAT, {"agent": "spiffe://example.org/agent/nobody"}, Reason.TASK_TYPE_REFUSED),
        (ORDERS, {"agent": SUPPORT}, Reason.TASK_TYPE_REFUSED),
        (WHOLESALE, {"agent": SUPPORT}, Reason.TASK_TYPE_REFUSED),
        (CHAT, {"agent": SUPPORT, "asked": ""}, Reason.REQUEST_INVALID),
        (CHAT, {"agent": SUPPORT, "person": ""}, Reason.REQUEST_INVALID),
        (CHAT, {"agent": SUPPORT, "asked": "sha-256:short"}, Reason.REQUEST_INVALID),
    ],
    ids=[
        "another-agent",
        "no-agent",
        "another-service",
        "another-agents-name",
        "no-digest",
        "nobody",
        "no-such-digest",
    ],
)
async def test_nobody_else_begins_tasks_for_an_agent(
    world: World, who: str, changes: dict[str, Any], reason: Reason
) -> None:
    values = {"person": "Customer 42", "asked": ASKED} | changes
    assert await refused(world.begin(who, **values)) is reason
    await world.begin(CHAT, agent=SUPPORT, person="Customer 42", asked=ASKED)


async def test_a_front_end_needs_the_policy_as_well_as_the_type(world: World) -> None:
    def gone(text: str) -> str:
        start = text.index('@id("chat-begins-tasks-of-support")')
        return text[:start] + text[text.index('@id("', start + 5) :]

    edit(world, "golden.toml", lambda text: text[: text.index("# --- Tasks that the chat begins")])
    await changed(world, "broker.cedar", gone)
    values = {"agent": SUPPORT, "person": "Customer 42", "asked": ASKED}
    assert await refused(world.begin(CHAT, **values)) is Reason.POLICY_NOT_PERMITTED
    await world.begin()


# --- races ---------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
async def test_ending_while_exchanging_leaves_no_live_credential(world: World) -> None:
    """Ten thousand exchanges, each against the end of its task: ended, cancelled, or narrowed to nothing that fits."""
    less = Boundary(actions=frozenset({"order.read"}))
    ends: tuple[Callable[[str], Any], ...] = (
        world.end,
        lambda task: cancel(world, task),
        lambda task: narrow(world, task, less),
    )
    world.time.still = datetime.now(UTC)  # what has ended is forgotten when it would be over
    given: set[str] = set()
    chance = Random(1)  # noqa: S311 - a test's

    async def after(turns: int, call: Callable[[], Any]) -> Any:
        for _ in range(turns):  # of the loop: the issuer's thread takes what is there meanwhile
            await asyncio.sleep(0)
        return await call()

    async def race(number: int) -> None:
        task = await world.begin()
        ask = partial(world.exchange, **CANCEL, task=task.id)
        # What is asked before and after is certain, and the control; the rest is a race.
        first = [await ask()] if number < CERTAIN else []
        calls = [ask] * A_TASK + [lambda: ends[number % 3](task.id)]
        answers = await asyncio.gather(*(after(chance.randrange(TURNS), call) for call in calls))
        assert all(isinstance(answer, Credential) for answer in first)
        if number < CERTAIN:
            assert isinstance(await ask(), Refusal)
        granted = [answer for answer in (*first, *answers) if isinstance(answer, Credential)]
        given.update(answer.grant.credential_id for answer in granted)

    for start in range(0, RACES // A_TASK, 50):
        await asyncio.gather(*(race(start + number) for number in range(50)))
    assert len(given) >= CERTAIN
    assert given <= await dead(world)
