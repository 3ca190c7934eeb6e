"""Views of the log by tenant: each reader its own, whole and without gaps, for as long as policy lets it read."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from broker.client import Denied, OutOfRange, RefusedError, follow_audit
from broker.v1 import audit_pb2
from tests.attacks.entrances import audit, begin_task, exchange, first, outcome, request, revocations, revoke
from tests.attacks.house import House
from tests.attacks.readers import session
from tests.operations.world import RETAIL_DESK, SECURITY, SUPPORT, WHOLESALE

WHOLESALE_DESK = "spiffe://example.org/operator/wholesale-desk"
RETAIL = audit_pb2.AuditFilter(tenant="retail")
THEIRS = audit_pb2.AuditFilter(tenant="wholesale")
OF_TENANT: dict[str, tuple[str, audit_pb2.AuditFilter]] = {
    "retail": (RETAIL_DESK, RETAIL),
    "wholesale": (WHOLESALE_DESK, THEIRS),
}


def with_two_desks(texts: dict[str, str]) -> Mapping[str, str]:
    """Give the other tenant a desk of its own, that reads with personal values."""
    desk = f'\n[[operator]]\nspiffe_id = "{WHOLESALE_DESK}"\nroles = ["their-desk"]\ntenants = ["wholesale"]\n'
    rule = """
