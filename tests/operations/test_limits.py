"""Limits, separate duties and sequences, through the composed issuer: what was granted counts, at whatever moment."""

import asyncio
import json
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.intent import Json
from broker.operations.calls import ExchangeAnswer
from broker.operations.task_calls import HeartbeatCall
from tests.operations.limiting import DUTIES, SEQUENCE, bundle, change, give_back, midnight, move, refund, write
from tests.operations.world import SUPPORT, WHOLESALE, open_world
from tests.unit.policy.test_limit import limited

TEN: dict[str, Json] = {"per": "task", "max": 10}
HUNDRED: dict[str, Json] = {"per": "task", "max": 100, "sum": "amount"}
CANCEL = {"action": "order.cancel"}


def granted(answers: Sequence[ExchangeAnswer]) -> list[Credential]:
    return [answer for answer in answers if isinstance(answer, Credential)]


def reasons(answers: Sequence[ExchangeAnswer]) -> set[Reason]:
    return {answer.reason for answer in answers if isinstance(answer, Refusal)}


async def test_ten_refunds_of_ten_are_a_hundred(tmp_path: Path) -> None:
    write(tmp_path, bundle(HUNDRED))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        for _ in range(10):
            await world.granted(**refund(task))
        refused = await world.refused(**refund(task, 1))
        assert refused.reason is Reason.LIMIT_REACHED
        assert refused.detail == "policy support-may-refund, per task"
        assert refused.policy_ids == ("support-may-refund",)
        assert refused.decision_id.startswith("dec_")
        assert refused.sentence == Reason.LIMIT_REACHED.meaning.sentence
        await world.granted(task=task)  # what is not limited goes on
        other = (await world.begin()).id
        await world.granted(**refund(other, 100))


async def test_the_log_says_what_was_charged_and_what_was_refused(tmp_path: Path) -> None:
    write(tmp_path, bundle({"per": "day", "max": 5, "sum": "amount"}, {"per": "task", "max": 5}))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        await world.granted(**refund(task, 3))
        await world.refused(**refund(task, 3))
        (event,) = [json.loads(each.content) for each in await world.events(kinds=("credential.granted",))]
        assert event["charged"] == [
            {"policy": "support-may-refund", "per": "day"},
            {"policy": "support-may-refund", "per": "task"},
        ]
        (refused,) = await world.events(kinds=("exchange.refused",), personal=True)
        assert json.loads(refused.content)["reason"] == "LIMIT_REACHED"
        details = [json.loads(each.value) for each in refused.openings if each.field == "detail"]
        assert details == ["policy support-may-refund, per day"]


@pytest.mark.parametrize("sizes", [[100], [1] * 100, [7] * 14 + [2]])
async def test_a_hundred_at_once_never_go_beyond(tmp_path: Path, sizes: list[int]) -> None:
    """In one group, each alone, and in groups that form by themselves."""
    write(tmp_path, bundle(TEN))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        calls = [world.call(**refund(task)) for _ in range(100)]
        groups = [[calls.pop() for _ in range(size)] for size in sizes]
        answers = [each for some in await asyncio.gather(*map(world.issuer.exchange, groups)) for each in some]
        assert len(granted(answers)) == 10
        assert reasons(answers) == {Reason.LIMIT_REACHED}
        assert len(await world.events(kinds=("credential.granted",))) == 10


