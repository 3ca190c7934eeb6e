"""What is kept of a run of canaries: who called, what came out and where, and what is looked for in it."""

import re
from collections import defaultdict
from collections.abc import Awaitable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import grpc
from google.protobuf.message import Message

from tests.attacks.canary import Canary, Place
from tests.attacks.entrances import Outcome, outcome
from tests.attacks.house import House
from tests.fakes.oidc_issuer import OidcIssuer
from tests.fakes.trust_domain import Svid
from tests.operations.world import ORDERS

SERVICE = "orders.example.org"
PERSONALLY = frozenset({Place.PERSONAL, Place.STORE})
NOTHING: frozenset[Place] = frozenset()


def canary(name: str) -> str:
    """Return a value that nobody writes by chance."""
    return "canary-" + re.sub("[^a-z]+", "-", name) + "-" + sha256(name.encode()).hexdigest()[:12]


@dataclass(kw_only=True)
class Run:
    """What came out, by place, and what was looked for in it."""

    house: House
    oidc: OidcIssuer
    stack: AsyncExitStack
    svids: dict[str, Svid] = field(default_factory=dict)
    places: dict[Place, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    canaries: dict[str, Canary] = field(default_factory=dict)
    _channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    def say(self, name: str, *may: Place, home: Place = Place.PERSONAL, forms: Iterable[bytes] = ()) -> str:
        """Return a canary's value, which is personal unless something else is said."""
        value = canary(name)
        allowed = (PERSONALLY if home is Place.PERSONAL else NOTHING) | set(may)
        self.canaries[name] = Canary(name=name, forms=tuple(forms) or (value.encode(),), home=home, may=allowed)
        self.keep(Place.SENT, value)
        return value

    def hold(self, name: str, forms: Iterable[bytes], home: Place, *may: Place) -> None:
        """Look for a secret that is not made here."""
        self.canaries[name] = Canary(name=name, forms=tuple(forms), home=home, may=frozenset(may))

    def keep(self, place: Place, *things: object) -> None:
        """Keep what came out."""
        for thing in things:
            if isinstance(thing, Message):
                self.places[place] += thing.SerializeToString() + b"\n"
            self.places[place] += (thing if isinstance(thing, bytes | bytearray) else str(thing).encode()) + b"\n"

    def to(self, who: str) -> grpc.aio.Channel:
        """Return a caller's channel."""
        if who not in self._channels:
            self.svids[who] = self.house.svid(who, dns=(SERVICE,) if who == ORDERS else ())
            self._channels[who] = self.house.channel(self.svids[who])
            self.stack.push_async_callback(self._channels[who].close)
        return self._channels[who]

    async def ask(self, call: Awaitable[Any], place: Place = Place.ANSWERS) -> Any:
        """Make a call that is served."""
        answer = await call
        self.keep(place, answer)
        return answer

    async def refuse(self, *calls: Awaitable[Any], reason: str = "") -> None:
        """Make calls that are refused."""
        for call in calls:
            answer = await outcome(call)
            told = answer.answer if isinstance(answer.answer, Outcome) else answer  # a raw call's
            assert told.reason, told
            assert reason in ("", told.reason), told
            self.keep(Place.ERRORS, told.everything)
