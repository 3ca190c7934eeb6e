"""What happens in a broker while its streams are watched: grants, tasks that end, revocations. It outlives restarts."""

import asyncio
import random
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import grpc

from broker.v1 import exchange_pb2_grpc
from tests.attacks.entrances import begin_task, end_task, items, lift, request, revoke
from tests.attacks.house import INVOICES, House
from tests.operations.world import COURIER, ORDERS, SECURITY, SUPPORT, WHOLESALE

# Who asks for credentials, with what its policies demand.
AGENTS: Final[dict[str, dict[str, str]]] = {
    SUPPORT: {},
    WHOLESALE: {},
    COURIER: {"purpose": "delivery"},
}
AUDIENCES: Final = (ORDERS, ORDERS, INVOICES)
# What a restart makes of a call.
UNANSWERED: Final = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


def dice(seed: int) -> random.Random:
    """Return choices that a seed repeats."""
    return random.Random(seed)  # noqa: S311 - nothing secret is chosen


@dataclass(kw_only=True)
class Traffic:
    """Calls at random, and what was acknowledged of them.

    Attributes:
        known: positions that somebody was told of, each with the instant by which that was.

    """

    house: House
    dice: random.Random
    known: list[tuple[int, datetime]] = field(default_factory=list)
    granted: int = 0
    revoked: int = 0
    ended: int = 0
    lost: int = 0
    _channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    async def run(self) -> None:
        """Go on until cancelled, whatever becomes of the broker."""
        while True:
            try:
                await self.round()
            except grpc.aio.AioRpcError as error:
                assert error.code() in UNANSWERED, error
                self.lost += 1
                await asyncio.sleep(0.05)

    async def round(self) -> None:
        """Have an agent get some credentials, and some of them end, by one way or another."""
        agent = self.dice.choice([SUPPORT, SUPPORT, WHOLESALE, COURIER])
        if agent == COURIER and self.dice.random() < 0.3:
            await self._revoke_for_a_while(agent)
            return
        task = ""
        if agent == SUPPORT and self.dice.random() < 0.5:
            task = (await begin_task(self._as(agent))).task.task_id
        given = await self._exchange(agent, task, self.dice.randrange(1, 30))
        if task:
            await self._end(end_task(self._as(agent), task))
            self.ended += 1
        elif given:
            await self._end(revoke(self._as(SECURITY), credential_id=self.dice.choice(given)))
            self.revoked += 1

    async def _revoke_for_a_while(self, agent: str) -> None:
        """Revoke an agent, and lift what was revoked before; when an answer is lost it stays revoked."""
        made = await self._end(revoke(self._as(SECURITY), agent=agent))
        self.revoked += 1
        await self._end(lift(self._as(SECURITY), made.revocation_id))

    async def close(self) -> None:
        """Close every connection; a round after that opens new ones."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    def _as(self, who: str) -> grpc.aio.Channel:
        if who not in self._channels:
            self._channels[who] = self.house.channel(self.house.svid(who))
        return self._channels[who]

    async def _end(self, call: Awaitable[Any]) -> Any:
        answer = await call
        self.known.append((answer.position, datetime.now(UTC)))
        return answer

    async def _exchange(self, agent: str, task: str, count: int) -> list[str]:
        audiences = AUDIENCES[:1] if task else AUDIENCES  # its type lets a task reach one service
        wanted = [request(audience=self.dice.choice(audiences), task_id=task, **AGENTS[agent]) for _ in range(count)]
        talk: Any = exchange_pb2_grpc.ExchangeServiceStub(self._as(agent)).ExchangeStream(timeout=60)
        answers: list[Any] = []
        try:
            with suppress(asyncio.InvalidStateError):  # over already: reading says why
                await talk.write(items(*wanted))
            while len(answers) < count:
                message = await talk.read()
                assert message is not grpc.aio.EOF
                answers += message.items
        except grpc.aio.AioRpcError as error:
            if error.code() in UNANSWERED or not _may_refuse(agent, error.code()):
                raise
        finally:
            talk.cancel()
        for each in answers:
            assert each.HasField("credential") or _may_refuse(agent, CODES[each.refusal.code]), each.refusal
        given = [each.credential.credential_id for each in answers if each.HasField("credential")]
        self.granted += len(given)
        return given


def _may_refuse(agent: str, code: grpc.StatusCode) -> bool:
    """One agent is revoked now and then, and in a restart everybody may be told to come again."""
    return code in UNANSWERED or (agent == COURIER and code is grpc.StatusCode.PERMISSION_DENIED)
