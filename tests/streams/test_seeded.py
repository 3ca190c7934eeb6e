"""Bugs, seeded one by one in what serves the streams and in who reads them: the checker names each of them.

Everything else is real: door, issuer, store and connections. Without a bug the same run breaks no promise.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from broker.client import subscriber
from broker.issuer.local import LocalIssuer
from broker.issuer.port import AuditPage, AuditPageCall, RevocationPage, RevocationPageCall
from tests.attacks.house import House, open_house
from tests.operations.world import ORDERS, SECURITY, SUPPORT
from tests.polling import eventually
from tests.streams.history import Opened, Property, Violation, violations
from tests.streams.raw import Raw
from tests.streams.recorded import SdkSubscriber
from tests.streams.traffic import Traffic, dice
from tests.streams.truth import Log, View

AUDIT = View(stream="audit", reader=SECURITY)
SERVICE = View(stream="revocations", reader=ORDERS)
AGENT = View(stream="revocations", reader=SUPPORT)
ROUNDS = 6


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as opened:
        yield opened


async def watched(house: House, reader: Raw) -> set[Property]:
    """Let a subscriber follow what happens, resuming each time; return which promises were broken."""
    traffic = Traffic(house=house, dice=dice(7))
    for _ in range(ROUNDS):  # what had ended before stands in snapshots
        await traffic.round()
    for _ in range(ROUNDS):
        begun = len(reader.steps)
        reading = asyncio.create_task(reader.read_to((await house.issuer.state()).size + 6))
        await eventually(partial(_heard, reader, begun))  # what comes now comes underway
        for _ in range(3):
            await traffic.round()
        await reading
        await traffic.round()  # and this waits for whoever resumes
    size = (await house.issuer.state()).size
    await reader.read_to(size)
    await traffic.close()
    truth = Log.read(house.settings.store.path).truth(reader.view, until=size, known=traffic.known)
    assert len(truth.contents) > ROUNDS
    return kinds(violations(reader.history(), truth))


async def _heard(reader: Raw, begun: int) -> bool:
    return len(reader.steps) > begun


def kinds(found: Any) -> set[Property]:
    return {each.property for each in found if isinstance(each, Violation)}


@pytest.mark.parametrize("view", [AUDIT, SERVICE, AGENT], ids=lambda view: f"{view.stream}-{view.reader[-7:]}")
async def test_without_a_bug_every_promise_is_kept(house: House, view: View) -> None:
    assert await watched(house, Raw(house=house, view=view)) == set()


# --- in what serves the streams ------------------------------------------------------------------------------------

Page = AuditPage | RevocationPage
Call = AuditPageCall | RevocationPageCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """What a broken issuer makes of a page, and which promise that breaks."""

    view: View
    breaks: Property
    lie: Callable[[Any, Any, dict[str, Any]], Page]


def dropped(_: AuditPageCall, page: AuditPage, __: dict[str, Any]) -> AuditPage:
    """An event is lost within a page, as where a reader goes by a number that commits out of order."""
    return replace(page, events=page.events[:1] + page.events[2:])


def dropped_revocation(_: RevocationPageCall, page: RevocationPage, __: dict[str, Any]) -> RevocationPage:
    return replace(page, revoked=page.revoked[1:])


def doubled(_: AuditPageCall, page: AuditPage, held: dict[str, Any]) -> AuditPage:
    """The last event of a page comes again with the next one, as where a cursor names what was told last."""
    before = held.get("last", ())
    held["last"] = page.events[-1:]
    return replace(page, events=(*before, *page.events))


def swapped(_: AuditPageCall, page: AuditPage, __: dict[str, Any]) -> AuditPage:
    """Two neighbours have changed places, as where two writers hand on what they wrote."""
    return replace(page, events=(*page.events[1:2], *page.events[:1], *page.events[2:]))


def torn_event(_: AuditPageCall, page: AuditPage, __: dict[str, Any]) -> AuditPage:
    """An event was cut short."""
    return replace(page, events=tuple(replace(each, content=each.content[:-1]) for each in page.events))


def torn_revocation(_: RevocationPageCall, page: RevocationPage, __: dict[str, Any]) -> RevocationPage:
    """Of what one event ended only the first is told."""
    cut = (replace(each, status_indexes=each.status_indexes[:1]) for each in page.revoked)
    return replace(page, revoked=tuple(cut))


def split_revocation(_: RevocationPageCall, page: RevocationPage, __: dict[str, Any]) -> RevocationPage:
    """What one event ended is told in two parts."""
    parts = (
        replace(each, status_indexes=part)
        for each in page.revoked
        for part in (each.status_indexes[:1], each.status_indexes[1:])
        if part
    )
    return replace(page, revoked=tuple(parts))


def jumped_on_resuming(call: AuditPageCall, page: AuditPage, _: dict[str, Any]) -> AuditPage:
    """A stream that is resumed begins where the log has got to meanwhile."""
    if not call.opening or not call.cursor:
        return page
    return replace(page, events=(), page=replace(page.page, start=page.page.stop))


def jumped_underway(call: AuditPageCall, page: AuditPage, _: dict[str, Any]) -> AuditPage:
    """The first event of each page but a stream's first one was pruned away, and the page begins behind it."""
    if call.opening or not page.events:
        return page
    return replace(page, events=page.events[1:], page=replace(page.page, start=page.page.start + 1))


def stale(_: RevocationPageCall, page: RevocationPage, held: dict[str, RevocationPage]) -> RevocationPage:
    """A reader is served, as of now, from a copy that is a page behind."""
    before, held["page"] = held.get("page"), page
    if before is None or before.snapshot is not None:
        return page
    return replace(before, page=replace(before.page, read_at=page.page.read_at))


