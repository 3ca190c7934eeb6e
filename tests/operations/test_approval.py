"""The agent's side of a held request: what is approved is given once, for exactly that, and while it counts."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.approval import ApprovalState
from broker.boundary import Boundary
from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.intent import Level, Resource, parse_parameters
from broker.operations.approval_calls import ApprovalPageCall, ShownApproval
from broker.operations.calls import EndTaskCall, ExchangeAnswer
from broker.operations.holding import MOST_PENDING
from broker.operations.task_calls import HeartbeatCall, NarrowTaskCall
from tests.operations.approving import ACCOUNT, GROUP, bundle, payout
from tests.operations.limiting import change, write
from tests.operations.world import DEPUTY, LEAD, ORDERS, SECURITY, SHARED, SUPPORT, World, open_world
from tests.polling import eventually
from tests.unit.policy.bundles import added, replaced, without_cases

OTHER = "DE89370400440532013000"


async def refusal_of(call: Awaitable[Any]) -> Reason:
    with pytest.raises(Refusal) as raised:
        await call
    return raised.value.reason


async def state(world: World, approval: str, who: str = SUPPORT) -> ApprovalState:
    return (await world.approval(approval, who)).state


async def events(world: World, *kinds: str) -> list[dict[str, Any]]:
    return [json.loads(each.content) for each in await world.events(kinds=kinds)]


async def approved(world: World, **changes: Any) -> tuple[dict[str, Any], str]:
    """An intent, and the approval that people have given for it."""
    asked = await payout(world, **changes)
    approval = await world.held(**asked)
    await world.approve(approval)
    return asked, approval


async def test_what_is_approved_is_given_once(world: World) -> None:
    asked = await payout(world)
    refusal = await world.refused(**asked)
    assert refusal.reason is Reason.STEP_UP_REQUIRED
    assert refusal.held is not None
    assert refusal.held.waits_for == ("group:refund-approvers",)
    assert refusal.policy_ids == ("support-may-ask-for-a-payout-change",)
    approval = refusal.held.approval
    assert (await world.refused(**asked, approval=approval)).reason is Reason.APPROVAL_PENDING
    answered = await world.approve(approval)
    assert answered.shown.state is ApprovalState.APPROVED
    credential = await world.granted(**asked, approval=approval)
    assert credential.grant.scope.actions == {"customer.payout_change"}
    assert (await world.refused(**asked, approval=approval)).reason is Reason.APPROVAL_USED
    assert await state(world, approval) is ApprovalState.USED


async def test_the_log_tells_all_of_it_and_names_nobody_in_clear(world: World) -> None:
    asked, approval = await approved(world)
    credential = await world.granted(**asked, approval=approval)
    (requested,) = await events(world, "approval.requested")
    (said,) = await events(world, "approval.approved")
    (granted,) = await events(world, "credential.granted")
    assert requested["approval"] == said["approval"] == granted["approval"] == approval
    assert requested["requirements"] == [
        {"kind": "group", "group": "refund-approvers", "quorum": 1, "owners": "excluded", "pending_for": "PT15M",
         "good_for": "PT5M"}
    ]  # fmt: skip
    assert said["spiffe_id"] == LEAD
    assert (said["complete"], said["approvals"]) == (True, 1)
    assert granted["credential"] == credential.grant.credential_id
    assert {"parameters", "intent_digest"} <= requested["commitments"].keys()
    assert "person" in said["commitments"]
    assert "approved_by" in granted["commitments"]
    assert not await events(world, "exchange.refused"), "the request stands for the refusal"


# --- B1: for exactly that -----------------------------------------------------------------------------------------

NOT_THE_SAME: dict[str, dict[str, Any]] = {
    "another account": {"parameters": {"account": OTHER}},
    "one byte more": {"parameters": {"account": ACCOUNT["account"] + " "}},
    "a further parameter": {"parameters": {**ACCOUNT, "note": "x"}},
    "no parameter": {"parameters": {}},
    "another resource": {"resource": "customer/c-78"},
    "another action": {"action": "order.refund", "resource": "order/1"},
    "another audience": {"audience": ORDERS + "/other"},
    "for somebody": {"on_behalf_of": "customer-42"},
    "a higher risk": {"risk": Level.HIGH},
    "a higher sensitivity": {"sensitivity": Level.HIGH},
    "a set": {"resource": Resource(type="customer", set="all")},
}


@pytest.mark.parametrize("changes", NOT_THE_SAME.values(), ids=NOT_THE_SAME)
async def test_an_approval_is_for_one_intent_byte_for_byte(world: World, changes: dict[str, Any]) -> None:
    asked, approval = await approved(world)
    refusal = await world.refused(**{**asked, **changes}, approval=approval)
    assert refusal.reason is Reason.APPROVAL_MISMATCH
    await world.granted(**asked, approval=approval)


async def test_nor_is_it_for_another_task_or_agent(world: World) -> None:
    asked, approval = await approved(world)
    other = await world.begin()
    assert (await world.refused(**{**asked, "task": other.id}, approval=approval)).reason is Reason.APPROVAL_MISMATCH
    theirs = (await world.begin(SHARED, tenant="retail")).id
    assert (await world.refused(SHARED, **{**asked, "task": theirs}, approval=approval)).reason is (
        Reason.APPROVAL_UNKNOWN
    )
    assert (await world.refused(SHARED, **asked, approval=approval)).reason is Reason.TASK_UNKNOWN
    assert (await world.refused(**asked, approval="appr_none")).reason is Reason.APPROVAL_UNKNOWN
    await world.granted(**asked, approval=approval)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('{"amount": 10, "currency": "EUR"}', True),
        ('{ "currency":"EUR" , "amount":10 }', True),
        ('{"amount": 10, "currency": "\\u0045UR"}', True),
        ('{"amount": 11, "currency": "EUR"}', False),
        ('{"amount": "10", "currency": "EUR"}', False),
        ('{"amount": true, "currency": "EUR"}', False),
        ('{"amount": [10], "currency": "EUR"}', False),
        ('{"amount": 10, "currency": "EUR", "note": ""}', False),
        ('{"amount": 10, "currency": "eur"}', False),
    ],
)
async def test_only_another_spelling_of_the_same_is_the_same(tmp_path: Path, text: str, same: bool) -> None:
    write(tmp_path, held_refunds())
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        asked: dict[str, Any] = {
            "action": "order.refund",
            "task": task,
            "parameters": {"amount": 10, "currency": "EUR"},
        }
        approval = await world.held(**asked)
        await world.approve(approval)
        answer = await world.exchange(**{**asked, "parameters": parse_parameters(text)}, approval=approval)
        assert isinstance(answer, Credential) is same
        if isinstance(answer, Refusal):
            assert answer.reason is Reason.APPROVAL_MISMATCH


def held_refunds() -> dict[str, bytes]:
    note = f"@step_up({json.dumps(json.dumps(GROUP))})"
    text = '@id("support-may-refund")'
    return without_cases(replaced("writes.cedar", text, f"{text} {note}"))


@pytest.mark.parametrize("text", ['{"amount": 10.00}', '{"amount": 1e1}', '{"amount": 1.0e1}', '{"amount": 010}'])
def test_what_has_several_meanings_is_no_intent_at_all(text: str) -> None:
    with pytest.raises(Refusal):
        parse_parameters(text)


# --- B2: once -----------------------------------------------------------------------------------------------------


async def test_a_hundred_at_once_give_one_credential(world: World) -> None:
    asked, approval = await approved(world)
    calls = [world.call(**asked, approval=approval) for _ in range(100)]
    halves = await asyncio.gather(
        world.issuer.exchange(calls[:50]), *(world.issuer.exchange([each]) for each in calls[50:])
    )
    answers: list[ExchangeAnswer] = [answer for half in halves for answer in half]
    given = [answer for answer in answers if isinstance(answer, Credential)]
    assert len(given) == 1
    assert {answer.reason for answer in answers if isinstance(answer, Refusal)} == {Reason.APPROVAL_USED}
    assert len(await events(world, "credential.granted")) == 1


async def test_a_lost_reply_is_given_again(world: World) -> None:
    asked, approval = await approved(world)
    first = await world.granted(**asked, approval=approval, request_id="r1")
    again = await world.granted(**asked, approval=approval, request_id="r1")
    assert again.grant.credential_id == first.grant.credential_id
    assert (await world.refused(**asked, approval=approval, request_id="r2")).reason is Reason.APPROVAL_USED


async def test_the_same_once_more_is_asked_anew(world: World) -> None:
    asked, approval = await approved(world)
    await world.granted(**asked, approval=approval)
    again = await world.held(**asked)
    assert again != approval
    assert await state(world, again) is ApprovalState.PENDING


# --- B3: what changed meanwhile wins ------------------------------------------------------------------------------


async def revoke_agent(world: World, _: str) -> None:
    await world.revoke("agent", SUPPORT)


async def revoke_tenant(world: World, _: str) -> None:
    await world.revoke("tenant", "retail")


async def revoke_policy(world: World, _: str) -> None:
    await world.revoke("policy", "support-may-ask-for-a-payout-change")


async def end_task(world: World, task: str) -> None:
    await world.end(task)


async def cancel_task(world: World, task: str) -> None:
    await world.issuer.end_task(EndTaskCall(context=world.context(SUPPORT), task=task, cancelled=True))


async def narrow_task(world: World, task: str) -> None:
    boundary = Boundary(actions=frozenset({"order.read"}))
    await world.issuer.narrow_task(NarrowTaskCall(context=world.context(SUPPORT), task=task, boundary=boundary))


async def stop_class(world: World, _: str) -> None:
    await world.stop("class", "high-impact")


async def stop_agent_and_let_go(world: World, _: str) -> None:
    stopped = await world.stop("agent", SUPPORT)
    await world.let_go_on(stopped.override)


async def revoke_and_lift(world: World, _: str) -> None:
    revoked = await world.revoke("agent", SUPPORT)
    await world.lift(revoked.revocation)


async def forbid_it(world: World, _: str) -> None:
    forbid = '@id("not-any-more") forbid (principal, action == Action::"customer.payout_change", resource);'
    await change(world, bundle(files=added("more.cedar", forbid)))


async def take_the_owner(world: World, _: str) -> None:
    owner = 'business_owner = "Head of Retail Support"'
    await change(world, without_cases(replaced("entities.toml", owner, 'business_owner = ""')))


async def raise_the_risk(world: World, _: str) -> None:
    scope = 'principal, action in Action::"high-impact", resource'
    forbid = f'@id("too-risky") forbid ({scope}) when {{ context.risk == "high" }};'
    await change(world, bundle(files=added("more.cedar", forbid)))


async def let_it_expire(world: World, _: str) -> None:
    world.time.ahead += timedelta(minutes=6)


async def shorten_it(world: World, _: str) -> None:
    world.time.ahead += timedelta(minutes=2)
    await change(world, bundle(GROUP | {"owners": "excluded", "good_for": "PT1M"}))


async def ask_more(world: World, _: str) -> None:
    await change(world, bundle(GROUP | {"owners": "excluded", "quorum": 2}))


async def ask_others(world: World, _: str) -> None:
    await change(world, bundle(GROUP | {"owners": "excluded"}, {"kind": "group", "group": "duty"}))


async def take_the_approver(world: World, _: str) -> None:
    lead = f'spiffe_id = "{LEAD}"\nroles = ["refund-approvers"]'
    await change(world, without_cases(replaced("entities.toml", lead, lead.replace("refund-approvers", "gone"))))


Meanwhile = Callable[[World, str], Awaitable[None]]
TOCTOU: dict[str, tuple[Meanwhile, Reason]] = {
    "the agent is revoked": (revoke_agent, Reason.AGENT_REVOKED),
    "the tenant is revoked": (revoke_tenant, Reason.APPROVAL_WITHDRAWN),
    "the policy is revoked": (revoke_policy, Reason.APPROVAL_WITHDRAWN),
    "it is revoked and lifted": (revoke_and_lift, Reason.APPROVAL_WITHDRAWN),
    "its class is stopped": (stop_class, Reason.OVERRIDE_IN_FORCE),
    "it is stopped and goes on": (stop_agent_and_let_go, Reason.APPROVAL_WITHDRAWN),
    "the task ends": (end_task, Reason.TASK_ENDED),
    "the task is cancelled": (cancel_task, Reason.TASK_ENDED),
    "the task is narrowed": (narrow_task, Reason.APPROVAL_WITHDRAWN),
    "policy forbids it": (forbid_it, Reason.POLICY_FORBIDDEN),
    "nobody answers for the agent": (take_the_owner, Reason.AGENT_WITHOUT_OWNER),
    "what is so risky is forbidden": (raise_the_risk, Reason.POLICY_FORBIDDEN),
    "it expires": (let_it_expire, Reason.APPROVAL_EXPIRED),
    "it is good for less by now": (shorten_it, Reason.APPROVAL_EXPIRED),
    "more of the group are wanted": (ask_more, Reason.STEP_UP_REQUIRED),
    "another group is wanted": (ask_others, Reason.STEP_UP_REQUIRED),
    "who approved has left the group": (take_the_approver, Reason.STEP_UP_REQUIRED),
}


@pytest.mark.parametrize(("meanwhile", "reason"), TOCTOU.values(), ids=TOCTOU)
async def test_what_changed_between_approval_and_use_wins(world: World, meanwhile: Meanwhile, reason: Reason) -> None:
    asked, approval = await approved(world)
    await meanwhile(world, asked["task"])
    refusal = await world.refused(**asked, approval=approval)
    assert refusal.reason is reason
    if reason is Reason.STEP_UP_REQUIRED:
        assert refusal.held is not None
        assert refusal.held.approval != approval
    assert not await events(world, "credential.granted")


async def test_what_was_not_asked_of_people_is_not_met_by_them(world: World) -> None:
    """The owner does not count any more. It was not the owner who said yes; still nobody was asked whether it was."""
    await change(world, bundle(GROUP))
    asked, approval = await approved(world)
    await change(world, bundle(GROUP | {"owners": "excluded"}))
    refusal = await world.refused(**asked, approval=approval)
    assert refusal.reason is Reason.STEP_UP_REQUIRED
    assert refusal.held is not None
    await world.approve(refusal.held.approval)
    await world.granted(**asked, approval=refusal.held.approval)


async def test_what_does_not_matter_does_not_void_it(world: World) -> None:
    """A new bundle that asks for no more, a renewed SVID: the credential is bound to the leaf that asks for it."""
    asked, approval = await approved(world)
    await change(world, bundle(GROUP | {"owners": "excluded", "pending_for": "PT1H"}, files=added("README.md", "x")))
    world.renew(SUPPORT)
    credential = await world.granted(**asked, approval=approval)
    assert credential.grant.thumbprint != ""


async def test_what_needs_nobody_any_more_is_given_on_it(world: World) -> None:
    asked, approval = await approved(world)
    other = await payout(world)
    pending = await world.held(**other)
    await change(world, without_cases(no_step_up()))
    await world.granted(**asked, approval=approval)
    assert await state(world, approval) is ApprovalState.USED
    assert (await world.refused(**other, approval=pending)).reason is Reason.APPROVAL_PENDING
    await world.granted(**other)


def no_step_up() -> dict[str, bytes]:
    """The example with a payout change that is a write like any other."""
    line = '@step_up("{\\"kind\\": \\"group\\", \\"group\\": \\"refund-approvers\\", \\"owners\\": \\"excluded\\"}")\n'
    files = replaced("writes.cedar", line, "")
    return replaced(
        "schema.cedarschema",
        '"customer.payout_change" in ["high-impact"]',
        '"customer.payout_change" in ["write"]',
        files,
    )


# --- asking -------------------------------------------------------------------------------------------------------


async def test_the_same_asked_again_waits_for_the_same(world: World) -> None:
    asked = await payout(world)
    first = await world.held(**asked)
    assert await world.held(**asked) == first
    both = await world.issuer.exchange([world.call(**asked) for _ in range(20)])
    assert {answer.held.approval for answer in both if isinstance(answer, Refusal) and answer.held} == {first}
    fresh = await payout(world)
    at_once = await world.issuer.exchange([world.call(**fresh) for _ in range(20)])
    ids = {answer.held.approval for answer in at_once if isinstance(answer, Refusal) and answer.held}
    assert len(ids) == 1
    assert ids != {first}
    assert len(await events(world, "approval.requested")) == 2
    assert {each["approval"] for each in await events(world, "exchange.refused")} <= {first, *ids}


async def test_what_was_approved_is_found_by_who_forgot_it(world: World) -> None:
    asked, approval = await approved(world)
    assert await world.held(**asked) == approval
    await world.granted(**asked, approval=approval)


async def test_a_flood_leaves_the_oldest_and_goes_no_further(world: World) -> None:
    """B6: what was asked first is what people see first; the rest is refused, and other agents are not."""
    task = (await world.begin()).id
    calls = [
        world.call(**await payout(world, task=task, parameters={"account": f"DE{number:020}"}))
        for number in range(1000)
    ]
    answers = [
        answer for start in range(0, 1000, 250) for answer in await world.issuer.exchange(calls[start : start + 250])
    ]
    held = [answer.held.approval for answer in answers if isinstance(answer, Refusal) and answer.held]
    assert len(held) == MOST_PENDING
    assert {answer.reason for answer in answers[MOST_PENDING:] if isinstance(answer, Refusal)} == {
        Reason.LIMIT_APPROVALS
    }
    page = await world.approvals()
    assert [each.id for each in page.approvals] == held
    await world.withdraw(held[0])
    assert await world.held(**await payout(world, task=task)) not in held


async def test_pages_are_whole_and_nobodys_else(world: World) -> None:
    task = (await world.begin()).id
    held = [
        await world.held(**await payout(world, task=task, parameters={"account": f"DE{number:020}"}))
        for number in range(7)
    ]
    for who in (LEAD, SUPPORT):
        found: list[ShownApproval] = []
        token = ""
        while True:
            page = await world.approvals(who, page_size=3, page_token=token)
            assert len(page.approvals) <= 3
            found += page.approvals
            token = page.next_page_token
            if not token:
                break
        assert [each.id for each in found] == held
    page = await world.approvals(LEAD, page_size=3)
    for size in (0, -1, -(2**31), 2**31 - 1):
        assert len((await world.approvals(LEAD, page_size=size)).approvals) == 7
    token = page.next_page_token
    for who, forged in ((DEPUTY, token), (SUPPORT, token), (LEAD, token[:-2] + "xx"), (LEAD, "x.y")):
        reason = await refusal_of(world.approvals(who, page_size=3, page_token=forged))
        assert reason.name.startswith("CURSOR_")
    assert await refusal_of(world.approvals(LEAD, page_token=token, states=(ApprovalState.USED,))) is (
        Reason.CURSOR_FOREIGN
    )


async def test_a_no_is_no_for_the_rest_of_the_task(world: World) -> None:
    asked = await payout(world)
    approval = await world.held(**asked)
    await world.deny(approval)
    assert (await world.refused(**asked, approval=approval)).reason is Reason.APPROVAL_DENIED
    assert (await world.refused(**asked)).reason is Reason.APPROVAL_DENIED, "people are not worn down"
    assert (await world.approval(approval, SUPPORT)).text == "not today"
    assert await world.held(**{**asked, "parameters": {"account": OTHER}}) != approval
    (denied,) = await events(world, "approval.denied")
    assert (denied["approval"], denied["was"]) == (approval, "pending")
    assert "not today" not in json.dumps(denied)


async def test_taking_it_back(world: World) -> None:
    asked, approval = await approved(world)
    assert (await world.withdraw(approval)).shown.state is ApprovalState.WITHDRAWN
    assert (await world.refused(**asked, approval=approval)).reason is Reason.APPROVAL_WITHDRAWN
    assert await refusal_of(world.withdraw(approval)) is Reason.APPROVAL_WITHDRAWN
    assert await refusal_of(world.withdraw(await world.held(**asked), SHARED)) is Reason.APPROVAL_UNKNOWN
    assert await refusal_of(world.withdraw(await world.held(**asked), LEAD)) is Reason.APPROVAL_UNKNOWN
    (withdrawn,) = await events(world, "approval.withdrawn")
    assert (withdrawn["approval"], withdrawn["was"]) == (approval, "approved")


async def test_what_nobody_answers_expires_with_its_event(world: World) -> None:
    asked = await payout(world)
    approval = await world.held(**asked)
    world.time.ahead += timedelta(minutes=16)
    assert (await world.refused(**asked, approval=approval)).reason is Reason.APPROVAL_EXPIRED, (
        "at once, not by a chore"
    )
    assert await refusal_of(world.approve(approval)) is Reason.APPROVAL_EXPIRED

    async def expired() -> list[dict[str, Any]]:
        return await events(world, "approval.expired")

    (event,) = await eventually(expired)
    assert (event["approval"], event["was"]) == (approval, "pending")
    assert await world.held(**asked) != approval


@pytest.mark.parametrize("end", [end_task, cancel_task], ids=["ended", "cancelled"])
async def test_ending_a_task_takes_back_what_waits(world: World, end: Meanwhile) -> None:
    asked, approval = await approved(world)
    pending = await world.held(**{**asked, "parameters": {"account": OTHER}})
    elsewhere = await world.held(**await payout(world))
    await end(world, asked["task"])
    assert await state(world, approval) is await state(world, pending) is ApprovalState.WITHDRAWN
    assert await state(world, elsewhere) is ApprovalState.PENDING
    (ended,) = await events(world, "task.ended")
    assert ended["approvals"] == [approval, pending]


async def test_so_does_a_deadline(world: World) -> None:
    task = (await world.begin(lifetime=timedelta(minutes=3))).id
    approval = await world.held(**await payout(world, task=task))
    assert (await world.approval(approval, LEAD)).pending_until <= world.time() + timedelta(minutes=3)
    world.time.ahead += timedelta(minutes=4)

    async def over() -> bool:
        return bool(await events(world, "task.ended"))

    await eventually(over)
    assert await state(world, approval) in {ApprovalState.WITHDRAWN, ApprovalState.EXPIRED}


async def test_narrowing_takes_back_what_no_longer_fits(world: World) -> None:
    asked, approval = await approved(world)
    await world.issuer.narrow_task(
        NarrowTaskCall(
            context=world.context(SUPPORT),
            task=asked["task"],
            boundary=Boundary(actions=frozenset({"customer.payout_change", "order.read"})),
        )
    )
    assert await state(world, approval) is ApprovalState.APPROVED
    await narrow_task(world, asked["task"])
    assert await state(world, approval) is ApprovalState.WITHDRAWN
    assert [each.get("approvals", []) for each in await events(world, "task.narrowed")] == [[], [approval]]


async def test_what_ends_more_names_them(world: World) -> None:
    _, first = await approved(world)
    await world.revoke("agent", SUPPORT)
    (made,) = await events(world, "revocation.made")
    assert made["approvals"] == [first]


async def test_a_stop_names_them(world: World) -> None:
    approval = await world.held(**await payout(world))
    await world.stop("everything")
    (imposed,) = await events(world, "override.imposed")
    assert imposed["approvals"] == [approval]


# --- what lives on ------------------------------------------------------------------------------------------------


async def test_a_heartbeat_under_a_new_bundle_keeps_what_people_have_approved(world: World) -> None:
    asked, approval = await approved(world)
    await world.granted(**asked, approval=approval)

    async def ended() -> int:
        call = HeartbeatCall(context=world.context(SUPPORT), task=asked["task"])
        return (await world.issuer.heartbeat_task(call)).revoked

    await change(world, bundle(files=added("README.md", "more")))
    assert await ended() == 0
    await ask_more(world, "")
    assert await ended() == 1, "more is required by now than people have approved"


async def test_it_all_survives_a_restart(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        asked, approval = await approved(world)
        other = await payout(world)
        pending = await world.held(**other)
    async with open_world(tmp_path) as again:
        again.domains, again.trusted = world.domains, world.trusted
        await again.granted(**asked, approval=approval)
        assert (await again.approvals()).approvals[0].id == pending
        await again.approve(pending)
        await again.granted(**other, approval=pending)


async def test_answers_and_uses_race(world: World) -> None:
    """A no, a withdrawal and a use at once: exactly one of them happens."""
    for _ in range(30):
        asked, approval = await approved(world)
        used, denied, withdrawn = await asyncio.gather(
            world.exchange(**asked, approval=approval),
            world.deny(approval),
            world.withdraw(approval),
            return_exceptions=True,
        )
        given = isinstance(used, Credential)
        ended = [each for each in (denied, withdrawn) if not isinstance(each, BaseException)]
        assert given + len(ended) == 1


# --- who hears of it ----------------------------------------------------------------------------------------------


async def test_changes_come_as_pages_without_details(world: World) -> None:
    async def page(who: str, cursor: str) -> Any:
        return await world.issuer.approval_page(ApprovalPageCall(context=world.context(who), cursor=cursor))

    first = {who: (await page(who, "")).page.cursor for who in (SUPPORT, LEAD, SHARED)}
    asked = await payout(world)
    approval = await world.held(**asked)
    for who, expected in ((SUPPORT, [approval]), (LEAD, [approval]), (SHARED, [])):
        found = await page(who, first[who])
        assert [each.id for each in found.approvals] == expected
        assert all(each.details is None for each in found.approvals)
        assert found.page.stop == found.page.size
    last = (await page(LEAD, first[LEAD])).page.cursor
    assert (await page(LEAD, last)).approvals == ()
    assert await refusal_of(page(SUPPORT, first[LEAD])) is Reason.CURSOR_FOREIGN


async def test_an_agent_sees_no_more_than_its_own_state(world: World) -> None:
    approval = await world.held(**await payout(world))
    mine = await world.approval(approval, SUPPORT)
    assert mine.details is None
    assert [progress.approvals for progress in mine.requirements] == [0]
    assert await refusal_of(world.approval(approval, SHARED)) is Reason.APPROVAL_UNKNOWN
    assert await refusal_of(world.approve(approval, SUPPORT, digest="x")) is Reason.APPROVER_REFUSED
    assert await refusal_of(world.approve(approval, SHARED, digest="x")) is Reason.APPROVAL_UNKNOWN


async def test_what_an_approver_sees(world: World) -> None:
    await world.granted()
    await world.refused(purpose="stock-planning")
    asked, earlier = await approved(world)
    approval = await world.held(**{**asked, "parameters": {"account": OTHER}})
    details = (await world.approval(approval, LEAD)).details
    assert details is not None
    assert details.intent.parameters == {"account": OTHER}
    assert details.scope.actions == {"customer.payout_change"}
    assert details.lifetime == timedelta(minutes=1)
    assert (details.business_owner, details.security_owner) == ("Head of Retail Support", "Retail Security")
    assert (details.history.granted, details.history.refused, details.history.approved) == (1, 1, 1)
    assert details.task is not None
    assert details.task.id == asked["task"]
    assert earlier != approval
    assert "'c-77'" not in repr(details)


@pytest.mark.parametrize("byte", range(0, 51, 7))
async def test_one_changed_byte_of_the_digest_approves_nothing(world: World, byte: int) -> None:
    approval = await world.held(**await payout(world))
    details = (await world.approval(approval, LEAD)).details
    assert details is not None
    changed = list(details.digest)
    changed[byte] = "A" if changed[byte] != "A" else "B"
    assert await refusal_of(world.approve(approval, digest="".join(changed))) is Reason.APPROVAL_MISMATCH
    assert await state(world, approval) is ApprovalState.PENDING
    await world.approve(approval)


async def test_security_sees_nothing_that_no_policy_shows_it(world: World) -> None:
    approval = await world.held(**await payout(world))
    assert await refusal_of(world.approval(approval, SECURITY)) is Reason.APPROVAL_UNKNOWN
    assert (await world.approvals(SECURITY)).approvals == ()