async def test_a_hundred_threads_never_go_beyond(tmp_path: Path) -> None:
    write(tmp_path, bundle(TEN))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        loop = asyncio.get_running_loop()
        answers: list[ExchangeAnswer] = []

        def ask(call: Any) -> None:
            answers.extend(asyncio.run_coroutine_threadsafe(world.issuer.exchange([call]), loop).result())

        threads = [threading.Thread(target=ask, args=(world.call(**refund(task)),)) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert len(answers) == 100
        assert len(granted(answers)) == 10


async def test_asking_again_for_a_lost_reply_charges_nothing(tmp_path: Path) -> None:
    write(tmp_path, bundle({"per": "task", "max": 2}))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        first = await world.granted(**refund(task), request_id="r1")
        for _ in range(5):
            again = await world.granted(**refund(task), request_id="r1")
            assert again.grant.credential_id == first.grant.credential_id
        await world.granted(**refund(task), request_id="r2")
        assert (await world.refused(**refund(task))).reason is Reason.LIMIT_REACHED
        await world.granted(**refund(task), request_id="r1")  # even now


async def test_what_was_refused_is_charged_nothing(tmp_path: Path) -> None:
    write(tmp_path, bundle(HUNDRED))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        for changes in (refund(task, 6000), refund(task, 99, purpose="curiosity"), refund("task_" + "0" * 36, 99)):
            await world.refused(**changes)
        await world.refused(**refund(task, 101))
        await world.granted(**refund(task, 100))


async def test_what_was_given_back_can_be_granted_again_once(tmp_path: Path) -> None:
    write(tmp_path, bundle(HUNDRED))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        first, second = [await world.granted(**refund(task, 50), request_id=name) for name in ("r1", "r2")]
        assert (await world.refused(**refund(task, 1))).reason is Reason.LIMIT_REACHED
        assert await give_back(world, first, first, first) == [1, 0, 0]
        assert await give_back(world, first) == [0]
        await world.granted(**refund(task, 50))
        assert (await world.refused(**refund(task, 1))).reason is Reason.LIMIT_REACHED
        # It cannot be used any more, nor asked for again: that would be a grant that is charged nothing.
        assert (await world.refused(**refund(task, 50), request_id="r1")).reason is Reason.CREDENTIAL_REVOKED
        again = await world.granted(**refund(task, 50), request_id="r2")
        assert again.grant.credential_id == second.grant.credential_id


@pytest.mark.parametrize("per", ["task", "conversation", "agent", "day"])
async def test_each_period_counts_for_its_own(tmp_path: Path, per: str) -> None:
    write(tmp_path, bundle({"per": per, "max": 1}))
    async with open_world(tmp_path) as world:
        first = (await world.begin(conversation="c1")).id
        await world.granted(**refund(first))
        assert (await world.refused(**refund(first))).reason is Reason.LIMIT_REACHED
        same, other = (await world.begin(conversation="c1")).id, (await world.begin(conversation="c2")).id
        assert isinstance(await world.exchange(**refund(same)), Credential) is (per == "task")
        assert isinstance(await world.exchange(**refund(other)), Credential) is (per in {"task", "conversation"})


async def test_a_task_without_a_conversation_is_one_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, bundle({"per": "conversation", "max": 1}))
    async with open_world(tmp_path) as world:
        for task in ((await world.begin()).id, (await world.begin()).id):
            await world.granted(**refund(task))
            assert (await world.refused(**refund(task))).reason is Reason.LIMIT_REACHED


async def test_a_day_begins_at_midnight_utc(tmp_path: Path) -> None:
    write(tmp_path, bundle({"per": "day", "max": 1}))
    async with open_world(tmp_path) as world:
        today = midnight(world)
        move(world, today - timedelta(seconds=90))
        await world.granted(**refund((await world.begin()).id))
        assert (await world.refused(**refund((await world.begin()).id))).reason is Reason.LIMIT_REACHED
        move(world, today + timedelta(seconds=1))
        await world.granted(**refund((await world.begin()).id))
        assert (await world.refused(**refund((await world.begin()).id))).reason is Reason.LIMIT_REACHED


async def test_agents_and_their_neighbours_are_counted_apart(tmp_path: Path) -> None:
    files = bundle({"per": "day", "max": 1})
    text = files["writes.cedar"].decode()
    begin = text.index('@id("wholesale-may-cancel-an-order")')
    limit = '@limit("[{\\"per\\": \\"day\\", \\"max\\": 1}]")\n'
    files["writes.cedar"] = (text[:begin] + limit + text[begin:]).encode()
    write(tmp_path, files)
    async with open_world(tmp_path) as world:
        await world.granted(**refund((await world.begin()).id))
        await world.granted(WHOLESALE, **CANCEL, task=(await world.begin(WHOLESALE)).id)
        refused = await world.refused(WHOLESALE, **CANCEL, task=(await world.begin(WHOLESALE)).id)
        assert refused.detail == "policy wholesale-may-cancel-an-order, per day"


