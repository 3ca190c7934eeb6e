"""What services report of the credentials that are for them: each once, and nobody else's."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.audit.event import Opening
from broker.errors import Reason, Refusal
from broker.outcome import Report
from broker.store.interface import Answer, Item
from broker.store.sqlite.store import SqliteStore
from broker.trail import Trail
from tests.operations.limiting import bundle, change
from tests.operations.world import ORDERS, RETAIL_DESK, SECURITY, SUPPORT, World, open_world, said

CHAT = "spiffe://example.org/service/chat"
CALL = "sha-256:" + "C" * 43
THIEF = "spiffe://example.org/agent/thief"
REFUND: dict[str, Any] = {"action": "order.refund", "parameters": {"amount": 4200, "currency": "EUR"}}


async def given(world: World, **changes: Any) -> str:
    """Return the id of a fresh credential for the orders service."""
    return (await world.granted(**changes)).grant.credential_id


async def events(world: World, *kinds: str) -> list[dict[str, Any]]:
    return [
        json.loads(event.content) | {"opened": opened(event.openings)}
        for event in await world.events(personal=True, kinds=kinds)
    ]


def opened(openings: tuple[Opening, ...]) -> dict[str, Any]:
    return {each.field: json.loads(each.value) for each in openings}


def reasons(answers: tuple[int | Refusal, ...]) -> list[Reason | None]:
    return [answer.reason if isinstance(answer, Refusal) else None for answer in answers]


async def accepted(world: World, credential: str) -> Report:
    """Report a use, and return the report."""
    use = said("accepted", credential)
    assert reasons(await world.report(use)) == [None]
    return use


async def dead(world: World) -> set[str]:
    page = await world.revocations(SUPPORT)
    assert page.snapshot is not None
    return set(page.snapshot.credential_ids)


# --- what is recorded -----------------------------------------------------------------------------------------------


async def test_a_use_its_outcome_and_a_refusal_are_each_an_event(world: World) -> None:
    task = await world.begin()
    credential = await given(world, task=task.id)
    use = said("accepted", credential, call_digest=CALL)
    done = said("done", use=use, reference="refund-77", call_digest=CALL)
    refused = said("refused", credential, reason="TOKEN_HOLDER_MISMATCH", presented_by=THIEF)
    undone = said("rolled_back", use=use, reference="refund-77", rolled_back_by="clerk 9")
    answers = await world.report(use, done, refused, undone, said("dropped", count=3))
    found = await events(world, "usage.accepted", "usage.refused", "outcome.reported", "reports.dropped")
    assert [event["type"] for event in found] == [
        "usage.accepted", "outcome.reported", "usage.refused", "outcome.reported", "reports.dropped",
    ]  # fmt: skip
    assert len(set(answers)) == 5
    for event in found[:-1]:
        assert (event["spiffe_id"], event["agent"], event["tenant"]) == (ORDERS, SUPPORT, "retail")
        assert (event["task"], event["credential"]) == (task.id, credential)
        assert event["decision"]["policies"] == ["services-report-their-own-outcomes"]
    assert found[0]["use"] == found[1]["use"] == found[3]["use"] == use.id
    assert (found[1]["outcome"], found[3]["outcome"]) == ("done", "rolled_back")
    assert (found[2]["reason"], found[2]["presented_by"]) == ("TOKEN_HOLDER_MISMATCH", THIEF)
    assert found[4]["count"] == 3
    assert found[0]["opened"]["call_digest"] == CALL
    assert found[3]["opened"] | {"source": ""} == {
        "reference": "refund-77", "rolled_back_by": "clerk 9", "source": "",
    }  # fmt: skip
    assert "refund-77" not in json.dumps([{**event, "opened": {}} for event in found])


async def test_the_trail_stands_in_the_log_behind_a_commitment_and_nowhere_else(world: World) -> None:
    trail = Trail(prompt_reference="message 12", prompt_digest=CALL, tool_call_reference="call-1")
    with_it = await world.granted(trail=trail)
    without = await world.granted()
    assert with_it.grant.intent_digest == without.grant.intent_digest, "it is no part of the intent"
    await world.refused(action="order.refund", trail=trail)
    granted, plain = await events(world, "credential.granted")
    (refusal,) = await events(world, "exchange.refused")
    for event in (granted, refusal):
        assert event["opened"]["trail"] == {
            "prompt_reference": "message 12", "prompt_digest": CALL, "tool_call_reference": "call-1",
        }  # fmt: skip
        assert "message 12" not in json.dumps({**event, "opened": {}})
    assert "trail" not in plain["opened"]


@pytest.mark.parametrize("member", ["prompt_reference", "tool_call_reference"])
@pytest.mark.parametrize("text", ["two\nlines", "\u202edrawn backwards", "x" * 257, "\u200b"])
def test_a_reference_shows_as_what_it_is(member: str, text: str) -> None:
    with pytest.raises(Refusal) as caught:
        Trail(**{member: text})
    assert (caught.value.reason, caught.value.detail) == (Reason.REQUEST_INVALID, f"trail.{member}")
    assert Trail(**{member: "message 12"}).to_json() == {member: "message 12"}


@pytest.mark.parametrize(
    "text", ["Alice Smith, 12 Long Lane", "spiffe://example.org/agent/\u202e", "x" * 2048, "\x1b[2J"]
)
def test_who_showed_a_credential_is_a_spiffe_id_or_nobody(text: str) -> None:
    """It stands in the event for everybody who may read it: no place for what a service would like to write there."""
    with pytest.raises(Refusal) as caught:
        said("refused", "cred_1", reason="TOKEN_EXPIRED", presented_by=text)
    assert (caught.value.reason, caught.value.detail) == (Reason.REQUEST_INVALID, "refused.presented_by")
    for control in (THIEF, ""):
        assert said("refused", "cred_1", reason="TOKEN_EXPIRED", presented_by=control).presented_by == control


# --- once -------------------------------------------------------------------------------------------------------------


async def test_a_report_that_is_sent_again_is_answered_as_it_was(world: World) -> None:
    use = await accepted(world, await given(world))
    done = said("done", use=use)
    first = await world.report(done)
    assert await world.report(use, done) == await world.report(use, done)
    assert (await world.report(done)) == first
    assert len(await events(world, "usage.accepted", "outcome.reported")) == 2


async def test_a_report_counts_once_across_a_restart(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        use = await accepted(world, await given(world))
        first = await world.report(use)
    async with open_world(tmp_path) as world:
        assert await world.report(use) == first
        assert len(await events(world, "usage.accepted")) == 1


async def test_another_report_under_the_same_id_is_refused(world: World) -> None:
    use = await accepted(world, await given(world))
    other = await given(world)
    for report in (replace(use, credential=other), replace(use, at=use.at + timedelta(seconds=1))):
        assert reasons(await world.report(report)) == [Reason.REPORT_ID_REUSED]
    again = said("accepted", other)
    assert reasons(await world.report(again, again)) == [None, Reason.REPORT_ID_REUSED], "twice in one message"
    assert len(await events(world, "usage.accepted")) == 2


# --- whose ------------------------------------------------------------------------------------------------------------


async def test_another_services_credential_is_as_unknown_as_none(world: World) -> None:
    credential = await given(world)
    nobodys = "cred_0190a0a0-0000-7000-8000-000000000000"
    theirs, none = await world.report(said("accepted", credential), said("accepted", nobodys), who=CHAT)
    assert isinstance(theirs, Refusal)
    assert isinstance(none, Refusal)
    assert (theirs.reason, theirs.detail) == (none.reason, none.detail) == (Reason.CREDENTIAL_UNKNOWN, "")
    assert await events(world, "usage.accepted") == []
    assert reasons(await world.report(said("accepted", credential))) == [None], "the control"


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        (SUPPORT, Reason.TENANT_REFUSED),
        (SECURITY, Reason.POLICY_NOT_PERMITTED),
        (RETAIL_DESK, Reason.TENANT_REFUSED),
        ("spiffe://example.org/agent/nobody", Reason.PRINCIPAL_UNKNOWN),
    ],
)
async def test_only_services_report(world: World, who: str, reason: Reason) -> None:
    credential = await given(world)
    with pytest.raises(Refusal) as caught:
        await world.report(said("accepted", credential), who=who)
    assert caught.value.reason is reason
    assert await events(world, "usage.accepted") == []


async def test_one_that_is_refused_harms_no_neighbour(world: World) -> None:
    credential = await given(world)
    use = said("accepted", credential)
    answers = await world.report(said("accepted", "cred_none"), use, said("done", use=said("accepted", credential)))
    assert reasons(answers) == [Reason.CREDENTIAL_UNKNOWN, None, Reason.USE_UNKNOWN]
    refusals = await events(world, "request.refused")
    assert {event["reason"] for event in refusals} == {"CREDENTIAL_UNKNOWN", "USE_UNKNOWN"}


# --- what fits --------------------------------------------------------------------------------------------------------


async def test_an_outcome_without_a_use_is_refused(world: World) -> None:
    credential, other = await given(world), await given(world)
    use = await accepted(world, credential)
    forged = {
        "of no use": said("done", use=said("accepted", credential)),
        "of a use of another credential": replace(said("done", use=use), credential=other),
        "of a refusal": said("done", use=await _refusal(world, credential)),
    }
    for name, report in forged.items():
        assert reasons(await world.report(report)) == [Reason.USE_UNKNOWN], name
    assert reasons(await world.report(said("done", use=use))) == [None]


async def _refusal(world: World, credential: str) -> Report:
    report = said("refused", credential, reason="TOKEN_EXPIRED")
    assert reasons(await world.report(report)) == [None]
    return report


FOLLOWS = {
    ("done", "rolled_back"): None,
    ("unknown", "done"): None,
    ("unknown", "failed"): None,
    ("unknown", "rolled_back"): None,
    ("done", "failed"): Reason.OUTCOME_CONTRADICTED,
    ("done", "done"): Reason.OUTCOME_CONTRADICTED,
    ("done", "unknown"): Reason.OUTCOME_CONTRADICTED,
    ("failed", "done"): Reason.OUTCOME_CONTRADICTED,
    ("failed", "failed"): Reason.OUTCOME_CONTRADICTED,
    ("rolled_back", "done"): Reason.OUTCOME_CONTRADICTED,
    ("rolled_back", "rolled_back"): Reason.OUTCOME_CONTRADICTED,
}


@pytest.mark.parametrize("pair", FOLLOWS, ids="-then-".join)
async def test_what_may_follow_what(world: World, pair: tuple[str, str]) -> None:
    use = await accepted(world, await given(world))
    first, second = (said(kind, use=use) for kind in pair)
    assert reasons(await world.report(first, second)) == [None, FOLLOWS[pair]]


# --- nothing happened -------------------------------------------------------------------------------------------------


async def test_when_nothing_came_of_it_the_credential_ends(world: World) -> None:
    credential = await given(world)
    use = await accepted(world, credential)
    await world.report(said("failed", use=use))
    assert await dead(world) == {credential}
    (event,) = await events(world, "outcome.reported")
    assert (event["outcome"], event["revoked"]) == ("failed", 1)
    assert event["status_indexes"].keys() == {ORDERS}


@pytest.mark.parametrize("other", ["done", "unknown", ""])
async def test_a_credential_of_which_something_came_goes_on(world: World, other: str) -> None:
    credential = await given(world)
    one, two = await accepted(world, credential), await accepted(world, credential)
    if other:
        await world.report(said(other, use=two))
    await world.report(said("failed", use=one))
    assert await dead(world) == set()
    if other != "done":  # the control: nothing came of the other one either
        await world.report(said("failed", use=two))
        assert await dead(world) == {credential}


async def test_one_message_with_two_uses_and_one_failure_ends_nothing(world: World) -> None:
    """The uses of one message count before the outcome that follows them in it."""
    credential = await given(world)
    one, two = said("accepted", credential), said("accepted", credential)
    await world.report(one, two, said("failed", use=one))
    assert await dead(world) == set()


async def test_many_failures_are_one_transaction(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service whose every call fails must not hold the issuer up with a commit a report."""
    uses = [said("accepted", await given(world)) for _ in range(4)]
    commits, commit = [0], SqliteStore.commit

    def counted(store: SqliteStore, items: Sequence[Item]) -> Sequence[Answer]:
        commits[0] += 1
        return commit(store, items)

    monkeypatch.setattr(SqliteStore, "commit", counted)
    message = [report for use in uses for report in (use, said("failed", use=use))]
    assert reasons(await world.report(*message)) == [None] * 8
    assert commits == [1]
    assert await dead(world) == {use.credential for use in uses}


