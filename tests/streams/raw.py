"""A subscriber that believes everything: it writes down what comes, breaks off and resumes, and checks nothing."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import grpc

from broker.v1 import audit_pb2
from tests.attacks.entrances import audit, revocations
from tests.attacks.house import House
from tests.streams.history import Acknowledged, History, Opened, Step
from tests.streams.recorded import audit_told, revocations_told
from tests.streams.truth import View

PATIENCE = 60.0


@dataclass(kw_only=True)
class Raw:
    """One subscriber, over the wire as it is."""

    house: House
    view: View
    steps: list[Step] = field(default_factory=list)
    cursor: str = ""
    reached: int | None = None

    def history(self) -> History:
        return History(name=f"{self.view.stream} of {self.view.reader}", steps=self.steps)

    async def read_to(self, wanted: int) -> None:
        """Open a stream at the cursor, and read until everything before a position was told."""
        channel = self.house.channel(self.house.svid(self.view.reader))
        call = self._open(channel)
        first = True
        try:
            async with asyncio.timeout(PATIENCE):
                while (message := await call.read()) is not grpc.aio.EOF:
                    if first:
                        self.steps.append(Opened(after=self.view.begins if self.reached is None else self.reached))
                        first = False
                    self.take(message)
                    if message.to_position >= wanted:
                        break
        finally:
            call.cancel()
            await channel.close()

    def take(self, message: Any) -> None:
        """Write a message down, and with it the cursor after it."""
        told = revocations_told if self.view.stream == "revocations" else audit_told
        self.steps.append(told(message))
        self.keep(message)

    def keep(self, message: Any) -> None:
        """Go on after this message from now on."""
        self.cursor, self.reached = message.cursor, message.to_position
        self.steps.append(Acknowledged(position=message.to_position))

    def _open(self, channel: grpc.aio.Channel) -> Any:
        if self.view.stream == "revocations":
            return revocations(channel, self.cursor, timeout=None)
        wanted = audit_pb2.AuditFilter(kinds=self.view.kinds, tenant=self.view.tenant)
        return audit(channel, self.cursor, timeout=None, filter=wanted, follow=True)