@pytest.mark.parametrize("per", ["conversation", "agent", "day"])
async def test_two_agents_under_one_policy_are_counted_apart(tmp_path: Path, per: str) -> None:
    write(tmp_path, limited({"per": per, "max": 1}, policy='@id("order-readers-may-look-up-orders")'))
    async with open_world(tmp_path) as world:
        for who in (SUPPORT, WHOLESALE):  # who name their conversations alike
            await world.granted(who, task=(await world.begin(who, conversation="c")).id)
            refused = await world.refused(who, task=(await world.begin(who, conversation="c")).id)
            assert refused.detail == f"policy order-readers-may-look-up-orders, per {per}"


async def test_each_limit_of_a_policy_counts_for_itself(tmp_path: Path) -> None:
    """Two of one kind; and one that adds up something else from some bundle on."""
    write(tmp_path, bundle({"per": "task", "max": 4}, {"per": "task", "max": 4}))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        for _ in range(4):
            await world.granted(**refund(task))
        await change(world, bundle({"per": "task", "max": 20, "sum": "amount"}))
        await world.granted(**refund(task, 20))
        assert (await world.refused(**refund(task, 1))).reason is Reason.LIMIT_REACHED
        await change(world, bundle({"per": "task", "max": 5}))  # what it had counted still counts
        await world.granted(**refund(task))
        assert (await world.refused(**refund(task))).reason is Reason.LIMIT_REACHED


async def test_a_new_process_goes_on_counting(tmp_path: Path) -> None:
    write(tmp_path, bundle(HUNDRED, entries=DUTIES))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        await world.granted(**refund(task, 60))
    async with open_world(tmp_path) as world:
        assert (await world.refused(**refund(task, 41))).reason is Reason.LIMIT_REACHED
        assert (await world.refused(**CANCEL, task=task)).reason is Reason.DUTY_SEPARATED
        await world.granted(**refund(task, 40))


async def test_an_agents_count_stands_as_long_as_the_policys_limit(tmp_path: Path) -> None:
    limit: dict[str, Json] = {"per": "agent", "max": 1}
    write(tmp_path, bundle(limit))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        await world.granted(**refund(task))
        await change(world, bundle(limit, {"per": "task", "max": 9}))
        assert (await world.refused(**refund(task))).detail == "policy support-may-refund, per agent"
        await change(world, bundle({"per": "task", "max": 9}))
        await change(world, bundle(limit))
        await world.granted(**refund(task))


async def test_a_heartbeat_judges_and_charges_nothing(tmp_path: Path) -> None:
    write(tmp_path, bundle({"per": "task", "max": 1}, entries=DUTIES))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        held = await world.granted(**refund(task))
        for entries in (DUTIES + SEQUENCE.format(within="task"), DUTIES):
            await change(world, bundle({"per": "task", "max": 2}, entries=entries))
            for _ in range(3):
                judged = await world.issuer.heartbeat_task(HeartbeatCall(context=world.context(SUPPORT), task=task))
                assert judged.revoked == 0
        await world.granted(**refund(task))
        assert (await world.refused(**refund(task))).reason is Reason.LIMIT_REACHED
        page = await world.revocations(SUPPORT)
        assert page.snapshot is not None
        assert held.grant.credential_id not in page.snapshot.credential_ids


# --- separate duties ----------------------------------------------------------------------------------------------


async def test_duties_are_apart_within_a_task_and_not_between_tasks(tmp_path: Path) -> None:
    write(tmp_path, bundle(entries=DUTIES))
    async with open_world(tmp_path) as world:
        task, other = (await world.begin()).id, (await world.begin()).id
        await world.granted(**refund(task))
        await world.granted(**refund(task))
        refused = await world.refused(**CANCEL, task=task)
        assert (refused.reason, refused.detail) == (Reason.DUTY_SEPARATED, "refund-or-cancel")
        await world.granted(**CANCEL, task=other)
        assert (await world.refused(**refund(other))).reason is Reason.DUTY_SEPARATED
        await world.granted(task=task)  # what no duty names goes on


@pytest.mark.parametrize("sizes", [[40], [1] * 40])
async def test_of_two_duties_at_once_only_one_is_granted(tmp_path: Path, sizes: list[int]) -> None:
    write(tmp_path, bundle(entries=DUTIES))
    async with open_world(tmp_path) as world:
        for _ in range(5):
            task = (await world.begin()).id
            calls = [world.call(**(refund(task) if number % 2 else CANCEL | {"task": task})) for number in range(40)]
            groups = [[calls.pop() for _ in range(size)] for size in sizes]
            answers = [each for some in await asyncio.gather(*map(world.issuer.exchange, groups)) for each in some]
            assert len({each.grant.scope.actions for each in granted(answers)}) == 1
            assert len(granted(answers)) == 20
            assert reasons(answers) == {Reason.DUTY_SEPARATED}


