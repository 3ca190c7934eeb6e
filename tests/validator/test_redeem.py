"""What is good once: spent at the broker last of all, before its handler runs, and by no other way."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

import grpc
import pytest

from broker.errors import Reason, Refusal
from broker.intent import Resource, call_digest
from broker.scope import OneOf, Scope
from broker.validator import Call, Guard, reads, verified_token
from broker.validator.redeem import Redeemer
from tests.fakes.redemptions import FakeRedemptions, Plan, redeeming
from tests.polling import eventually
from tests.unit.credential.samples import AUDIENCE, CREDENTIAL
from tests.validator.test_asgi import Front
from tests.validator.test_interceptor import GOOD, Service, World, ask, bearer, begin, serving, world

EXACT = Scope(
    actions=frozenset({"order.refund"}),
    resource=Resource(type="order", id="1234"),
    constraints={"amount": OneOf(values=(5000,)), "currency": OneOf(values=("EUR",))},
    audience=AUDIENCE,
)
CALL = begin(GOOD)
DIGEST = call_digest(action=CALL.action, resource=CALL.resource, tenant=CALL.tenant, parameters=CALL.parameters)


@dataclass
class Spent(Service):
    """The service behind the guard; it remembers the redemptions that its handlers find."""

    redemptions: list[int | None] = field(default_factory=list)

    async def BeginTask(self, request: Any, context: object) -> Any:  # noqa: N802 - the stub's name
        self.redemptions.append(verified_token().redemption)
        return await super().BeginTask(request, context)


@dataclass
class Redeeming(World):
    """A service that can spend what is good once."""

    redeemer: Redeemer | None = None
    service: Spent = field(default_factory=Spent)

    def guard(self) -> Guard:
        plain = super().guard()
        return Guard(
            validator=plain.validator,
            authenticator=plain.authenticator,
            bundles=plain.bundles,
            clock=plain.clock,
            redeemer=self.redeemer,
        )

    def once(self, **changes: object) -> str:
        return self.token(**{"use": "once", "scope": EXACT} | changes)  # type: ignore[arg-type]  # a grant's own


@asynccontextmanager
async def with_broker(*plans: Plan, within: float = 10.0) -> AsyncIterator[tuple[Redeeming, FakeRedemptions]]:
    async with redeeming(*plans) as (fake, channel):
        given, numbers = world(), count(1)
        redeemer = Redeemer(
            channel=channel, new_key=lambda: f"key-number-{next(numbers):08}", jitter=lambda: 0.0, within=within
        )
        yield Redeeming(given.domain, given.server, given.caller, given.now, redeemer=redeemer), fake


async def test_it_is_redeemed_for_its_call_and_the_handler_finds_the_redemption() -> None:
    async with with_broker() as (given, fake), serving(given):
        answer = await ask(given, bearer(given.once()))
    assert answer.code is grpc.StatusCode.OK
    (asked,) = fake.asked
    assert (asked.credential_id, asked.call_digest) == (CREDENTIAL, DIGEST)
    assert (given.service.handled, given.service.redemptions) == ([CREDENTIAL], [1])


async def test_each_attempt_at_a_call_has_a_key_of_its_own_and_is_redeemed_anew() -> None:
    async with with_broker(None, Reason.CREDENTIAL_SPENT) as (given, fake), serving(given):
        token = given.once()
        first, second = await ask(given, bearer(token)), await ask(given, bearer(token))
    assert first.code is grpc.StatusCode.OK
    assert (second.code, second.reason) == (grpc.StatusCode.PERMISSION_DENIED, "CREDENTIAL_SPENT")
    assert len({asked.idempotency_key for asked in fake.asked}) == 2
    assert given.service.handled == [CREDENTIAL]


async def test_what_may_be_used_many_times_asks_nobody() -> None:
    async with with_broker() as (given, fake), serving(given, reads(begin)):
        for _ in range(3):
            assert (await ask(given, bearer(given.token()))).code is grpc.StatusCode.OK
    assert fake.asked == []
    assert given.service.redemptions == [None] * 3


LESS = Scope(
    actions=EXACT.actions,
    resource=EXACT.resource,
    constraints=dict(EXACT.constraints) | {"amount": OneOf(values=(4999,))},
    audience=AUDIENCE,
)


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        (
            "TOKEN_EXPIRED",
            lambda given: {"issued_at": given.now - timedelta(minutes=5), "expires_at": given.now},
        ),
        ("TOKEN_TENANT_MISMATCH", lambda _: {"tenant": "wholesale"}),
        ("TOKEN_SCOPE_EXCEEDED", lambda _: {"scope": LESS}),
    ],
)
async def test_what_is_refused_here_is_not_spent(
    reason: str, changes: Callable[[Redeeming], dict[str, object]]
) -> None:
    async with with_broker() as (given, fake), serving(given):
        answer = await ask(given, bearer(given.once(**changes(given))))
        assert answer.reason == reason
        assert (fake.asked, given.service.handled) == ([], [])
        assert (await ask(given, bearer(given.once()))).code is grpc.StatusCode.OK


async def test_what_is_revoked_in_the_own_view_is_not_even_asked_about() -> None:
    async with with_broker() as (given, fake), serving(given):
        given.hear(7)
        assert (await ask(given, bearer(given.once()))).reason == "TOKEN_REVOKED"
    assert fake.asked == []


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.CREDENTIAL_SPENT, grpc.StatusCode.PERMISSION_DENIED),
        (Reason.CREDENTIAL_REVOKED, grpc.StatusCode.PERMISSION_DENIED),
        (Reason.AGENT_REVOKED, grpc.StatusCode.PERMISSION_DENIED),
        (Reason.OVERRIDE_IN_FORCE, grpc.StatusCode.PERMISSION_DENIED),
        (Reason.TASK_ENDED, grpc.StatusCode.FAILED_PRECONDITION),
        (Reason.TOKEN_EXPIRED, grpc.StatusCode.UNAUTHENTICATED),
    ],
)
async def test_what_the_broker_says_of_the_credential_the_caller_is_told(reason: Reason, code: grpc.StatusCode) -> None:
    async with with_broker(reason) as (given, fake), serving(given):
        answer = await ask(given, bearer(given.once()))
    assert (answer.code, answer.reason) == (code, reason.name)
    assert (len(fake.asked), given.service.handled) == (1, [])


@pytest.mark.parametrize(
    "plan",
    [
        Reason.POLICY_NOT_PERMITTED,
        Reason.PRINCIPAL_UNKNOWN,
        Reason.SVID_EXPIRED,
        Reason.CREDENTIAL_UNKNOWN,
        Reason.REDEMPTION_NOT_NEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
    ],
    ids=lambda plan: plan.name,
)
async def test_what_is_the_services_own_trouble_is_not_the_callers(plan: Plan) -> None:
    async with with_broker(plan) as (given, fake), serving(given):
        answer = await ask(given, bearer(given.once()))
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "REDEMPTION_UNAVAILABLE")
    assert (len(fake.asked), given.service.handled) == (1, [])


@pytest.mark.parametrize(
    "plans",
    [
        (grpc.StatusCode.UNAVAILABLE,),
        (Reason.ISSUER_UNAVAILABLE, Reason.LIMIT_BUSY),
        (Reason.AUDIT_UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
    ids=str,
)
async def test_a_lost_answer_is_asked_for_again_with_the_same_key(plans: Sequence[Plan]) -> None:
    async with with_broker(*plans) as (given, fake), serving(given):
        answer = await ask(given, bearer(given.once()))
    assert answer.code is grpc.StatusCode.OK
    assert len(fake.asked) == len(plans) + 1
    assert len({asked.SerializeToString() for asked in fake.asked}) == 1
    assert given.service.handled == [CREDENTIAL]


@pytest.mark.parametrize("plan", [grpc.StatusCode.UNAVAILABLE, 30.0], ids=["down", "silent"])
async def test_without_an_answer_in_time_it_is_refused_and_nothing_is_done(plan: Plan) -> None:
    async with with_broker(*[plan] * 100, within=2) as (given, fake), serving(given):
        answer = await ask(given, bearer(given.once()))
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "REDEMPTION_UNAVAILABLE")
        assert answer.sentence.endswith("Nothing was done.")
        assert len({asked.idempotency_key for asked in fake.asked}) == 1
        assert given.service.handled == []
        fake.plans.clear()

        async def answered() -> bool:
            return (await ask(given, bearer(given.once()))).code is grpc.StatusCode.OK

        assert await eventually(answered)  # the control


async def test_without_a_way_to_redeem_it_is_refused() -> None:
    given = world()
    with_none = Redeeming(given.domain, given.server, given.caller, given.now)
    async with serving(with_none):
        answer = await ask(with_none, bearer(with_none.once()))
    assert (answer.code, answer.reason) == (grpc.StatusCode.PERMISSION_DENIED, "TOKEN_USE_REFUSED")
    assert with_none.service.handled == []


async def test_the_plain_function_refuses_it_and_the_other_one_spends_it() -> None:
    async with with_broker(None, Reason.CREDENTIAL_SPENT) as (given, fake):
        guard, token, evidence = given.guard(), given.once(), given.caller.evidence()

        def refused_here() -> None:
            with pytest.raises(Refusal) as refused:
                guard.check(token, CALL, evidence=evidence)
            assert refused.value.reason is Reason.TOKEN_USE_REFUSED

        refused_here()
        refused_here()  # its signature is remembered by now
        assert fake.asked == []
        assert (await guard.accept(token, CALL, evidence=evidence)).redemption == 1
        refused_here()
        with pytest.raises(Refusal) as refused:
            await guard.accept(token, CALL, evidence=evidence)
        assert refused.value.reason is Reason.CREDENTIAL_SPENT
        many = given.token()
        assert (await guard.accept(many, CALL, evidence=evidence)).redemption is None
        assert guard.check(many, CALL, evidence=evidence).credential_id == CREDENTIAL
    assert len(fake.asked) == 2


async def test_another_holder_spends_nothing() -> None:
    async with with_broker() as (given, fake):
        thief = given.domain.svid("/agent/thief")
        with pytest.raises(Refusal) as refused:
            await given.guard().accept(given.once(), CALL, evidence=thief.evidence())
        assert refused.value.reason is Reason.TOKEN_HOLDER_MISMATCH
        # One that names another agent than the certificate that it is bound to; no honest issuer writes it.
        with pytest.raises(Refusal) as refused:
            await given.guard().accept(given.once(thumbprint=given.thumbprint(thief)), CALL, evidence=thief.evidence())
        assert refused.value.reason is Reason.TOKEN_HOLDER_MISMATCH
        assert fake.asked == []
        await given.guard().accept(given.once(), CALL, evidence=given.caller.evidence())


async def test_over_http_it_is_the_same() -> None:
    async with with_broker(None, Reason.CREDENTIAL_SPENT, Reason.POLICY_NOT_PERMITTED) as (given, fake):
        front, token = Front(given=given), given.once()
        headers = [(b"authorization", f"Bearer {token}".encode())]
        answers = [await front.ask(headers) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 403, 503]
    assert b"CREDENTIAL_SPENT" in answers[1][2]
    assert b"REDEMPTION_UNAVAILABLE" in answers[2][2]
    assert front.shop.handled == [CREDENTIAL]
    assert {asked.call_digest for asked in fake.asked} == {DIGEST}


def test_a_call_names_its_digest_whatever_order_its_parameters_have() -> None:
    other = Call(
        action=CALL.action,
        resource=CALL.resource,
        tenant=CALL.tenant,
        parameters=dict(reversed(list(CALL.parameters.items()))),
    )
    assert EXACT.only_call("retail") == DIGEST
    assert (
        call_digest(action=other.action, resource=other.resource, tenant=other.tenant, parameters=other.parameters)
        == DIGEST
    )
