"""Request ids: a lost reply asked again is the same credential; anything else under the same id is refused."""

import asyncio
from collections import Counter
from itertools import count
from typing import Any

import pytest

from broker.v1 import exchange_pb2, exchange_pb2_grpc, types_pb2
from tests.attacks.entrances import (
    PATIENCE,
    begin_task,
    conversation,
    end_task,
    exchange,
    items,
    outcome,
    request,
    revoke,
)
from tests.attacks.house import House
from tests.operations.world import SECURITY, SUPPORT, WHOLESALE
from tests.polling import eventually

_names = count()
AT_ONCE = 50


def fresh() -> str:
    return f"again-{next(_names)}"


def other(**changes: Any) -> exchange_pb2.ExchangeRequest:
    return request(**({"resource": types_pb2.Resource(type="order", id="5678")} | changes))


async def kinds(house: House, credential: str) -> Counter[str]:
    return Counter(event["type"] for event in await house.log() if event.get("credential") == credential)


async def test_the_same_again_is_the_same_credential(house: House) -> None:
    name = fresh()
    one = (await exchange(house.good(SUPPORT), request(request_id=name))).credential
    two = (await exchange(house.good(SUPPORT), request(request_id=name))).credential
    three = (await conversation(house.good(SUPPORT), request(request_id=name))).credential
    assert one.credential_id == two.credential_id == three.credential_id
    assert one.expires_at == two.expires_at == three.expires_at
    assert await kinds(house, one.credential_id) == {"credential.granted": 1, "credential.reissued": 2}


@pytest.mark.parametrize("way", ["Exchange", "ExchangeStream"])
@pytest.mark.parametrize("how", ["intent", "leaf", "parameters", "behalf", "task"])
async def test_anything_else_under_the_same_id(house: House, way: str, how: str) -> None:
    name = fresh()
    await exchange(house.good(SUPPORT), request(request_id=name))
    task = (await begin_task(house.good(SUPPORT))).task.task_id
    asked = {
        "intent": other(request_id=name),
        "leaf": request(request_id=name),
        "parameters": request(request_id=name, parameters='{"a":1}'),
        "behalf": request(request_id=name, on_behalf_of="somebody"),
        "task": request(request_id=name, task_id=task),
    }[how]
    channel = house.channel(house.svid(SUPPORT)) if how == "leaf" else house.good(SUPPORT)
    told = await outcome((exchange if way == "Exchange" else conversation)(channel, asked))
    assert told.reason == "REQUEST_ID_REUSED", told
    (event,) = [event for event in await house.recorded(told.request) if "reason" in event]
    assert event["reason"] == "REQUEST_ID_REUSED"


async def test_another_callers_id_is_no_concern_of_ours(house: House) -> None:
    name = fresh()
    one = (await exchange(house.good(SUPPORT), request(request_id=name))).credential
    two = (await exchange(house.good(WHOLESALE), request(request_id=name))).credential
    assert one.credential_id != two.credential_id
    assert (one.tenant, two.tenant) == ("retail", "wholesale")


async def test_fifty_at_once_are_one_credential(house: House) -> None:
    name = fresh()
    channels = [house.good(SUPPORT)] * AT_ONCE
    answers = await asyncio.gather(*(exchange(channel, request(request_id=name)) for channel in channels))
    (credential,) = {answer.credential.credential_id for answer in answers}
    assert await kinds(house, credential) == {"credential.granted": 1, "credential.reissued": AT_ONCE - 1}


async def test_fifty_different_intents_at_once_are_one_credential(house: House) -> None:
    name = fresh()
    asked = [
        request(request_id=name, resource=types_pb2.Resource(type="order", id=str(number))) for number in range(AT_ONCE)
    ]
    answers = await asyncio.gather(*(outcome(exchange(house.good(SUPPORT), one)) for one in asked))
    assert Counter(told.reason for told in answers) == {"": 1, "REQUEST_ID_REUSED": AT_ONCE - 1}


async def test_fifty_in_one_message(house: House) -> None:
    name = fresh()
    call: Any = exchange_pb2_grpc.ExchangeServiceStub(house.good(SUPPORT)).ExchangeStream(timeout=PATIENCE)
    await call.write(items(*[request(request_id=name)] * 25, *[other(request_id=name)] * 25))
    answers = list((await call.read()).items)
    while len(answers) < AT_ONCE:
        answers += (await call.read()).items
    call.cancel()
    assert Counter(item.WhichOneof("outcome") for item in answers) == {"credential": 25, "refusal": 25}
    assert len({item.credential.credential_id for item in answers if item.HasField("credential")}) == 1


async def test_asking_again_does_not_undo_what_ended_it(house: House) -> None:
    channel, name = house.good(SUPPORT), fresh()
    given = (await exchange(channel, request(request_id=name))).credential
    await revoke(house.good(SECURITY), credential_id=given.credential_id)
    assert (await outcome(exchange(channel, request(request_id=name)))).reason == "CREDENTIAL_REVOKED"
    task, name = (await begin_task(channel)).task.task_id, fresh()
    await exchange(channel, request(request_id=name, task_id=task))
    await end_task(channel, task)
    assert (await outcome(exchange(channel, request(request_id=name, task_id=task)))).reason == "TASK_ENDED"
    assert not (await outcome(exchange(channel, request()))).reason


async def test_an_id_whose_credential_is_over_gives_nothing_new(house: House) -> None:
    channel, asked = house.good(SUPPORT), request(request_id=fresh())
    asked.lifetime.seconds = 1
    await exchange(channel, asked)

    async def over() -> bool:
        return (await outcome(exchange(channel, asked))).reason == "REQUEST_ID_REUSED"

    await eventually(over)
