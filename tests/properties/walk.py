"""A walk through a real issuer: what agents, operators and time do, in any order, and what has to hold on the way."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from broker.credential.keys import read_jwks
from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.intent import Intent, Resource
from broker.operations.calls import ExchangeCall, ReadCall
from broker.operations.task_calls import NarrowTaskCall
from tests.operations.world import COURIER, DUTY, ORDERS, SECURITY, SHARED, SUPPORT, WHOLESALE, World, open_world
from tests.properties.asked import actions, agents, boundary_of, fitting, levels, odd, often, walls
from tests.properties.judged import SOON, Bars, Held, no_wider
from tests.properties.model import TENANTS, TYPES, Piece

OTHERS: Final = (SECURITY, DUTY, ORDERS)
REVOKED: Final = [
    ("agent", SUPPORT),
    ("agent", SHARED),
    ("tenant", "wholesale"),
    ("policy", "support-may-refund"),
    ("policy", "order-readers-may-look-up-orders"),
]
STOPPED: Final = [
    ("agent", WHOLESALE),
    ("tenant", "retail"),
    ("class", "write"),
    ("action", "order.read"),
    ("everything", ""),
]
QUIET, BARRED = 15, 4
Answer = TypeVar("Answer")


@dataclass(kw_only=True)
class Stage:
    """Where walks are walked: each in a new issuer, whose clock stands still unless the walk moves it."""

    runner: asyncio.Runner
    counts: Counter[str] = field(default_factory=Counter)

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.runner.run(work)

    async def open(self, stack: AsyncExitStack) -> World:
        """Open a world until the stack is closed."""
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="never-wider-"))
        world = await stack.enter_async_context(open_world(Path(folder)))
        world.time.still = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
        return world


class Walk(RuleBasedStateMachine):
    """What agents, operators and time do, in any order."""

    stage: Stage

    def __init__(self) -> None:
        super().__init__()
        self.stack = AsyncExitStack()
        self.world = self.stage.run(self.stage.open(self.stack))
        self.pieces: list[Piece] = []
        self.held: list[Held] = []
        self.bars = Bars()
        self.asked: dict[tuple[str, str], Credential] = {}
        self.quiet = 0

    # --- what happens ----------------------------------------------------------------------------------------------

    @rule(data=st.data(), who=agents, minutes=st.sampled_from([5, 60]), tenant=st.sampled_from(["retail", "wholesale"]))
    def begin(self, data: st.DataObject, who: str, minutes: int, tenant: str) -> None:
        """A task begins, never wider than its type nor than asked."""
        self._begin(who, data.draw(walls(who)), minutes, tenant)

    def _begin(self, who: str, wall: dict[str, Any], minutes: int, tenant: str) -> None:
        self._count("begin")
        named = tenant if len(TENANTS[who]) > 1 else ""
        purpose = "delivery" if who == COURIER else "customer-support"
        lifetime = timedelta(minutes=minutes)
        try:
            task = self._ask(
                self.world.begin(who, purpose=purpose, tenant=named, lifetime=lifetime, boundary=boundary_of(wall))
            )
        except Refusal:
            return
        assert task.tenant == (named or TENANTS[who][0])
        assert not self.bars.cover(who, task.tenant, "")
        assert task.deadline <= self._now() + lifetime
        piece = Piece(id=task.id, agent=who, tenant=task.tenant, purpose=purpose, deadline=task.deadline, walls=[wall])
        self.pieces.append(piece)
        self._count("begun")

    @rule(data=st.data())
    def narrow(self, data: st.DataObject) -> None:
        """A task is narrowed; what was given and lies outside now has ended."""
        if not self.pieces:
            return
        self._count("narrow")
        piece = data.draw(st.sampled_from(self.pieces))
        wall = data.draw(walls(piece.agent))
        call = NarrowTaskCall(
            context=self.world.context(piece.agent), task=piece.id, boundary=boundary_of(wall), text="a walk"
        )
        before = [each for each in self._alive() if each.piece is piece]
        try:
            going = self._ask(self.world.issuer.narrow_task(call))
        except Refusal:
            return
        if going.task.suspended_at is not None:
            # It drifted: everything of it has ended, and nothing is given in it any more.
            assert going.revoked == 0
            piece.over = True
            self.held = [each for each in self.held if each.piece is not piece]
            return
        assert not piece.over
        piece.walls.append(wall)
        outside = [each for each in before if not each.within(piece)]
        assert going.revoked >= len(outside), "what came before is still wider than the task"
        gone = {id(each) for each in outside}
        self.held = [each for each in self.held if id(each) not in gone]
        self._count("narrowed")

    @rule(data=st.data(), who=agents, count=st.integers(1, 6))
    def exchange(self, data: st.DataObject, who: str, count: int) -> None:
        """Somebody asks for several things at once, most of which fit."""
        self._pass_bars()
        if not any(piece.agent == who and not piece.over for piece in self.pieces):
            self._begin(who, {}, 60, TENANTS[who][0])
        asked = [self._question(data, who) for _ in range(count)]
        answers = self._ask(self.world.issuer.exchange([call for call, _, _ in asked]))
        for (call, piece, resource), answer in zip(asked, answers, strict=True):
            self._count("exchange")
            if isinstance(answer, Refusal):
                assert answer.reason is not Reason.INTERNAL
                self.stage.counts[answer.reason.name] += 1
                continue
            self._count("given")
            assert isinstance(call.intent, Intent)
            held = Held(credential=answer, piece=piece, resource=resource, intent=call.intent)
            earlier = self._earlier(who, call.request_id)
            if earlier is not None:
                self._count("given again")
                assert answer.grant == earlier.grant, "the same request is the same grant, to the second"
            else:
                no_wider(held, who, call.lifetime, self._keys(), self.bars)
                self.held.append(held)
                self.asked[who, call.request_id] = answer

    def _earlier(self, who: str, request: str) -> Credential | None:
        """Return what was given for a request; an id whose credential is over may have been forgotten."""
        found = self.asked.get((who, request)) if request else None
        return found if found and found.grant.expires_at > self._now() else None

    def _question(self, data: st.DataObject, who: str) -> tuple[ExchangeCall, Piece | None, tuple[str, str, str]]:
        own = [piece for piece in self.pieces if piece.agent == who and not piece.over][-3:]
        tasks: list[Piece | None] = [*own * 4, *self.pieces[-1:], None]
        piece, fit = data.draw(st.sampled_from(tasks)), data.draw(often)
        action = data.draw(st.sampled_from(sorted(TYPES[who])) if fit else actions)
        kind = "customer" if action.startswith("customer") else "order"
        resource = (kind, data.draw(st.sampled_from(["1", "2"])), "")
        if action == "order.list" and fit:
            resource = (kind, "", "open-orders")
        intent = Intent(
            action=action,
            resource=Resource(type=resource[0], id=resource[1], set=resource[2]),
            parameters=data.draw(fitting.get(action, st.just({})) if fit else odd),
            purpose="other" if not data.draw(often) else "delivery" if who == COURIER else "customer-support",
            audience=ORDERS,
            task=piece.id if piece else "",
            sensitivity=data.draw(levels),
            risk=data.draw(levels),
        )
        again = data.draw(st.sampled_from(["", "", "", intent.digest()[:40], intent.digest()[:40], "the same for all"]))
        seconds = data.draw(st.sampled_from([None, 1, 30, 3600]))
        lifetime = None if seconds is None else timedelta(seconds=seconds)
        call = ExchangeCall(context=self.world.context(who), intent=intent, lifetime=lifetime, request_id=again)
        return call, piece, resource

    exchange_too = exchange

    @rule(minutes=st.sampled_from([0, 0, 1, 10]))
    def time_goes_by(self, minutes: int) -> None:
        """Time goes by; the leaves of those who are not tried are renewed."""
        self._count("time")
        self.world.time.ahead += timedelta(minutes=minutes, seconds=1)
        for who in OTHERS:
            self._renew(who)
        for piece in self.pieces:
            piece.over = piece.over or piece.deadline <= self._now()

    @rule(who=agents)
    def renew(self, who: str) -> None:
        """An agent gets its next SVID."""
        self._count("renew")
        self._renew(who)
        self.asked = {key: held for key, held in self.asked.items() if key[0] != who}

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """A task ends."""
        if not self.pieces:
            return
        self._count("end")
        piece = data.draw(st.sampled_from(self.pieces))
        try:
            self._ask(self.world.end(piece.id, piece.agent))
        except Refusal:
            return
        piece.over = True
        self.held = [each for each in self.held if each.piece is not piece]

    @precondition(lambda self: self.quiet > QUIET)
    @rule(named=st.sampled_from(REVOKED + STOPPED))
    def bar(self, named: tuple[str, str]) -> None:
        """An operator revokes or stops something; after a few questions it is lifted, so that walks go on."""
        self._count("bar")
        self.held.clear()  # what of it has ended, this model does not say
        self.quiet = 0
        if named in REVOKED:
            self.bars.revoked[self._ask(self.world.revoke(*named)).revocation] = named
        else:
            self.bars.stopped[self._ask(self.world.stop(*named)).override] = named

    def _pass_bars(self) -> None:
        """Under a bar a few questions are asked, then none of them is in force any more."""
        self.quiet += 1
        if self.quiet < BARRED:
            return
        for revocation in list(self.bars.revoked):
            self._ask(self.world.lift(revocation))
            del self.bars.revoked[revocation]
        for override in list(self.bars.stopped):
            self._ask(self.world.let_go_on(override))
            del self.bars.stopped[override]

    def teardown(self) -> None:
        """Leave."""
        self.stage.run(self.stack.aclose())

    # --- how it is asked -------------------------------------------------------------------------------------------

    def _alive(self) -> Iterator[Held]:
        """Yield what is certainly alive; what a rule or a stop may have ended is left out, also after it was lifted."""
        if not self.bars:
            yield from (each for each in self.held if each.credential.grant.expires_at > self._now() + SOON)

    def _ask(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.stage.run(work)

    def _keys(self) -> Any:
        found = self._ask(self.world.issuer.key_set(ReadCall(context=self.world.context(ORDERS))))
        return read_jwks(found.jwks)

    def _renew(self, who: str) -> None:
        for domain in self.world.domains.values():
            domain.now = self._now()
        self.world.renew(who)

    def _now(self) -> datetime:
        return self.world.time()

    def _count(self, what: str) -> None:
        self.stage.counts[what] += 1
        self.stage.counts["steps"] += what not in ("begun", "narrowed", "given", "given again")
