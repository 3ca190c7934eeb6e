"""A front end, as its developers write it: one session for all customers, each call with the token of one of them."""

import ast
import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import pytest

import broker.client.sync
from broker.client import (
    Approval,
    Denied,
    RefusedError,
    StepUpRequired,
    Unauthenticated,
    Unknown,
    Unmet,
)
from broker.errors import Reason
from broker.intent import digest
from tests.client.shop import CLIENT, KATE, LIAM, PAYOUT, Shop, open_shop
from tests.fakes.identity import IdentityKey
from tests.operations.world import BROKER, CHAT, ROOT, SUPPORT
from tests.polling import eventually

LONG = timedelta(seconds=30)
FORGER = IdentityKey.make()
BAD = Reason.IDENTITY_TOKEN_REFUSED
UNKNOWN = Reason.APPROVAL_UNKNOWN


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path_factory.mktemp("oidc")) as opened:
        yield opened


@asynccontextmanager
async def following(shop: Shop, subject: str) -> AsyncIterator[list[tuple[str, str]]]:
    """Follow what waits for a customer; yields what was heard, as it grows. Begins once the stream has begun."""
    heard: list[tuple[str, str]] = []
    first, name = await shop.held(subject)

    async def follow() -> None:
        async for each in shop.chat.follow_approvals(identity_token=shop.token(subject)):
            heard.append((each.id, each.state) if isinstance(each, Approval) else (each.task, "drifted"))  # noqa: PERF401

    task = asyncio.ensure_future(follow())
    try:
        await until(lambda: (name, "pending") in heard or task.done())
        heard.clear()
        yield heard
    finally:
        task.cancel()
        await shop.chat.end_task(first)


async def until(true: Any) -> None:
    async def probe() -> bool:
        return bool(true())

    await eventually(probe)


async def waiting_for(shop: Shop, subject: str, task: str) -> Approval:
    """The one request of a task that waits for a customer."""

    async def one() -> Approval | None:
        mine = await shop.chat.approvals(identity_token=shop.token(subject))
        return next((each for each in mine if each.task == task), None)

    found = await eventually(one)
    assert found is not None
    return found


async def refusal_of(call: Coroutine[Any, Any, Any]) -> RefusedError:
    with pytest.raises(RefusedError) as raised:
        await call
    return raised.value


async def test_two_customers_answer_while_their_agent_waits(shop: Shop) -> None:
    async with following(shop, KATE) as of_kate, following(shop, LIAM) as of_liam:
        tasks = {subject: await shop.begun(subject) for subject in (KATE, LIAM)}
        asked = {subject: asyncio.ensure_future(shop.ask(task, wait=LONG)) for subject, task in tasks.items()}
        kates = await waiting_for(shop, KATE, tasks[KATE].id)
        liams = await waiting_for(shop, LIAM, tasks[LIAM].id)
        for subject, own, others in ((KATE, kates, liams), (LIAM, liams, kates)):
            listed = {each.id for each in await shop.chat.approvals(identity_token=shop.token(subject))}
            assert own.id in listed
            assert others.id not in listed
        shown = await shop.shown(kates.id)
        assert shown.details is not None
        assert (shown.details.person, shown.details.answers) == (f"{shop.issuer.url}#{KATE}", ())
        assert shown.details.intent.parameters == PAYOUT["parameters"]
        done = await shop.chat.approve(kates.id, digest=shown.details.digest, identity_token=shop.token())
        assert done.state == "approved"
        assert (await asyncio.wait_for(asked[KATE], 20)).tenant == "retail"
        denied = await shop.chat.deny(liams.id, reason="not my account", identity_token=shop.token(LIAM))
        assert (denied.state, denied.reason) == ("denied", "not my account")
        with pytest.raises(Denied) as raised:
            await asyncio.wait_for(asked[LIAM], 20)
        assert raised.value.reason is Reason.APPROVAL_DENIED
        assert raised.value.sentence == "A person has decided against this.", "it may be shown to the customer"
        await until(lambda: (kates.id, "used") in of_kate and (liams.id, "denied") in of_liam)
        assert {name for name, _ in of_kate} == {kates.id}
        assert {name for name, _ in of_liam} == {liams.id}