@id("their-desk-reads-its-tenants-audit-log")
permit (
    principal in Role::"their-desk",
    action in [Action::"broker.audit.read", Action::"broker.audit.read_personal"],
    resource is Log in Tenant::"wholesale"
);
"""
    return {
        "entities.toml": texts["entities.toml"] + desk,
        "broker.cedar": texts["broker.cedar"] + rule,
    }


def of_agents(texts: dict[str, str]) -> str:
    """Leave the golden cases that are not about operators: those are about to change."""
    head, *cases = texts["golden.toml"].split("[[case]]\n")
    return "[[case]]\n".join([head, *(case for case in cases if "/operator/" not in case)])


def without(rule: str) -> Callable[[dict[str, str]], Mapping[str, str]]:
    """Take one rule out of the bundle."""

    def change(texts: dict[str, str]) -> Mapping[str, str]:
        head, _, rest = texts["broker.cedar"].partition(f'@id("{rule}")')
        assert rest
        return {"broker.cedar": head + rest.partition(");\n")[2], "golden.toml": of_agents(texts)}

    return change


@dataclass(kw_only=True)
class View:
    """What one reader was shown, with the ranges that it was told of."""

    events: list[dict[str, Any]] = field(default_factory=list)
    openings: int = 0
    reached: int | None = None
    cursor: str = ""

    def take(self, message: audit_pb2.SubscribeAuditResponse) -> None:
        assert self.reached is None or message.from_position == self.reached, "the ranges have a gap"
        self.reached, self.cursor = message.to_position, message.cursor
        for event in message.events:
            self.events.append({"position": event.position} | json.loads(event.event))
            self.openings += len(event.openings)


@pytest.fixture
async def house(own_house: House) -> House:
    await own_house.policy(with_two_desks)
    return own_house


async def work_in_both(house: House) -> None:
    for who in (SUPPORT, WHOLESALE):
        task = (await begin_task(house.good(who))).task.task_id
        await exchange(house.good(who), request(task_id=task, request_id=f"r-{task}"))
        given = (await exchange(house.good(who), request())).credential
        await revoke(house.good(SECURITY), credential_id=given.credential_id)
        await outcome(exchange(house.good(who), request(action="order.refund")))  # refused


async def shown(house: House, who: str, wanted: audit_pb2.AuditFilter, **more: Any) -> View:
    view = View()
    async for message in audit(house.good(who), filter=wanted, **more):
        view.take(message)
    return view


async def test_each_desk_sees_its_own_events_all_of_them_and_nothing_else(house: House) -> None:
    await work_in_both(house)
    log = await house.log(whole=True)
    for tenant, (desk, wanted) in OF_TENANT.items():
        view = await shown(house, desk, wanted)
        theirs = [event["position"] for event in log if event.get("tenant") == tenant]
        assert [event["position"] for event in view.events] == theirs
        kinds = {event["type"] for event in view.events}
        assert kinds >= {"task.begun", "credential.granted", "exchange.refused", "revocation.made"}
        assert view.reached is not None
        assert view.reached > max(theirs)
    assert sum(1 for event in log if "tenant" in event) < len(log), "some are of no tenant, and no desk sees them"


async def test_a_cursor_is_good_for_its_reader_and_its_filter(house: House) -> None:
    await work_in_both(house)
    ours = (await first(audit(house.good(RETAIL_DESK), filter=RETAIL))).cursor
    tries = {
        "the other desk": audit(house.good(WHOLESALE_DESK), ours, filter=THEIRS),
        "one who may see all": audit(house.good(SECURITY), ours, filter=RETAIL),
    }
    for who, call in tries.items():
        assert (await outcome(first(call))).reason == "CURSOR_FOREIGN", who
    told = await outcome(first(audit(house.good(WHOLESALE_DESK), ours, filter=RETAIL)))
    assert told.reason == "TENANT_REFUSED"
    narrower = audit_pb2.AuditFilter(tenant="retail", kinds=["task.begun"])
    assert (await outcome(first(audit(house.good(RETAIL_DESK), ours, filter=narrower)))).reason == "CURSOR_FOREIGN"
    assert await first(audit(house.good(RETAIL_DESK), ours, filter=RETAIL))


async def test_personal_values_are_shown_to_whom_policy_allows_and_of_its_tenant_only(house: House) -> None:
    await work_in_both(house)
    assert (await outcome(first(audit(house.good(RETAIL_DESK), filter=RETAIL, personal=True)))).reason == (
        "POLICY_NOT_PERMITTED"
    )
    assert (await shown(house, RETAIL_DESK, RETAIL)).openings == 0
    assert (await shown(house, WHOLESALE_DESK, THEIRS)).openings == 0, "nobody is shown what it did not ask for"
    allowed = await shown(house, WHOLESALE_DESK, THEIRS, personal=True)
    assert allowed.openings > 0
    assert {event["tenant"] for event in allowed.events} == {"wholesale"}
    told = await outcome(first(audit(house.good(WHOLESALE_DESK), filter=RETAIL, personal=True)))
    assert told.reason == "TENANT_REFUSED"


@asynccontextmanager
async def following(house: House, who: str, **wanted: Any) -> AsyncIterator[tuple[Any, View]]:
    """Follow by the SDK, as somebody; what is there has come, in one message."""
    async with session(house, who) as opened, follow_audit(opened, **wanted) as subscriber:
        view, messages = View(), subscriber.messages()
        view.take((await anext(messages)).value[0])
        yield messages, view


async def ended_by(messages: Any) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        async for _ in messages:
            pass
    return refused.value


async def test_a_swap_of_the_bundle_ends_a_view_and_its_cursor_goes_on_when_the_right_is_back(house: House) -> None:
    await work_in_both(house)
    texts = {path.name: path.read_text() for path in house.settings.policy.dir.iterdir() if path.is_file()}
    async with following(house, RETAIL_DESK, wanted=RETAIL) as (messages, view):
        await house.policy(without("desk-reads-its-tenants-audit-log"))
        refusal = await ended_by(messages)
        assert isinstance(refusal, Denied)
        assert getattr(refusal.reason, "name", "") == "POLICY_NOT_PERMITTED"
    assert (await outcome(first(audit(house.good(RETAIL_DESK), filter=RETAIL)))).reason == "POLICY_NOT_PERMITTED"
    assert await first(audit(house.good(WHOLESALE_DESK), filter=THEIRS)), "the other desk reads on"
    await work_in_both(house)
    await house.policy(lambda _: texts)
    known = len(view.events)
    async for message in audit(house.good(RETAIL_DESK), view.cursor, filter=RETAIL):
        view.take(message)  # which sees that nothing is missing between the two
    assert len(view.events) > known
    whole = await shown(house, RETAIL_DESK, RETAIL)
    assert [event["position"] for event in view.events] == [event["position"] for event in whole.events]


async def test_a_swap_that_takes_personal_values_away_ends_the_stream_that_shows_them(house: House) -> None:
    await work_in_both(house)
    async with (
        following(house, SECURITY, personal=True) as (messages, with_them),
        following(house, SECURITY) as (plain, without_them),
    ):
        assert with_them.openings > 0
        assert without_them.openings == 0
        await house.policy(
            lambda texts: {
                "broker.cedar": texts["broker.cedar"].replace(
                    '[Action::"broker.audit.read", Action::"broker.audit.read_personal"],\n    resource is Log\n',
                    '[Action::"broker.audit.read"],\n    resource is Log\n',
                ),
                "golden.toml": of_agents(texts),
            }
        )
        assert isinstance(await ended_by(messages), Denied)
        await work_in_both(house)
        received = await anext(plain)
        assert received.value[1], "whoever asked for less reads on"


async def test_a_desk_that_changes_its_tenant_does_not_take_its_place_along(house: House) -> None:
    await work_in_both(house)
    cursor = (await first(audit(house.good(RETAIL_DESK), filter=RETAIL))).cursor
    async with following(house, RETAIL_DESK, wanted=RETAIL) as (messages, _):
        await house.policy(
            lambda texts: {
                "entities.toml": texts["entities.toml"].replace(
                    'roles = ["desk"]\ntenants = ["retail"]', 'roles = ["desk", "their-desk"]\ntenants = ["wholesale"]'
                ),
                "golden.toml": of_agents(texts),
            }
        )
        assert getattr((await ended_by(messages)).reason, "name", "") == "TENANT_REFUSED"
    assert (await shown(house, RETAIL_DESK, THEIRS)).events
    async with session(house, RETAIL_DESK) as opened:
        with pytest.raises(OutOfRange, match="CURSOR_FOREIGN"):
            async for _ in opened.subscribe_audit(wanted=THEIRS, cursor=cursor):
                pass


async def test_a_reader_that_is_revoked_is_told_at_once_though_it_holds_nothing(house: House) -> None:
    """The rule ends no credential: what wakes its stream is that a rule came into force."""
    call = revocations(house.good(WHOLESALE), timeout=None)
    await call.read()
    await revoke(house.good(SECURITY), agent=WHOLESALE)
    told = await outcome(_drained(call))
    assert told.reason == "AGENT_REVOKED"


async def _drained(call: Any) -> None:
    while await call.read():
        pass