def stale_heartbeat(call: AuditPageCall, page: AuditPage, _: dict[str, Any]) -> AuditPage:
    """A stream's first heartbeat says that nothing is new, without having looked."""
    if not call.opening or page.page.start == page.page.stop:
        return page
    at = page.page.start
    nothing = replace(page.page, stop=at, size=at)
    return replace(page, events=(), page=nothing)


def stale_snapshot(_: RevocationPageCall, page: RevocationPage, __: dict[str, Any]) -> RevocationPage:
    """A snapshot lacks what ended just before it."""
    if page.snapshot is None:
        return page
    return replace(page, snapshot=replace(page.snapshot, credential_ids=page.snapshot.credential_ids[1:]))


BUGS = {
    "dropped": Bug(view=AUDIT, breaks=Property.RELIABLE, lie=dropped),
    "dropped-revocation": Bug(view=SERVICE, breaks=Property.RELIABLE, lie=dropped_revocation),
    "doubled": Bug(view=AUDIT, breaks=Property.UNIQUE, lie=doubled),
    "swapped": Bug(view=AUDIT, breaks=Property.ORDERED, lie=swapped),
    "torn": Bug(view=AUDIT, breaks=Property.ATOMIC, lie=torn_event),
    "torn-revocation": Bug(view=SERVICE, breaks=Property.ATOMIC, lie=torn_revocation),
    "split-revocation": Bug(view=SERVICE, breaks=Property.ATOMIC, lie=split_revocation),
    "jumped-on-resuming": Bug(view=AUDIT, breaks=Property.RESUMABLE, lie=jumped_on_resuming),
    "jumped-underway": Bug(view=AUDIT, breaks=Property.RELIABLE, lie=jumped_underway),
    "stale-heartbeat": Bug(view=AUDIT, breaks=Property.BOOKMARKABLE, lie=stale_heartbeat),
    "stale-copy": Bug(view=SERVICE, breaks=Property.BOOKMARKABLE, lie=stale),
    "stale-snapshot": Bug(view=AGENT, breaks=Property.BOOKMARKABLE, lie=stale_snapshot),
}


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
async def test_a_bug_in_the_broker_is_named(house: House, monkeypatch: pytest.MonkeyPatch, bug: Bug) -> None:
    name = "audit_page" if bug.view.stream == "audit" else "revocation_page"
    real = getattr(LocalIssuer, name)
    held: dict[str, Any] = {}

    async def lying(issuer: LocalIssuer, call: Any) -> Any:
        return bug.lie(call, await real(issuer, call), held)

    monkeypatch.setattr(LocalIssuer, name, lying)
    assert bug.breaks in await watched(house, Raw(house=house, view=bug.view))


# --- in who reads them ---------------------------------------------------------------------------------------------


class Forgetful(Raw):
    """Resumes at the cursor before the one that it has got to."""

    def keep(self, message: Any) -> None:
        before, reached = self.cursor, self.reached
        super().keep(message)
        if reached is not None and reached < message.to_position:
            self.cursor, self.reached = before, reached


class Hasty(Raw):
    """Keeps its cursor first; with the first message of each stream that it resumes it does not come to the work."""

    def take(self, message: Any) -> None:
        if isinstance(self.steps[-1], Opened) and self.reached is not None:
            self.cursor, self.reached = message.cursor, message.to_position
        else:
            super().take(message)


READERS = {"forgetful": (Forgetful, Property.UNIQUE), "hasty": (Hasty, Property.RESUMABLE)}


@pytest.mark.parametrize(("kind", "breaks"), READERS.values(), ids=READERS)
async def test_a_bug_in_a_reader_is_named(house: House, kind: type[Raw], breaks: Property) -> None:
    assert breaks in await watched(house, kind(house=house, view=AUDIT))


async def followed_by_the_sdk(house: House) -> set[Property]:
    """Have a subscriber of the SDK cut off again and again while the log grows."""
    reader = SdkSubscriber(name="sdk", view=AUDIT, house=house, dice=dice(3))
    traffic = Traffic(house=house, dice=dice(7))
    for _ in range(8):
        await traffic.round()
        position = reader.reached
        for further in (3, 2):
            await reader.live_until(position + further)
    size = reader.until = (await house.issuer.state()).size
    await reader.live_until(size)
    await traffic.close()
    truth = Log.read(house.settings.store.path).truth(AUDIT, until=size)
    return kinds(violations(reader.history(), truth))


async def test_the_sdk_keeps_every_promise(house: House) -> None:
    assert await followed_by_the_sdk(house) == set()


def to_the_end(page: Any, _: object) -> Any:
    """Whoever acknowledges one event of a message has acknowledged all of it."""
    return page.end


def everything(message: Any, parts: Any, _: object) -> Any:
    """What was acknowledged is given again together with the rest of its message."""
    assert message
    return parts


SDK_BUGS = {
    "acknowledges-too-much": (subscriber._Page, "after", to_the_end, Property.RELIABLE),
    "gives-again": (subscriber, "_rest", everything, Property.UNIQUE),
}


@pytest.mark.parametrize(("owner", "name", "bug", "breaks"), SDK_BUGS.values(), ids=SDK_BUGS)
async def test_a_bug_in_the_sdk_is_named(
    house: House, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, bug: Any, breaks: Property
) -> None:
    monkeypatch.setattr(owner, name, bug)
    assert breaks in await followed_by_the_sdk(house)
