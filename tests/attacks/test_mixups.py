"""One kind of thing shown as another (A7): what is signed for one use counts for no other."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from broker.v1 import keys_pb2
from tests.attacks.entrances import BY_NAME, PATIENCE, audit, checkpoint, first, key_set, outcome, revocations
from tests.attacks.house import House
from tests.attacks.test_tokens import Guarded, agent, guarded
from tests.operations.world import ORDERS, SECURITY


@pytest.fixture(scope="module")
async def service(house: House) -> AsyncIterator[Guarded]:
    async with guarded(house) as running:
        yield running


async def shown(house: House) -> dict[str, str]:
    """Everything else that the broker or SPIRE has signed or sealed, as one word of ASCII each."""
    owner = agent(house)
    keys: keys_pb2.GetKeySetResponse = await key_set(house.good(ORDERS))
    note = (await checkpoint(house.good(SECURITY))).checkpoint.note
    page = await first(audit(house.good(SECURITY)))
    return {
        "svid": _word(owner.svid.certificate_chain.decode()),
        "cursor-of-the-log": page.cursor,
        "cursor-of-revocations": (await first(revocations(house.good(ORDERS)))).cursor,
        "checkpoint": _word(note),
        "event": _word(page.events[0].event.decode()),
        "key-set": _word(keys.key_set.jwks),
        "checkpoint-key": keys.key_set.checkpoint_key,
    }


def _word(text: str) -> str:
    """What of a text metadata can carry."""
    return "".join(character for character in text if "!" <= character <= "~")


async def test_a7_nothing_else_that_is_signed_is_a_credential(house: House, service: Guarded) -> None:
    owner = agent(house)
    token, _ = await owner.token()
    for name, text in (await shown(house)).items():
        assert (name, await service.call(owner, text)) == (name, "TOKEN_MALFORMED")
    head, payload, signature = token.split(".")
    for other in (f"{payload}.{head}.{signature}", f"{head}.{payload}", f"{head}.{payload}.{signature}."):
        assert await service.call(owner, other) == "TOKEN_MALFORMED"
    assert await service.call(owner, token) == ""


CURSORS: dict[str, Callable[[grpc.aio.Channel, str], Any]] = {
    SECURITY: lambda channel, cursor: first(audit(channel, cursor)),
    ORDERS: lambda channel, cursor: first(revocations(channel, cursor)),
}


async def test_a7_a_credential_is_no_cursor_and_one_streams_cursor_is_not_anothers(house: House) -> None:
    token, _ = await agent(house).token()
    kinds = await shown(house)
    texts = {"token": token} | kinds
    for who, follow in CURSORS.items():
        for name, text in texts.items():
            if len(text) > 1024 or (who, name) in ((SECURITY, "cursor-of-the-log"), (ORDERS, "cursor-of-revocations")):
                continue
            told = await outcome(follow(house.good(who), text))
            assert told.reason.startswith("CURSOR_"), (who, name, told)
    # The control: each is good for what it is.
    assert (await outcome(CURSORS[SECURITY](house.good(SECURITY), kinds["cursor-of-the-log"]))).reason == ""
    assert (await outcome(CURSORS[ORDERS](house.good(ORDERS), kinds["cursor-of-revocations"]))).reason == ""


async def test_a7_a_credential_lets_nobody_into_the_broker(house: House) -> None:
    """A credential is for a service; shown to the broker it makes nobody anybody."""
    token, _ = await agent(house).token()
    who = "spiffe://example.org/nobody/with-a-token"
    async with house.wire(house.svid(who)) as wire:
        call = BY_NAME["Exchange"].ask(wire.channel)
        without = await outcome(call)
        path = "/broker.v1.ExchangeService/Exchange"
        plain: Any = wire.channel.unary_unary(path)
        with_one = await outcome(plain(b"", metadata=(("authorization", f"Bearer {token}"),), timeout=PATIENCE))
    assert without.reason == "PRINCIPAL_UNKNOWN"
    assert with_one.reason in ("REQUEST_INVALID", "PRINCIPAL_UNKNOWN")
    assert token not in with_one.everything
