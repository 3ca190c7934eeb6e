"""Customers: people whom the bundle does not name confirm what is held for them, and are nobody anywhere else."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.approval import ApprovalState
from broker.credential.revocation import Rule, RuleKind
from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.operations.approval_calls import ApprovalCall, ApprovalPageCall, ListApprovalsCall
from broker.operations.calls import RevokeCall
from broker.operations.holding import MOST_PENDING
from broker.operations.override_calls import ImposeCall, LiftOverrideCall
from broker.operations.task_calls import ResumeTaskCall
from broker.override import Stop, StopKind
from tests.fakes.identity import AUDIENCE
from tests.operations.approving import GROUP, ISSUER, bundle, context, payout, say_yes
from tests.operations.customers import (
    CANCEL,
    FOR_CHAT,
    FOR_OUTLET,
    FOR_WHOLESALE,
    KATE,
    LIAM,
    OUTLET,
    SHOP,
    USER,
    WHOLESALE_CHAT,
    begun_for,
    customers_sign_in,
    named,
    shop,
    token_of,
)
from tests.operations.limiting import change, write
from tests.operations.test_approval import events, refusal_of, state
from tests.operations.world import CHAT, DUTY, LEAD, ORDERS, SHARED, SUPPORT, WHOLESALE, World, open_world
from tests.unit.policy.bundles import added, replaced

APP = "spiffe://example.org/service/app"
FRESH = {"kind": "authentication", "max_age": "PT2M"}
KNOWN = f"""
[[person]]
name = "kate"
tenants = ["retail"]
groups = ["refund-approvers"]
identities = [{{ issuer = "{SHOP}", subject = "{KATE}" }}, {{ issuer = "{ISSUER}", subject = "kate" }}]
"""


@pytest.fixture
async def shopping(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose chats have customers, and in which payout changes are held for them."""
    async with opened(tmp_path, shop()) as world:
        yield world


@asynccontextmanager
async def opened(folder: Path, files: Mapping[str, bytes] | None = None) -> AsyncIterator[World]:
    if files is not None:
        write(folder, files)
    async with open_world(folder) as world:
        customers_sign_in(world)
        yield world


