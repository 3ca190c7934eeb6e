"""Cursors that are not the reader's own of this very stream: an error with its reason, never other data (H1)."""

import hmac
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from broker.audit.cursor import Place, seal
from broker.operations.calls import AuditFilter
from broker.operations.subscribe import _view
from broker.text import is_fit
from broker.v1 import audit_pb2
from tests.attacks.entrances import audit, exchange, first, outcome, request, revocations
from tests.attacks.house import AUDITOR, INVOICES, House
from tests.operations.world import ORDERS, SECURITY, SUPPORT

RETAIL = audit_pb2.AuditFilter(tenant="retail")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The cursors that the readers of a house hold, each good for its own stream."""

    audit: str
    retail: str
    revocations: str


@pytest.fixture(scope="module")
async def held(house: House) -> Held:
    await exchange(house.good(SUPPORT), request())
    return Held(
        audit=(await first(audit(house.good(SECURITY)))).cursor,
        retail=(await first(audit(house.good(SECURITY), filter=RETAIL))).cursor,
        revocations=(await first(revocations(house.good(ORDERS)))).cursor,
    )


async def refused(house: House, call: Awaitable[Any], *reasons: str) -> None:
    told = await outcome(call)
    assert told.answer is None
    assert told.reason in reasons, told
    if told.reason != "REQUEST_INVALID":
        assert told.code is grpc.StatusCode.OUT_OF_RANGE
    for event in await house.recorded(told.request):  # none when there were more than ten of them in this second
        assert event["reason"] == told.reason


Use = Callable[[House, Held], Awaitable[Any]]
FOREIGN: dict[str, Use] = {
    "another-readers": lambda house, held: first(audit(house.good(AUDITOR), held.audit)),
    "another-services": lambda house, held: first(revocations(house.good(INVOICES), held.revocations)),
    "an-agents": lambda house, held: first(revocations(house.good(SUPPORT), held.revocations)),
    "revocations-in-audit": lambda house, held: first(audit(house.good(SECURITY), held.revocations)),
    "audit-in-revocations": lambda house, held: first(revocations(house.good(ORDERS), held.audit)),
    "filtered-without-filter": lambda house, held: first(audit(house.good(SECURITY), held.retail)),
    "unfiltered-with-filter": lambda house, held: first(audit(house.good(SECURITY), held.audit, filter=RETAIL)),
    "another-filter": lambda house, held: first(
        audit(house.good(SECURITY), held.retail, filter=audit_pb2.AuditFilter(tenant="wholesale"))
    ),
    "another-kind": lambda house, held: first(
        audit(house.good(SECURITY), held.retail, filter=audit_pb2.AuditFilter(tenant="retail", kinds=["task.begun"]))
    ),
}


@pytest.mark.parametrize("use", FOREIGN.values(), ids=FOREIGN.keys())
async def test_h1_a_cursor_of_something_else(house: House, held: Held, use: Use) -> None:
    await refused(house, use(house, held), "CURSOR_FOREIGN")
    # The controls: each is good where it belongs.
    assert await first(audit(house.good(SECURITY), held.audit))
    assert await first(audit(house.good(SECURITY), held.retail, filter=RETAIL))
    assert await first(revocations(house.good(ORDERS), held.revocations))


async def test_h1_every_flipped_bit_is_seen(house: House, held: Held) -> None:
    for at in range(0, len(held.audit), 7):
        for bit in (1, 2, 32):
            flipped = bytearray(held.audit.encode())
            flipped[at] ^= bit
            cursor = flipped.decode("latin-1")
            # A control character is no text at all.
            reasons = ("CURSOR_TAMPERED", "CURSOR_MALFORMED") if is_fit(cursor) else ("REQUEST_INVALID",)
            await refused(house, first(audit(house.good(SECURITY), cursor)), *reasons)
    swapped = ".".join([held.audit.split(".")[0], held.retail.split(".")[1]])
    await refused(house, first(audit(house.good(SECURITY), swapped)), "CURSOR_TAMPERED")


GARBAGE = [" ", ".", "a.b", "x" * 1024, "é.é", "AA.AA==", "A" * 1025, "\x00", "../../etc/passwd", "0"]


@pytest.mark.parametrize("cursor", GARBAGE, ids=range(len(GARBAGE)))
async def test_h1_garbage_is_no_cursor(house: House, held: Held, cursor: str) -> None:
    reasons = ("CURSOR_MALFORMED", "CURSOR_TAMPERED", "REQUEST_INVALID")
    await refused(house, first(audit(house.good(SECURITY), cursor)), *reasons)
    await refused(house, first(revocations(house.good(ORDERS), cursor)), *reasons)
    assert await first(audit(house.good(SECURITY), held.audit))


def cursor_by_key(house: House, *, log: str | None = None, position: int) -> str:
    """Make a cursor as a second broker with the same key would."""
    store = house.issuer.verbs.attempt.recorder.store
    place = Place(log=log or store.log_id, stream="audit", reader=SECURITY, view=_view(AuditFilter()))
    return seal(place, position, "", store.cursor_key)


async def test_h1_a_second_broker_with_the_same_key(house: House) -> None:
    size = (await house.issuer.state()).size
    good = cursor_by_key(house, position=size)
    assert (await first(audit(house.good(SECURITY), good))).from_position == size
    ahead = cursor_by_key(house, position=size + 1000)
    await refused(house, first(audit(house.good(SECURITY), ahead)), "CURSOR_FROM_THE_FUTURE")
    other = cursor_by_key(house, log="log_0190a0a0-0000-7000-8000-000000000000", position=0)
    await refused(house, first(audit(house.good(SECURITY), other)), "CURSOR_FOREIGN")


async def test_h1_another_logs_cursor(house: House, own_house: House, held: Held) -> None:
    await refused(own_house, first(audit(own_house.good(SECURITY), held.audit)), "CURSOR_TAMPERED")
    await refused(own_house, first(revocations(own_house.good(ORDERS), held.revocations)), "CURSOR_TAMPERED")
    assert await first(audit(house.good(SECURITY), held.audit))


async def test_h1_a_store_that_was_restored_from_a_backup(own_house: House) -> None:
    house = own_house
    database = house.settings.store.path
    saved = house.folder / "saved"
    before = (await first(audit(house.channel(house.svid(SECURITY))))).cursor
    kept = (await house.issuer.state()).size
    await house.stop()
    saved.mkdir()
    for path in house.folder.glob(database.name + "*"):
        shutil.copy2(path, saved)
    await house.start()
    for _ in range(20):
        await exchange(house.channel(house.svid(SUPPORT)), request())
    channel = house.channel(house.svid(SECURITY))
    ahead = (await first(audit(channel))).cursor
    followed = (await first(revocations(house.channel(house.svid(ORDERS))))).cursor
    assert await first(audit(channel, ahead))  # the control: before the restore it is good
    await house.stop()
    for path in house.folder.glob(database.name + "*"):
        path.unlink()
    for path in saved.iterdir():
        shutil.copy2(path, house.folder)
    await house.start()
    reader = house.channel(house.svid(SECURITY))
    await refused(house, first(audit(reader, ahead)), "CURSOR_FROM_THE_FUTURE")
    service = house.channel(house.svid(ORDERS))
    await refused(house, first(revocations(service, followed)), "CURSOR_FROM_THE_FUTURE")
    # The log grows past them again: the positions are there, what was read is not.
    for _ in range(60):
        await exchange(house.good(SUPPORT), request())
    assert (await first(audit(reader))).heartbeat.position > 60
    await refused(house, first(audit(reader, ahead)), "CURSOR_FOREIGN")
    await refused(house, first(revocations(service, followed)), "CURSOR_FOREIGN")
    # And what was read before the backup was taken is still what follows.
    assert (await first(audit(reader, before))).from_position < kept


async def test_i9_a_seal_takes_as_long_wherever_it_differs(
    house: House, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one secret that is compared is a cursor's seal; tokens and notes are judged by their signatures."""
    compared: list[int] = []
    compare = hmac.compare_digest

    def noted(one: bytes, other: bytes) -> bool:
        compared.append(len(one))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    flipped = held.audit[:-2] + ("AA" if held.audit[-2:] != "AA" else "BA")
    await refused(house, first(audit(house.good(SECURITY), flipped)), "CURSOR_TAMPERED", "CURSOR_MALFORMED")
    assert await first(audit(house.good(SECURITY), held.audit))
    assert set(compared) == {32}, "it was compared whole, and in no other way"