# By name: the token that is brought with Kate's approval, and what every call that names it raises.
STRAYING: dict[str, Any] = PAYOUT | {"action": "order.read", "resource": ("order", "1234"), "parameters": {}}
SIGN_IN = "I cannot tell who you are; please sign in again."
WRONG: dict[str, tuple[dict[str, Any], type[RefusedError], Reason, str]] = {
    "another customer's": ({"subject": LIAM}, Unknown, UNKNOWN, ""),
    "expired": ({"exp": -1, "iat": -100}, Unauthenticated, BAD, "exp"),
    "for another client": ({"aud": "another"}, Unauthenticated, BAD, "aud"),
    "of another issuer": ({"iss": "https://evil.example"}, Unauthenticated, BAD, "iss"),
    "signed by another key": ({"key": FORGER}, Unauthenticated, BAD, "signature"),
}


@pytest.mark.parametrize(("changes", "kind", "reason", "detail"), WRONG.values(), ids=WRONG)
async def test_what_a_session_raises(
    shop: Shop, changes: dict[str, Any], kind: type[RefusedError], reason: Reason, detail: str
) -> None:
    _, name = await shop.held()
    mine = await shop.shown(name)
    assert mine.details is not None
    times = {claim: shop.at(value) for claim, value in changes.items() if isinstance(value, int)}
    token = shop.token(**changes | times)
    for call in (
        shop.chat.approval(name, identity_token=token),
        shop.chat.approve(name, digest=mine.details.digest, identity_token=token),
        shop.chat.deny(name, reason="no", identity_token=token),
    ):
        refusal = await refusal_of(call)
        assert (type(refusal), refusal.reason, refusal.detail) == (kind, reason, detail)
        assert token not in f"{refusal!r} {refusal} {vars(refusal)}"
        if reason is BAD:
            assert refusal.sentence == SIGN_IN, "it may be shown to the customer"
            assert "Sign the person in again" in refusal.next_step
    if reason is BAD:
        for asking in (shop.chat.approvals(identity_token=token), shop.chat.drifted_tasks(identity_token=token)):
            assert (await refusal_of(asking)).reason is BAD
        with pytest.raises(Unauthenticated):
            await anext(aiter(shop.chat.follow_approvals(identity_token=token)))
    else:
        assert name not in {each.id for each in await shop.chat.approvals(identity_token=token)}
    await shop.chat.approve(name, digest=mine.details.digest, identity_token=shop.token())


async def test_a_sign_in_that_is_too_old_says_to_sign_in_again(shop: Shop) -> None:
    _, name = await shop.held()
    yes = ""
    for auth_time in (shop.at(-400), None):
        stale = shop.token(auth_time=auth_time)
        shown = await shop.chat.approval(name, identity_token=stale)
        assert shown.details is not None, "so that they know what to sign in for"
        yes = shown.details.digest
        refusal = await refusal_of(shop.chat.approve(name, digest=yes, identity_token=stale))
        assert (type(refusal), refusal.reason) == (Unmet, Reason.AUTHENTICATION_STALE)
        assert refusal.sentence == "You have to sign in again before you approve this."
        assert "prompt=login or max_age" in refusal.next_step
    await shop.chat.approve(name, digest=yes, identity_token=shop.token(auth_time=shop.at(-1)))


async def test_a_front_end_without_a_token_decides_nothing(shop: Shop) -> None:
    """It sees that its tasks wait, not what for."""
    _, name = await shop.held()
    mine = await shop.shown(name)
    assert mine.details is not None
    assert (await shop.chat.approval(name)).details is None
    for call in (shop.chat.approve(name, digest=mine.details.digest), shop.chat.deny(name, reason="no")):
        refusal = await refusal_of(call)
        assert (type(refusal), refusal.reason) == (Denied, Reason.APPROVER_REFUSED)
        assert "it sends the person's identity token" in refusal.next_step
        assert refusal.sentence == "This is for somebody else to approve."
    await shop.chat.approve(name, digest=mine.details.digest, identity_token=shop.token())