async def test_what_was_charged_is_given_back_once(world: World) -> None:
    """The limit of one refund a task is free again when nothing came of the first, and it is free once."""
    await change(world, bundle({"per": "task", "max": 1}))
    task = await world.begin()
    credential = await given(world, task=task.id, **REFUND)
    assert (await world.refused(task=task.id, **REFUND)).reason is Reason.LIMIT_REACHED
    use = await accepted(world, credential)
    unknown, failed = said("unknown", use=use), said("failed", use=use)
    await world.report(unknown)
    assert (await world.refused(task=task.id, **REFUND)).reason is Reason.LIMIT_REACHED, "it may have happened"
    await world.report(failed)
    assert await dead(world) == {credential}
    second = await given(world, task=task.id, **REFUND)
    for _ in range(3):  # the answer was lost, and the report is sent again
        await world.report(failed)
        assert (await world.refused(task=task.id, **REFUND)).reason is Reason.LIMIT_REACHED
    theirs = await accepted(world, second)
    assert reasons(await world.report(said("failed", use=theirs), who=CHAT)) == [Reason.CREDENTIAL_UNKNOWN]
    assert (await world.refused(task=task.id, **REFUND)).reason is Reason.LIMIT_REACHED, "it was not theirs to say"


# --- late -------------------------------------------------------------------------------------------------------------


async def _forget(world: World) -> None:
    while await world.stored(lambda store: store.forget_expired(world.time())):
        pass


async def test_an_outcome_comes_hours_after_the_credential_is_over(world: World) -> None:
    for who in (ORDERS, SECURITY, CHAT):  # whose SVIDs last that long
        world.long_lived(who)
    credential = await given(world)
    use = await accepted(world, credential)
    world.time.ahead = timedelta(hours=20)
    await _forget(world)
    assert await world.stored(lambda store: store.grant(credential)) is None, "it is forgotten as a grant"
    late = said("accepted", credential)
    assert reasons(await world.report(said("done", use=use), late, use)) == [None, None, None]
    assert reasons(await world.report(said("accepted", credential), who=CHAT)) != [None]
    assert len(await events(world, "usage.accepted")) == 2
