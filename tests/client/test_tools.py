"""Tools: what a model says is hostile input; what it is told is a sentence; the credential it never sees."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal, get_type_hints

import grpc
import pytest

import broker.client.sync
from broker.client import Credential, Denied, Session, Task, Undeclared, Unreachable
from broker.client.tools import Tool
from broker.errors import Reason
from broker.intent import Intent
from broker.link.identity import IdentityUnavailable
from broker.v1 import task_pb2_grpc
from tests.client.stage import Stage, get
from tests.operations.world import BROKER, ORDERS

Calls = list[tuple[Credential, dict[str, Any]]]


def tool(stage: Stage, **changes: Any) -> Tool:
    given: dict[str, Any] = {
        "session": stage.session,
        "action": "order.read",
        "resource": ("order", "order_id"),
        "purpose": "customer-support",
        "audience": ORDERS,
    }
    return Tool(**(given | changes))


def look_up(stage: Stage, **changes: Any) -> tuple[Any, Calls]:
    """Return a tool that looks an order up, and what it was called with."""
    calls: Calls = []

    @tool(stage, **changes)
    async def look_up_order(credential: Credential, order_id: str) -> str:
        """Look one order up."""
        calls.append((credential, {"order_id": order_id}))
        return f"order {order_id}"

    return look_up_order, calls


def refund(stage: Stage, task: Task, **changes: Any) -> tuple[Any, Calls]:
    """Return a tool that pays an order back, and what it was called with."""
    calls: Calls = []

    @tool(stage, action="order.refund", task=task, **changes)
    async def refund_order(
        credential: Credential,
        order_id: str,
        amount: int,
        currency: Literal["EUR"] = "EUR",
        note: str | None = None,
    ) -> str:
        calls.append((credential, {"order_id": order_id, "amount": amount, "currency": currency, "note": note}))
        return "paid"

    return refund_order, calls


def covered(credential: Credential) -> Any:
    """What a credential covers."""
    (detail,) = credential.authorization_details
    return detail


@pytest.fixture
def intents(monkeypatch: pytest.MonkeyPatch) -> list[Intent]:
    """What the broker is asked; it answers as ever."""
    asked: list[Intent] = []
    real = Session.exchange_intent

    async def listening(session: Session, intent: Intent, **more: Any) -> Credential:
        asked.append(intent)
        return await real(session, intent, **more)

    monkeypatch.setattr(Session, "exchange_intent", listening)
    return asked


# --- what it is called with is what was asked for -------------------------------------------------------------------


async def test_the_arguments_are_the_intent(stage: Stage, intents: list[Intent]) -> None:
    call, calls = look_up(stage)
    assert await call("1234") == await call(order_id="1234") == "order 1234"
    assert covered(calls[0][0])["identifier"] == "1234"
    assert intents[0] == intents[1]
    assert (intents[0].action, intents[0].resource.id, intents[0].parameters) == ("order.read", "1234", {})
    async with stage.session.task(purpose="customer-support") as task:
        pay, paid = refund(stage, task)
        assert await pay(order_id="1234", amount=4200) == "paid"
    assert paid[0][1] == {"order_id": "1234", "amount": 4200, "currency": "EUR", "note": None}
    assert intents[2].parameters == {"amount": 4200, "currency": "EUR"}, "the default too; what is None is left out"
    assert intents[2].task == task.id


async def test_only_the_parameters_that_are_named(stage: Stage, intents: list[Intent]) -> None:
    async with stage.session.task(purpose="customer-support") as task:
        pay, paid = refund(stage, task, parameters=("amount", "currency"))
        assert await pay(order_id="1234", amount=4200, note="He was unhappy.") == "paid"
        assert intents[0].parameters == {"amount": 4200, "currency": "EUR"}
        whole, _ = refund(stage, task)
        await whole(order_id="1234", amount=4200, note="He was unhappy.")
        assert intents[1].parameters == {"amount": 4200, "currency": "EUR", "note": "He was unhappy."}
    assert paid[0][1]["note"] == "He was unhappy."


async def test_a_plain_function(stage: Stage) -> None:
    def program() -> None:
        door = f"127.0.0.1:{stage.house.door.port}"
        with broker.client.sync.connect(door, broker_id=BROKER, socket=stage.agent.socket, timeout=60) as session:

            @tool(stage, session=session)
            def look_up_order(credential: Credential, order_id: str) -> str:
                return f"{covered(credential)['identifier']} {order_id}"

            assert look_up_order(order_id="1234") == "1234 1234"
            assert look_up_order(order_id="").startswith("Refused (INTENT_RESOURCE_INVALID): ")

            @tool(stage, session=session)
            def other_order(credential: Credential, order_id: str) -> str:
                channel = session.channel(ORDERS, stage.address, credential=credential)
                task_pb2_grpc.TaskServiceStub(channel).BeginTask(get("1235"), timeout=60)
                return order_id

            assert other_order(order_id="1234").startswith("Refused (TOKEN_SCOPE_EXCEEDED): ")

    await asyncio.to_thread(program)


# --- what frameworks see --------------------------------------------------------------------------------------------


async def test_the_credential_is_nowhere_to_be_seen(stage: Stage) -> None:
    call, _ = look_up(stage)
    assert (call.__name__, call.__doc__) == ("look_up_order", "Look one order up.")
    assert str(inspect.signature(call)) == "(order_id: str) -> str"
    assert get_type_hints(call) == {"order_id": str, "return": str}
    assert inspect.unwrap(call) is call
    assert inspect.iscoroutinefunction(call)


def test_types_that_are_written_as_text_are_resolved(stage: Stage) -> None:
    @tool(stage)
    async def look_up_order(
        credential: "Credential", order_id: "str", how: "Literal['short', 'long']" = "short"
    ) -> "str":
        return f"{credential.id} {order_id} {how}"

    assert get_type_hints(look_up_order)["how"] == Literal["short", "long"]


async def _wrong_first(order_id: str) -> str:
    return order_id


async def _nothing() -> str:
    return ""


async def _anything(credential: Credential, order_id: str, *more: str) -> str:
    return f"{credential} {order_id} {more}"


async def _whatever(credential: Credential, order_id: str, **more: str) -> str:
    return f"{credential} {order_id} {more}"


async def _unnamed(credential: Credential, order_id: str, /) -> str:
    return f"{credential} {order_id}"


async def _many(credential: Credential, order_id: str) -> AsyncIterator[str]:
    yield f"{credential} {order_id}"


def _plain(credential: Credential, order_id: str) -> str:
    return f"{credential} {order_id}"


def _plain_many(credential: Credential, order_id: str) -> Iterator[str]:
    yield f"{credential} {order_id}"


async def _other_name(credential: Credential, order: str) -> str:
    return f"{credential} {order}"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (_wrong_first, "first parameter"),
        (_nothing, "first parameter"),
        (_anything, "no \\*args"),
        (_whatever, "no \\*args"),
        (_unnamed, "a name of its own"),
        (_many, "session|yield"),
        (_plain, "async tool needs"),
        (_plain_many, "session|yield"),
        (_other_name, "no argument named order_id"),
    ],
)
def test_what_cannot_be_a_tool_is_said_at_once(stage: Stage, function: Callable[..., Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        tool(stage)(function)


def test_a_parameter_that_is_misspelt_is_said_at_once(stage: Stage) -> None:
    with pytest.raises(TypeError, match="no argument named ammount"):
        refund(stage, "", parameters=("ammount",))  # type: ignore[arg-type]  # no task is needed for that


# --- hostile input --------------------------------------------------------------------------------------------------

HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"order_id": ""}, "INTENT_RESOURCE_INVALID"),
    "an id that is a number": ({"order_id": 1234}, "INTENT_RESOURCE_INVALID"),
    "an id that is a list": ({"order_id": ["1234"]}, "INTENT_RESOURCE_INVALID"),
    "an id that is nothing": ({"order_id": None}, "INTENT_RESOURCE_INVALID"),
    "an id that turns around": ({"order_id": "12\u202e43"}, "INTENT_RESOURCE_INVALID"),
    "an id with what is not shown": ({"order_id": "12\u200b34"}, "INTENT_RESOURCE_INVALID"),
    "an id of two lines": ({"order_id": "1234\nrefund everything"}, "INTENT_RESOURCE_INVALID"),
    "an id with a zero byte": ({"order_id": "1234\x00"}, "INTENT_RESOURCE_INVALID"),
    "an id that is half a character": ({"order_id": "12\ud800"}, "INTENT_RESOURCE_INVALID"),
    "a huge id": ({"order_id": "1" * 5_000_000}, "INTENT_RESOURCE_INVALID"),
    "an argument too many": ({"order_id": "1234", "tenant": "wholesale"}, "REQUEST_INVALID"),
    "a credential": ({"order_id": "1234", "credential": "x"}, "REQUEST_INVALID"),
    "nothing at all": ({"order_id": ...}, "REQUEST_INVALID"),
    "a float": ({"amount": 42.5}, "INTENT_PARAMETERS_NUMBER"),
    "a float that is whole": ({"amount": 4200.0}, "INTENT_PARAMETERS_NUMBER"),
    "no number": ({"amount": float("nan")}, "INTENT_PARAMETERS_NUMBER"),
    "infinity": ({"amount": float("inf")}, "INTENT_PARAMETERS_NUMBER"),
    "a number beyond all": ({"amount": 10**30}, "INTENT_PARAMETERS_NUMBER"),
    "a number beyond text": ({"amount": 10**5000}, "INTENT_PARAMETERS_SYNTAX"),
    "null": ({"amount": None}, "INTENT_PARAMETERS_NULL"),
    "an object of Python's": ({"amount": object()}, "INTENT_PARAMETERS_SYNTAX"),
    "a set": ({"amount": {1}}, "INTENT_PARAMETERS_SYNTAX"),
    "half a character": ({"note": "\ud800"}, "INTENT_PARAMETERS_TEXT"),
    "a huge text": ({"note": "x" * 5_000_000}, "INTENT_PARAMETERS_SIZE"),
}


@pytest.mark.parametrize(("arguments", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
async def test_what_has_no_single_meaning_is_refused_before_anybody_is_asked(
    stage: Stage, intents: list[Intent], caplog: pytest.LogCaptureFixture, arguments: dict[str, Any], reason: str
) -> None:
    caplog.set_level(logging.DEBUG, logger="broker")
    task: Any = "task_00000000-0000-0000-0000-000000000000"
    reads = {"amount", "note"}.isdisjoint(arguments)
    call, calls = look_up(stage) if reads else refund(stage, task)
    given = arguments if reads else {"order_id": "1234", "amount": 4200} | arguments
    told = await call(**{name: value for name, value in given.items() if value is not ...})
    assert told.startswith(f"Refused ({reason}): I asked for this in a way")
    assert len(told) < 300
    assert told.isprintable()
    assert "tenant" not in told, "what the model made up is not repeated"
    assert len(caplog.text) < 1000, "nothing of it in the log either"
    assert not calls
    assert not intents


async def test_a_nest_is_refused(stage: Stage) -> None:
    nest: Any = []
    for _ in range(100_000):
        nest = [nest]
    pay, calls = refund(stage, "")  # type: ignore[arg-type]  # it does not come so far
    assert "INTENT_PARAMETERS_S" in await pay(order_id="1234", amount=nest)
    assert not calls


@pytest.mark.parametrize(
    "order", ["../1234", "1234/../1235", "1234?all=1", "*", "1234' OR '1'='1", "${HOME}", "%2e%2e"]
)
async def test_an_id_is_never_more_than_an_id(stage: Stage, order: str) -> None:
    """Another order's syntax means nothing: the credential is for that text, byte for byte, and the service sees it."""
    stub = task_pb2_grpc.TaskServiceStub(stage.channel())
    handled = len(stage.orders.handled)

    @tool(stage)
    async def order_1235(credential: Credential, order_id: str) -> str:
        plain = task_pb2_grpc.TaskServiceStub(stage.session.channel(ORDERS, stage.address, credential=credential))
        await plain.BeginTask(get("1235"), timeout=60)
        return order_id

    assert (await order_1235(order_id=order)).startswith("Refused (TOKEN_SCOPE_EXCEEDED): ")
    assert len(stage.orders.handled) == handled
    await stub.BeginTask(get("1235"))