@pytest.mark.parametrize(
    ("token", "detail"),
    [
        pytest.param("", "form", id="empty"),
        pytest.param("{}\n", "form", id="newline"),
        pytest.param(" {}", "form", id="space"),
        pytest.param("{} {}", "form", id="two"),
        pytest.param("{}\r\nx: y", "form", id="header"),
        pytest.param("secr\u00e9t", "form", id="not-ascii"),
        pytest.param("s\x00cret", "form", id="nul"),
        pytest.param("a" * (12 * 1024 + 1), "size", id="long"),
        pytest.param("a" * 2_000_000, "size", id="huge"),
    ],
)
async def test_what_is_no_token_is_not_sent(
    shop: Shop, token: str, detail: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """GRPC refuses some of these in words of its own, and the broker's door others by their size."""
    _, name = await shop.held()
    bad = token.replace("{}", shop.token())
    for call in (
        shop.chat.approvals(identity_token=bad),
        shop.chat.approval(name, identity_token=bad),
        shop.chat.approve(name, digest="sha-256:x", identity_token=bad),
        shop.chat.deny(name, reason="no", identity_token=bad),
        shop.chat.drifted_tasks(identity_token=bad),
        shop.chat.resume_task("task_x", reason="no", identity_token=bad),
        anext(aiter(shop.chat.follow_approvals(identity_token=bad))),
    ):
        refusal = await refusal_of(call)  # type: ignore[arg-type]  # anext is awaited in the same way
        assert (type(refusal), refusal.reason, refusal.detail) == (Unauthenticated, BAD, detail)
        assert refusal.next_step in str(refusal)
    assert "Illegal" not in capfd.readouterr().err
    assert (await shop.shown(name)).state == "pending"


async def test_garbage_is_sent_and_refused(shop: Shop) -> None:
    _, name = await shop.held()
    for garbage in ("a", "a.b.c", "a" * 12 * 1024, shop.token()[:-4]):
        assert (await refusal_of(shop.chat.approval(name, identity_token=garbage))).reason is BAD
    assert (await shop.shown(name)).state == "pending"


async def test_another_digest_says_to_look_again(shop: Shop) -> None:
    task, name = await shop.held()
    mine = await shop.shown(name)
    _, other = await shop.held()
    others = await shop.shown(other)
    assert mine.details is not None
    assert others.details is not None
    for wrong in (others.details.digest, mine.intent_digest, "sha-256:x"):
        refusal = await refusal_of(shop.chat.approve(name, digest=wrong, identity_token=shop.token()))
        assert (type(refusal), refusal.reason) == (Denied, Reason.APPROVAL_MISMATCH)
        assert "looks at it again" in refusal.next_step
        assert refusal.sentence == "This is not what you were shown. Please look at it again."
    with pytest.raises(StepUpRequired):
        await shop.ask(task)
    await shop.chat.approve(name, digest=mine.details.digest, identity_token=shop.token())
    assert (await shop.ask(task, wait=LONG)).tenant == "retail"


async def test_a_yes_said_twice_is_one_and_is_over_once_used(shop: Shop) -> None:
    task, name = await shop.held()
    mine = await shop.shown(name)
    assert mine.details is not None
    intent, yes = mine.details.intent, mine.details.digest
    first = await shop.chat.approve(name, digest=yes, identity_token=shop.token())
    again = await shop.chat.approve(name, digest=yes, identity_token=shop.token())
    assert (first.state, again.state, again.decided_at) == ("approved", "approved", first.decided_at)
    assert (await shop.agent.exchange_intent(intent, approval=name)).tenant == "retail"
    for late in (
        shop.chat.approve(name, digest=yes, identity_token=shop.token()),
        shop.chat.deny(name, reason="no", identity_token=shop.token()),
        shop.agent.exchange_intent(intent, approval=name),
    ):
        refusal = await refusal_of(late)
        assert (type(refusal), refusal.reason) == (Unmet, Reason.APPROVAL_USED)
    (used,) = [
        each for each in await shop.chat.approvals(states=["used"], identity_token=shop.token()) if each.task == task.id
    ]
    assert used.id == name


async def test_a_yes_is_taken_back_by_whoever_gave_it(shop: Shop) -> None:
    _, name = await shop.held()
    mine = await shop.shown(name)
    assert mine.details is not None
    await shop.chat.approve(name, digest=mine.details.digest, identity_token=shop.token())
    assert (await refusal_of(shop.chat.deny(name, reason="no", identity_token=shop.token(LIAM)))).reason is UNKNOWN
    assert (await shop.chat.deny(name, reason="changed my mind", identity_token=shop.token())).state == "denied"
    refusal = await refusal_of(shop.agent.exchange_intent(mine.details.intent, approval=name))
    assert refusal.reason is Reason.APPROVAL_DENIED


async def test_an_agent_with_the_token_of_its_customer_confirms_nothing(shop: Shop) -> None:
    _, name = await shop.held()
    mine = await shop.shown(name)
    assert mine.details is not None
    refusal = await refusal_of(shop.agent.approve(name, digest=mine.details.digest, identity_token=shop.token()))
    assert refusal.reason is Reason.APPROVER_REFUSED
    assert (await shop.agent.approval(name, identity_token=shop.token())).details is None


CONFIRM = 'action == Action::"broker.approval.confirm"'


async def test_a_front_end_that_may_not_confirm_shows_and_says_nothing(shop: Shop) -> None:
    _, name = await shop.held()
    mine = await shop.shown(name)
    assert mine.details is not None
    permitted: dict[str, str] = {}

    def without(texts: dict[str, str]) -> dict[str, str]:
        permitted["broker.cedar"] = texts["broker.cedar"]
        assert CONFIRM in texts["broker.cedar"]
        return {"broker.cedar": texts["broker.cedar"].replace(CONFIRM, CONFIRM.replace("confirm", "read"))}

    await shop.house.policy(without)
    try:
        assert await shop.chat.approvals(identity_token=shop.token()) == []
        for call in (
            shop.chat.approval(name, identity_token=shop.token()),
            shop.chat.approve(name, digest=mine.details.digest, identity_token=shop.token()),
            shop.chat.deny(name, reason="no", identity_token=shop.token()),
        ):
            refusal = await refusal_of(call)
            assert (type(refusal), refusal.reason) == (Unknown, UNKNOWN)
            assert "`broker doctor` says whether their front end may show it" in refusal.next_step
    finally:
        await shop.house.policy(lambda _: permitted)
    await shop.chat.approve(name, digest=mine.details.digest, identity_token=shop.token())


async def test_a_customer_lets_no_task_go_on_that_drifted(shop: Shop) -> None:
    task = await shop.begun(actions=["customer.payout_change"])
    for _ in range(5):
        strayed = await refusal_of(shop.agent.exchange(**STRAYING, task=task))
        assert strayed.reason is Reason.TASK_BOUNDARY_EXCEEDED
    assert (await refusal_of(shop.ask(task))).reason is Reason.TASK_SUSPENDED
    token = shop.token()
    assert await shop.chat.drifted_tasks(identity_token=token) == []
    async with following(shop, KATE) as heard:
        _, name = await shop.held()
        await until(lambda: heard == [(name, "pending")])  # what there was comes first: no drift was told of
    refusal = await refusal_of(shop.chat.resume_task(task, reason="let it", identity_token=token))
    assert isinstance(refusal, Denied)
    assert (await refusal_of(shop.ask(task))).reason is Reason.TASK_SUSPENDED


async def test_a_program_without_asyncio_brings_its_customers_word(shop: Shop) -> None:
    task, name = await shop.held()
    hers, his = shop.token(), shop.token(LIAM)

    @contextmanager
    def opened() -> Iterator[broker.client.sync.Session]:
        with broker.client.sync.connect(
            shop.address, broker_id=BROKER, socket=shop.sockets[CHAT], timeout=20
        ) as session:
            yield session

    def program() -> str:
        with opened() as session:
            followed = session.follow_approvals(identity_token=hers)
            assert any(each.id == name for each in followed if isinstance(each, Approval))
            assert name in {each.id for each in session.approvals(identity_token=hers)}
            assert name not in {each.id for each in session.approvals(identity_token=his)}
            with pytest.raises(Unknown) as raised:
                session.deny(name, reason="no", identity_token=his)
            assert raised.value.reason is UNKNOWN
            with pytest.raises(Unauthenticated):
                session.approval(name, identity_token=hers + "\n")
            with pytest.raises(Unauthenticated):
                next(session.follow_approvals(identity_token=""))
            shown = session.approval(name, identity_token=hers)
            assert shown.details is not None
            return session.approve(name, digest=shown.details.digest, identity_token=hers).state

    assert await asyncio.to_thread(program) == "approved"
    assert (await shop.ask(task, wait=LONG)).tenant == "retail"


async def test_the_page_runs_as_it_is_printed(shop: Shop) -> None:
    """The example for front ends; what a reader has besides is their customer's token, and what was asked."""
    page = (ROOT / "docs" / "approvals.md").read_text()
    (code,) = re.findall(r"^   ```python\n(.*?)^   ```", page, re.DOTALL | re.MULTILINE)
    await shop.held()
    before = [each.id for each in await shop.chat.approvals(identity_token=shop.token())]
    task, name = await shop.held()
    shown: list[str] = []

    async def show_and_ask(each: Approval) -> bool:
        shown.append(each.id)
        return each.id == name

    names: dict[str, Any] = {
        "session": shop.chat,
        "show_and_ask": show_and_ask,
        "ASSISTANT": SUPPORT,
        "claims": {"iss": shop.issuer.url, "sub": KATE, "aud": CLIENT},
        "id_token": shop.token(),
        "question": "Please change my account.",
    }
    compiled = compile(inspect.cleandoc(code), "approvals.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(compiled, names)  # noqa: S307 - our own page
    if inspect.isawaitable(running):
        await running
    assert shown == [*before, name]
    assert (await shop.shown(name)).state == "approved"
    assert {(await shop.shown(each)).state for each in before} == {"denied"}
    assert (await shop.ask(task, wait=LONG)).tenant == "retail"
    begun = [each for each in await shop.house.log() if each["type"] == "task.begun"][-1]
    assert begun["opened"]["person"] == f"{shop.issuer.url}#{KATE}"
    assert begun["opened"]["asked"] == digest(b"Please change my account.")


async def test_a_stream_ends_with_the_token_that_it_was_opened_with(shop: Shop) -> None:
    """Last: it moves the broker's clock."""
    _, name = await shop.held()
    token = shop.token(exp=shop.at(600))
    heard: list[str] = []

    async def follow() -> None:
        async for each in shop.chat.follow_approvals(identity_token=token):
            assert isinstance(each, Approval)
            heard.append(each.id)

    stream = asyncio.ensure_future(follow())
    await until(lambda: name in heard or stream.done())
    _, other = await shop.held()
    await until(lambda: other in heard or stream.done())  # of the stream itself, no longer of what is listed first
    assert not stream.done()
    shop.house.time.ahead += timedelta(seconds=601)
    refusal = await refusal_of(asyncio.wait_for(stream, 20))
    assert (type(refusal), refusal.reason, refusal.detail) == (Unauthenticated, BAD, "exp")
    async for each in shop.chat.follow_approvals(identity_token=shop.token()):  # signed in again, it goes on
        assert each.task
        break
