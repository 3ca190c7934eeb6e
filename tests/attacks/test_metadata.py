"""Metadata that a caller makes up: it is a trace id or nothing, and never part of who asks or what for."""

import pytest

from tests.attacks.entrances import items, request
from tests.attacks.house import House
from tests.attacks.raw import PATHS, send
from tests.operations.world import SUPPORT

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENTS = {
    "good": ([f"00-{TRACE}-b7ad6b7169203331-01"], TRACE),
    "garbage": (["%s%n\\x00"], ""),
    "too-long": (["0" * 8000], ""),
    "upper-case": ([f"00-{TRACE.upper()}-b7ad6b7169203331-01"], ""),
    "zero": ([f"00-{'0' * 32}-b7ad6b7169203331-01"], ""),
    "twice": ([f"00-{TRACE}-b7ad6b7169203331-01"] * 2, ""),
    "trailing-text": ([f"00-{TRACE}-b7ad6b7169203331-01-x"], ""),
}


@pytest.mark.parametrize("way", ["Exchange", "ExchangeStream"])
@pytest.mark.parametrize(("values", "trace"), TRACEPARENTS.values(), ids=TRACEPARENTS.keys())
async def test_a_traceparent_is_one_or_none(house: House, way: str, values: list[str], trace: str) -> None:
    content = request(purpose="curiosity").SerializeToString()
    before = len(await house.log())
    content = content if way == "Exchange" else items(request(purpose="curiosity")).SerializeToString()
    await send(house.good(SUPPORT), PATHS[way], content, metadata=[("traceparent", value) for value in values])
    for event in (await house.log())[before:]:
        assert event.get("trace", "") == trace
