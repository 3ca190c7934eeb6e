"""Texts that a caller gives (C4): a line break or a terminal's command in any field of any request is refused."""

from collections.abc import Callable, Iterator

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from broker.v1 import exchange_pb2, task_pb2, types_pb2
from tests.attacks.entrances import BY_NAME, NOBODYS_TASK, Outcome, begin_task, outcome, request
from tests.attacks.house import House
from tests.attacks.inventory import methods
from tests.attacks.raw import PATHS, ask, send
from tests.operations.world import SUPPORT

METHODS = {method.name: method for method in methods()}
# The items of a stream are requests as Exchange has them.
WRAPPED = {"ExchangeStream": exchange_pb2.ExchangeRequest.DESCRIPTOR}
# JSON, whose own parser says where it may have line breaks, and what a value in it may be.
JSON = ("intent.parameters", "boundary.limits")
# The requests in which such a text stands, otherwise in order.
GOOD: dict[str, Callable[[], Message]] = {
    "Exchange": request,
    "ExchangeStream": request,
    "BeginTask": lambda: task_pb2.BeginTaskRequest(purpose="customer-support"),
    "NarrowTask": lambda: task_pb2.NarrowTaskRequest(task_id=NOBODYS_TASK),
}
UNFIT = {"line feed": "a\nb", "escape": "\x1b[2J", "NUL": "a\0", "C1": "\x9b2J", "line separator": "a\u2028b"}


def texts(message: Descriptor, path: str = "") -> Iterator[str]:
    """Yield the path of every text below a message."""
    for field in message.fields:
        if field.message_type is not None:
            yield from texts(field.message_type, f"{path}{field.name}.")
        elif field.type == FieldDescriptor.TYPE_STRING:
            yield path + field.name


ALL = [(name, path) for name, method in METHODS.items() for path in texts(WRAPPED.get(name, method.input_type))]
FIELDS = [(name, path) for name, path in ALL if path not in JSON]


def put(message: Message, path: str, text: str) -> None:
    """Set the text at a path, in the first entry of what is a list."""
    first, _, rest = path.partition(".")
    held = getattr(message, first)
    if rest:
        put(held.add() if hasattr(held, "add") else held, rest, text)
    elif hasattr(held, "append"):
        held.append(text)
    else:
        setattr(message, first, text)


async def told(house: House, name: str, path: str, text: str) -> Outcome:
    """How a request ends that is in order, or holds nothing, but for one text."""
    message = GOOD[name]() if name in GOOD else GetMessageClass(METHODS[name].input_type)()
    put(message, path, text)
    channel = house.good(BY_NAME[name].who)
    if name in ("Exchange", "ExchangeStream"):
        return await ask(channel, name, message)
    return await send(channel, PATHS[name], message.SerializeToString())


@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
@pytest.mark.parametrize(("name", "path"), FIELDS, ids=[f"{name}.{path}" for name, path in FIELDS])
async def test_c4_what_moves_a_line_is_refused_in_every_field(house: House, name: str, path: str, unfit: str) -> None:
    refused = await told(house, name, path, unfit)
    assert refused.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), refused
    if path.startswith("intent."):  # a grammar of its own, with reasons of its own
        assert refused.reason.startswith(("INTENT_", "TASK_UNKNOWN")), refused
    else:
        said = f"{path}: no control characters and no line breaks"
        assert (refused.reason, refused.metadata["detail"]) == ("REQUEST_INVALID", said), refused
    assert unfit not in refused.everything
    fit = await told(house, name, path, "ab")
    assert "no control characters" not in fit.metadata.get("detail", ""), fit


@pytest.mark.parametrize("raw", ["\n", "\0", "\x1b"])
@pytest.mark.parametrize(("name", "path"), sorted(set(ALL) - set(FIELDS)))
async def test_c4_a_raw_control_character_within_a_text_of_json_is_refused(
    house: House, name: str, path: str, raw: str
) -> None:
    refused = await told(house, name, path, f'{{"a":"{raw}"}}')
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT, refused
    assert (await told(house, name, path, '{"a":"b"}')).reason != refused.reason


async def test_c4_a_conversation_of_one_line_is_begun_and_no_other(house: House) -> None:
    assert (await outcome(begin_task(house.good(SUPPORT), conversation="chat 7: Zahlung \u202e"))).reason == ""
    who = "spiffe://example.org/attacker/of-lines"  # nobody else's refusals count against this one's events
    channel = house.channel(house.svid(who))
    refused = await outcome(begin_task(channel, conversation="chat 7\nbroker: all is well"))
    await channel.close()
    assert refused.reason == "REQUEST_INVALID"
    (event,) = await house.recorded(refused.request)
    assert (event["type"], event["reason"], event["spiffe_id"]) == ("request.refused", "REQUEST_INVALID", who)


async def test_json_may_have_line_breaks_between_its_members(house: House) -> None:
    boundary = types_pb2.TaskBoundary(limits='{\n\t"order.refund": {\r\n "amount": {"max": 1}}\n}')
    assert (await outcome(begin_task(house.good(SUPPORT), boundary=boundary))).reason == ""