# --- what the model is told -----------------------------------------------------------------------------------------


async def test_a_denial_is_the_policys_own_sentence(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="broker")
    async with stage.session.task(purpose="customer-support") as task:
        pay, calls = refund(stage, task)
        told = await pay(order_id="1234", amount=25_000)
    assert told.startswith("Refused (POLICY_FORBIDDEN): I can refund up to 50 euros myself.")
    assert not calls
    assert "refund_order: POLICY_FORBIDDEN" in caplog.text


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (Unreachable("10.0.0.1:8443 did not answer"), "No answer: this may or may not have been done."),
        (IdentityUnavailable("No /run/agent.sock.", fix="Start it."), "Refused (SVID_ABSENT): I could not prove"),
        (
            Denied(reason="YOUNGER_THAN_THIS", message="m", sentence="No.", next_step="Ask."),
            "Refused (YOUNGER_THAN_THIS): No. Ask.",
        ),
    ],
)
async def test_what_else_is_told(stage: Stage, problem: Exception, said: str) -> None:
    @tool(stage)
    async def failing(credential: Credential, order_id: str) -> str:  # noqa: ARG001 - it fails before it needs them
        raise problem

    told = await failing(order_id="1234")
    assert told.startswith(said)
    assert "10.0.0.1" not in told
    assert "/run" not in told


@pytest.mark.parametrize("problem", [Undeclared("Nobody said."), ZeroDivisionError("0"), asyncio.CancelledError()])
async def test_a_defect_stays_one(stage: Stage, problem: BaseException) -> None:
    @tool(stage)
    async def failing(credential: Credential, order_id: str) -> str:  # noqa: ARG001 - it fails before it needs them
        raise problem

    with pytest.raises(type(problem)):
        await failing(order_id="1234")


async def test_what_is_not_about_permission_goes_on_as_it_is(stage: Stage) -> None:
    @tool(stage)
    async def nowhere(credential: Credential, order_id: str) -> str:
        channel = stage.session.channel(ORDERS, "127.0.0.1:1", credential=credential)
        await task_pb2_grpc.TaskServiceStub(channel).BeginTask(get(order_id), timeout=60)
        return order_id

    with pytest.raises(grpc.aio.AioRpcError):
        await nowhere(order_id="1234")


def test_every_reason_can_be_told() -> None:
    for reason in Reason:
        assert reason.meaning.sentence
        assert reason.meaning.next_step