async def test_what_was_given_back_was_granted_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, bundle(entries=DUTIES))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        await give_back(world, await world.granted(**refund(task)))
        assert (await world.refused(**CANCEL, task=task)).reason is Reason.DUTY_SEPARATED


# --- sequences ----------------------------------------------------------------------------------------------------

READ: dict[str, Any] = {}
CUSTOMER: dict[str, Any] = {"action": "customer.read", "resource": "customer/7"}


async def test_a_sequence_is_not_completed_within_its_task(tmp_path: Path) -> None:
    write(tmp_path, bundle(entries=SEQUENCE.format(within="task")))
    async with open_world(tmp_path) as world:
        task = (await world.begin(conversation="c")).id
        await world.granted(**refund(task))
        await world.granted(**CUSTOMER, task=task)
        await world.granted(**READ, task=task)
        await world.granted(**CANCEL, task=task)
        await world.granted(**refund(task))  # customer before order: another order
        await world.granted(**CUSTOMER, task=task)
        refused = await world.refused(**refund(task))
        assert (refused.reason, refused.detail) == (Reason.SEQUENCE_REFUSED, "look-up-then-refund")
        assert (await world.refused(**refund(task))).reason is Reason.SEQUENCE_REFUSED
        other = (await world.begin(conversation="c")).id
        await world.granted(**refund(other))
        assert (await world.refused(**READ)).reason is Reason.TASK_REQUIRED


async def test_or_within_its_conversation(tmp_path: Path) -> None:
    write(tmp_path, bundle(entries=SEQUENCE.format(within="conversation")))
    async with open_world(tmp_path) as world:
        tasks = [(await world.begin(conversation=name)).id for name in ("c", "c", "c", "d")]
        await world.granted(**READ, task=tasks[0])
        await world.end(tasks[0])
        await world.granted(**CUSTOMER, task=tasks[1])
        assert (await world.refused(**refund(tasks[2]))).reason is Reason.SEQUENCE_REFUSED
        await world.granted(**refund(tasks[3]))


@pytest.mark.parametrize("sizes", [[90], [1] * 90])
async def test_no_race_completes_a_sequence(tmp_path: Path, sizes: list[int]) -> None:
    write(tmp_path, bundle(entries=SEQUENCE.format(within="task")))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        await world.granted(**READ, task=task)
        calls = [world.call(**(CUSTOMER | {"task": task} if number % 3 == 1 else refund(task))) for number in range(90)]
        groups = [[calls.pop() for _ in range(size)] for size in sizes]
        answers = [each for some in await asyncio.gather(*map(world.issuer.exchange, groups)) for each in some]
        assert reasons(answers) == {Reason.SEQUENCE_REFUSED}
        order = [
            json.loads(event.content)["intent"]["action"] for event in await world.events(kinds=("credential.granted",))
        ]
        looked_up = order.index("customer.read")
        assert "order.refund" not in order[looked_up:]


async def test_one_that_would_have_to_be_held_is_asked_again(tmp_path: Path) -> None:
    held = SEQUENCE.format(within="task").replace('"refuse"', '"step_up"') + 'step_up = { kind = "user" }\n'
    write(tmp_path, bundle(entries=held))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        await world.granted(**READ, task=task)
        # Both are decided before either is committed: the refund is permitted, and would complete what came between.
        first, second = await world.issuer.exchange([world.call(**CUSTOMER, task=task), world.call(**refund(task))])
        assert isinstance(first, Credential)
        assert isinstance(second, Refusal)
        assert second.reason is Reason.SEQUENCE_CHANGED
        assert (await world.refused(**refund(task))).reason is Reason.STEP_UP_REQUIRED


async def test_ending_the_task_ends_no_conversation(tmp_path: Path) -> None:
    write(tmp_path, bundle({"per": "conversation", "max": 1}))
    async with open_world(tmp_path) as world:
        task = await world.begin(conversation="c")
        await world.granted(**refund(task.id))
        await world.end(task.id)
        assert (await world.refused(**refund((await world.begin(conversation="c")).id))).reason is Reason.LIMIT_REACHED