def knowing_kate(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Add her to a bundle: as one of the group, whom the staff's issuer knows as well."""
    return added("entities.toml", KNOWN, files)


async def held_for(world: World, subject: str = KATE, **changes: Any) -> tuple[dict[str, Any], str]:
    """An intent in a task that the chat began for a customer, and the approval that it waits for."""
    task = await begun_for(world, named(subject))
    asked = await payout(world, task=task.id, **changes)
    return asked, await world.held(**asked)


async def shown_to(world: World, token: str, who: str = CHAT) -> list[str]:
    listed = await world.issuer.list_approvals(ListApprovalsCall(context=context(world, who, token)))
    return [each.id for each in listed.approvals]


async def test_a_customer_sees_and_confirms_what_is_held_for_them(shopping: World) -> None:
    asked, approval = await held_for(shopping)
    await held_for(shopping, LIAM)
    token = token_of(shopping)
    assert await shown_to(shopping, token) == [approval]
    call = ApprovalCall(context=context(shopping, CHAT, token), approval=approval)
    shown = await shopping.issuer.get_approval(call)
    assert shown.details is not None
    answered = await say_yes(shopping, approval, token, digest=shown.details.digest)
    assert answered.shown.state is ApprovalState.APPROVED
    await shopping.granted(**asked, approval=approval)
    (said,) = await events(shopping, "approval.approved")
    assert (said["by_token"], said["spiffe_id"]) == (True, CHAT)
    assert said["decision"]["policies"] == ["chat-brings-the-word-of-its-customers"]
    for each in await shopping.events():
        assert KATE not in each.content.decode(), "who it is stands behind commitments"
    opened = [each for event in await shopping.events(personal=True) for each in event.openings]
    people = [json.loads(each.value) for each in opened if each.field == "person"]
    assert people == [named(KATE), named(LIAM), named(KATE)], "two tasks, and her yes"
    assert [json.loads(each.value) for each in opened if each.field == "approved_by"] == [[named(KATE)]]


async def test_the_refusal_says_to_the_user_whose_yes_is_missing(shopping: World, tmp_path: Path) -> None:
    own = await shopping.refused(**await payout(shopping, task=(await begun_for(shopping, named(KATE))).id))
    (staff := tmp_path / "staff").mkdir()
    async with opened(staff, bundle(GROUP)) as world:
        others = await world.refused(**await payout(world))
    assert {own.reason, others.reason} == {Reason.STEP_UP_REQUIRED}
    assert own.sentence == "This needs your own yes first."
    assert others.sentence == "A person has to approve this first."


async def test_a_customer_says_no(shopping: World) -> None:
    asked, approval = await held_for(shopping)
    call = ApprovalCall(context=context(shopping, CHAT, token_of(shopping)), approval=approval, text="not me")
    assert (await shopping.issuer.deny(call)).shown.state is ApprovalState.DENIED
    assert (await shopping.refused(**asked, approval=approval)).reason is Reason.APPROVAL_DENIED
    assert await refusal_of(say_yes(shopping, approval, token_of(shopping))) is Reason.APPROVAL_DENIED


UNKNOWN, BAD, NOBODY = Reason.APPROVAL_UNKNOWN, Reason.IDENTITY_TOKEN_REFUSED, Reason.PERSON_UNKNOWN
# Who brings which token, of whom, and what it is told: nothing of what there is.
WRONG: dict[str, tuple[str, dict[str, Any], Reason, str]] = {
    "another customer": (CHAT, {"sub": LIAM}, UNKNOWN, ""),
    "another spelling": (CHAT, {"sub": f"{KATE} "}, UNKNOWN, ""),
    "another issuer's customer of that subject": (CHAT, {"iss": OUTLET, "aud": FOR_OUTLET}, UNKNOWN, ""),
    "another issuer's, for the client of this one": (CHAT, {"iss": OUTLET}, BAD, "aud"),
    "the staff's issuer, for this client": (CHAT, {"iss": ISSUER}, BAD, "aud"),
    "somebody whom the staff's issuer knows": (CHAT, {"iss": ISSUER, "aud": AUDIENCE}, NOBODY, ""),
    "an issuer that is nobody's": (CHAT, {"iss": "https://evil.example"}, BAD, "iss"),
    "for another client": (CHAT, {"aud": "another"}, BAD, "aud"),
    "for no client": (CHAT, {"aud": ""}, BAD, "aud"),
    "made for another client, and for this one": (CHAT, {"aud": [FOR_CHAT, "another"], "azp": "another"}, BAD, "azp"),
    "made for the other tenant's chat": (CHAT, {"aud": [FOR_CHAT, FOR_WHOLESALE], "azp": FOR_WHOLESALE}, BAD, "azp"),
    "for the other tenant's chat": (CHAT, {"aud": FOR_WHOLESALE}, BAD, "aud"),
    "for this chat, brought by the other tenant's": (WHOLESALE_CHAT, {}, BAD, "aud"),
    "the same person over the other tenant's chat": (WHOLESALE_CHAT, {"aud": FOR_WHOLESALE}, UNKNOWN, ""),
    "brought by a service": (ORDERS, {}, BAD, "aud"),
    "brought by an operator": (DUTY, {}, BAD, "aud"),
    "brought by an approver": (LEAD, {}, BAD, "aud"),
    "expired": (CHAT, {"iat": 1, "auth_time": 1, "exp": 3600}, BAD, "exp"),
    "brought by the agent that asks": (SUPPORT, {}, Reason.APPROVER_REFUSED, ""),
    "brought by another agent": (SHARED, {}, UNKNOWN, ""),
}


@pytest.mark.parametrize(("who", "changes", "reason", "detail"), WRONG.values(), ids=WRONG)
async def test_what_another_token_or_another_hand_is_worth(
    shopping: World, who: str, changes: dict[str, Any], reason: Reason, detail: str
) -> None:
    asked, approval = await held_for(shopping)
    token = token_of(shopping, **{"subject": KATE} | {"subject" if k == "sub" else k: v for k, v in changes.items()})
    call = ApprovalCall(context=context(shopping, who, token), approval=approval, text="no")
    for answer in (say_yes(shopping, approval, token, who=who), shopping.issuer.deny(call)):
        with pytest.raises(Refusal) as raised:
            await answer
        assert (raised.value.reason, raised.value.detail) == (reason, detail)
    if who != SUPPORT:  # an agent sees what it asks for
        assert await refusal_of(shopping.issuer.get_approval(call)) is reason
        if reason is UNKNOWN:
            assert await shown_to(shopping, token, who) == []
    assert await state(shopping, approval) is ApprovalState.PENDING
    await say_yes(shopping, approval, token_of(shopping))
    await shopping.granted(**asked, approval=approval)


async def test_a_front_end_says_nothing_of_its_own(shopping: World) -> None:
    _, approval = await held_for(shopping)
    assert await refusal_of(say_yes(shopping, approval)) is Reason.APPROVER_REFUSED
    await say_yes(shopping, approval, token_of(shopping))


@pytest.mark.parametrize("subject", ["7001\u200b", "caf\u00e9"])
async def test_a_subject_that_hides_something_is_nobodys(shopping: World, subject: str) -> None:
    _, approval = await held_for(shopping)
    with pytest.raises(Refusal) as raised:
        await say_yes(shopping, approval, token_of(shopping, subject))
    assert (raised.value.reason, raised.value.detail) == (Reason.IDENTITY_TOKEN_REFUSED, "sub")


async def test_a_fresh_authentication_is_fresh(tmp_path: Path) -> None:
    async with opened(tmp_path, shop(FRESH)) as world:
        asked, approval = await held_for(world)
        at = int(world.time().timestamp())
        for auth_time in (None, at - 121, at - 86_400):
            stale = token_of(world, auth_time=auth_time)
            assert await refusal_of(say_yes(world, approval, stale)) is Reason.AUTHENTICATION_STALE
            assert await shown_to(world, stale) == [approval], "so that they know what to sign in for"
        assert await refusal_of(say_yes(world, approval, token_of(world, auth_time=at + 60))) is BAD
        await say_yes(world, approval, token_of(world, auth_time=at - 60))
        await world.granted(**asked, approval=approval)


async def test_a_customer_never_answers_for_a_group(tmp_path: Path) -> None:
    """Not even who is in it: what a chat was shown does not count beyond the customer's own."""
    async with opened(tmp_path, knowing_kate(shop(GROUP, people=True))) as world:
        staff = token_of(world, "kate", iss=ISSUER, aud=AUDIENCE)
        for subject in (KATE, LIAM):  # their own, and somebody else's
            asked, approval = await held_for(world, subject)
            token = token_of(world)
            call = ApprovalCall(context=context(world, CHAT, token), approval=approval, text="no")
            assert await shown_to(world, token) == []
            for answer in (
                say_yes(world, approval, token),
                world.issuer.deny(call),
                world.issuer.get_approval(call),
            ):
                assert await refusal_of(answer) is UNKNOWN
        assert await refusal_of(say_yes(world, approval, token_of(world, LIAM))) is UNKNOWN
        assert await state(world, approval) is ApprovalState.PENDING
        await say_yes(world, approval, staff)  # as one of the group, over a tool of the staff, for Liam
        await world.granted(**asked, approval=approval)


async def test_who_is_in_the_bundle_is_that_person_and_counts_once(tmp_path: Path) -> None:
    async with opened(tmp_path, knowing_kate(shop(USER, GROUP, people=True))) as world:
        for person in ("kate", named(KATE), named("kate", ISSUER)):
            task = await begun_for(world, person)
            asked = await payout(world, task=task.id)
            approval = await world.held(**asked)
            staff = token_of(world, "kate", iss=ISSUER, aud=AUDIENCE)
            first = await say_yes(world, approval, token_of(world))
            for again in (token_of(world), staff):
                counted = {each.required.kind.value: each.approvals for each in first.shown.requirements}
                assert counted == {"user": 1, "group": 0}, "for the group she is who asked"
                first = await say_yes(world, approval, again)
            answered = await say_yes(world, approval, token_of(world, "omar", iss=ISSUER, aud=AUDIENCE))
            assert answered.shown.state is ApprovalState.APPROVED
            await world.granted(**asked, approval=approval)


async def test_what_a_customer_is_shown_names_nobody_of_the_house(tmp_path: Path) -> None:
    async with opened(tmp_path, shop(USER, GROUP, people=True)) as world:
        _, approval = await held_for(world)
        await say_yes(world, approval, token_of(world, "omar", iss=ISSUER, aud=AUDIENCE))
        call = ApprovalCall(context=context(world, CHAT, token_of(world)), approval=approval)
        shown = await world.issuer.get_approval(call)
        assert shown.details is not None
        assert shown.details.answers == ()
        mine = (await say_yes(world, approval, token_of(world), digest=shown.details.digest)).shown.details
        assert mine is not None
        assert [each.person for each in mine.answers] == [named(KATE)]
        theirs = await world.approval(approval, LEAD)
        assert theirs.details is not None
        assert [each.person for each in theirs.details.answers] == ["omar", named(KATE)]


async def test_a_yes_in_one_conversation_is_none_in_another(shopping: World) -> None:
    """Both are hers, and each is asked about by itself: by its own digest, for its own task."""
    asked, approval = await held_for(shopping)
    other_asked, other = await held_for(shopping)
    token = token_of(shopping)
    assert await shown_to(shopping, token) == [approval, other]
    stored = await shopping.stored(lambda store: store.approval(other))
    assert stored is not None
    mixed_up = say_yes(shopping, approval, token, digest=stored.digest())
    assert await refusal_of(mixed_up) is Reason.APPROVAL_MISMATCH
    await say_yes(shopping, other, token)
    assert (await shopping.refused(**asked, approval=other)).reason is Reason.APPROVAL_MISMATCH
    assert (await shopping.refused(**asked, approval=approval)).reason is Reason.APPROVAL_PENDING
    assert await state(shopping, approval) is ApprovalState.PENDING
    await shopping.granted(**other_asked, approval=other)


async def test_each_tenants_customers_have_what_is_theirs(shopping: World) -> None:
    """One person, a customer of both: nothing of the one shows or counts at the other."""
    _, retail = await held_for(shopping)
    task = await begun_for(shopping, named(KATE), front_end=WHOLESALE_CHAT, agent=WHOLESALE)
    asked = CANCEL | {"task": task.id}
    wholesale = await shopping.held(WHOLESALE, **asked)
    there = token_of(shopping, aud=FOR_WHOLESALE)
    assert await shown_to(shopping, token_of(shopping)) == [retail]
    assert await shown_to(shopping, there, WHOLESALE_CHAT) == [wholesale]
    assert await refusal_of(say_yes(shopping, wholesale, token_of(shopping))) is UNKNOWN
    assert await refusal_of(say_yes(shopping, retail, there, who=WHOLESALE_CHAT)) is UNKNOWN
    await say_yes(shopping, wholesale, there, who=WHOLESALE_CHAT)
    await shopping.granted(WHOLESALE, **asked, approval=wholesale)


async def test_what_another_front_end_began_for_her_is_none_of_this_ones(shopping: World) -> None:
    """Both begin tasks of one type, each has a client of its own, and she is a customer of both."""
    files = shop()
    service = f'\n[[service]]\nspiffe_id = "{APP}"\ntenants = ["retail"]\n'
    entry = f'    {{ front_end = "{CHAT}", issuer = "{SHOP}", audience = "{FOR_CHAT}" }},\n'
    more = entry + entry.replace(CHAT, APP).replace(FOR_CHAT, "app-client")
    files = replaced("entities.toml", entry, more, added("entities.toml", service, files))
    begun_by = f'begun_by = ["agent", "{CHAT}"'
    files = replaced("entities.toml", begun_by, f'{begun_by}, "{APP}"', files)
    rule = files["broker.cedar"].decode().partition('@id("chat-brings-')[2].partition(";")[0].replace(CHAT, APP)
    await change(shopping, added("broker.cedar", f'@id("app-brings-{rule};\n', files))
    asked, approval = await held_for(shopping)
    there = token_of(shopping, aud="app-client")
    assert await shown_to(shopping, there, APP) == []
    call = ApprovalCall(context=context(shopping, APP, there), approval=approval, text="no")
    for answer in (say_yes(shopping, approval, there, who=APP), shopping.issuer.deny(call)):
        assert await refusal_of(answer) is UNKNOWN
    await say_yes(shopping, approval, token_of(shopping))
    await shopping.granted(**asked, approval=approval)


async def test_a_person_whom_only_the_agent_names_confirms_nothing(shopping: World) -> None:
    asked = await payout(shopping, on_behalf_of=named(KATE))
    approval = await shopping.held(**asked)
    token = token_of(shopping)
    assert await shown_to(shopping, token) == []
    assert await refusal_of(say_yes(shopping, approval, token)) is UNKNOWN


async def test_one_token_a_hundred_times_at_once_gives_one_credential(shopping: World) -> None:
    asked, approval = await held_for(shopping)
    token = token_of(shopping)
    answers = await asyncio.gather(
        *(say_yes(shopping, approval, token) for _ in range(100)),
        *(shopping.exchange(**asked, approval=approval) for _ in range(100)),
        return_exceptions=True,
    )
    answers += await asyncio.gather(*(shopping.exchange(**asked, approval=approval) for _ in range(100)))
    assert len([each for each in answers if isinstance(each, Credential)]) == 1
    assert len(await events(shopping, "approval.approved")) == 1
    assert len(await events(shopping, "credential.granted")) == 1
    assert await refusal_of(say_yes(shopping, approval, token)) is Reason.APPROVAL_USED


async def test_one_customers_flood_holds_up_nobody_else(tmp_path: Path) -> None:
    async with opened(tmp_path, shop()) as world:
        task = await begun_for(world, named(KATE))
        for number in range(MOST_PENDING):
            await world.held(**await payout(world, task=task.id, parameters={"account": f"{number}"}))
        more = await begun_for(world, named(KATE))
        assert (await world.refused(**await payout(world, task=more.id))).reason is Reason.LIMIT_APPROVALS
        asked, approval = await held_for(world, LIAM)
        await say_yes(world, approval, token_of(world, LIAM))
        await world.granted(**asked, approval=approval)
        unsaid = [await world.held(**await payout(world)) for _ in range(MOST_PENDING)]  # whose person nobody knows
        assert (await world.refused(**await payout(world))).reason is Reason.LIMIT_APPROVALS
        await change(world, shop(USER, GROUP))  # what waits for a group is counted with what is asked of the house
        last = await begun_for(world, named("7003"))
        assert (await world.refused(**await payout(world, task=last.id))).reason is Reason.LIMIT_APPROVALS
        await world.withdraw(unsaid[0])
        await world.held(**await payout(world, task=last.id))
        assert (await world.refused(**await payout(world))).reason is Reason.LIMIT_APPROVALS


async def test_a_stream_shows_a_customer_what_changes_of_theirs(shopping: World) -> None:
    token = token_of(shopping)
    page = await shopping.issuer.approval_page(ApprovalPageCall(context=context(shopping, CHAT, token)))
    _, mine = await held_for(shopping)
    _, theirs = await held_for(shopping, LIAM)

    async def following(token: str) -> list[str]:
        call = ApprovalPageCall(context=context(shopping, CHAT, token), cursor=page.page.cursor)
        return [each.id for each in (await shopping.issuer.approval_page(call)).approvals]

    assert await following(token) == [mine]
    with pytest.raises(Refusal) as raised:  # a place in her stream is none in his
        await following(token_of(shopping, LIAM))
    assert raised.value.reason is Reason.CURSOR_FOREIGN
    assert theirs


async def test_what_a_customer_says_nothing_else_hears(shopping: World) -> None:
    """Nothing but approvals takes a customer's word; the chat is asked what it may do itself, and it may not."""
    task = await begun_for(shopping, named(KATE))
    stopped = await shopping.stop("agent", SUPPORT)
    them = context(shopping, CHAT, token_of(shopping))
    issuer, rule = shopping.issuer, Rule(kind=RuleKind.TASK, name=task.id)
    for call in (
        issuer.resume_task(ResumeTaskCall(context=them, task=task.id, text="please")),
        issuer.lift_override(LiftOverrideCall(context=them, override=stopped.override, text="please")),
        issuer.impose_override(ImposeCall(context=them, stop=Stop(kind=StopKind.EVERYTHING), text="please")),
        issuer.revoke(RevokeCall(context=them, rule=rule, text="please")),
    ):
        reason = await refusal_of(call)
        assert reason in {
            Reason.POLICY_NOT_PERMITTED,
            Reason.TENANT_REFUSED,
        }
    await shopping.let_go_on(stopped.override, DUTY)
    await shopping.revoke("task", task.id)


# --- what the bundle says -------------------------------------------------------------------------------------------


async def test_the_front_end_has_to_be_let_bring_it(shopping: World) -> None:
    files = shop(people=True)  # it may bring what people of the house say
    rule = b'action == Action::"broker.approval.confirm"'
    start = files["broker.cedar"].index(b'@id("chat-brings-the-word-of-its-customers")')
    at = files["broker.cedar"].index(rule, start)
    less = files["broker.cedar"][:at] + b'action == Action::"broker.task.end"' + files["broker.cedar"][at + len(rule) :]
    await change(shopping, {**files, "broker.cedar": less})
    _, approval = await held_for(shopping)
    token = token_of(shopping)
    assert await shown_to(shopping, token) == []
    assert await refusal_of(say_yes(shopping, approval, token)) is UNKNOWN
    await change(shopping, files)
    await say_yes(shopping, approval, token)


async def test_a_type_that_takes_customers_no_more_counts_no_yes_of_theirs(shopping: World) -> None:
    asked, approval = await held_for(shopping)
    await say_yes(shopping, approval, token_of(shopping))
    files = shop()
    entry = f'    {{ front_end = "{CHAT}", issuer = "{SHOP}", audience = "{FOR_CHAT}" }},\n'.encode()
    assert files["entities.toml"].count(entry) == 1
    await change(shopping, {**files, "entities.toml": files["entities.toml"].replace(entry, b"")})
    refusal = await shopping.refused(**asked, approval=approval)
    assert refusal.reason is Reason.STEP_UP_REQUIRED
    assert await refusal_of(say_yes(shopping, approval, token_of(shopping))) is BAD
    await change(shopping, files)
    await shopping.granted(**asked, approval=approval)


async def test_a_customer_who_gets_into_the_bundle_meanwhile_is_the_same_person(shopping: World) -> None:
    asked, approval = await held_for(shopping)
    await say_yes(shopping, approval, token_of(shopping))
    await change(shopping, knowing_kate(shop()))
    assert (await say_yes(shopping, approval, token_of(shopping))).position is None, "said already"
    await shopping.granted(**asked, approval=approval)


async def test_what_was_said_is_remembered_across_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path, shop()) as world:
        asked, approval = await held_for(world)
        await say_yes(world, approval, token_of(world))
    async with opened(tmp_path) as again:
        again.domains, again.trusted = world.domains, world.trusted
        await again.granted(**asked, approval=approval)
