"""The security operator: reads the audit log as it grows, and takes credentials back.

SPIFFE_ENDPOINT_SOCKET says where the SPIRE agent answers, BROKER_ADDRESS and BROKER_ID which broker to ask.
"""

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from agent import identity
from lines import answer

from broker.audit.saved import to_line
from broker.client import Session, connect
from broker.credential.revocation import RuleKind


@dataclass(slots=True, kw_only=True)
class Desk:
    """The operator's session, and the audit log as far as it has come."""

    session: Session
    saved: list[str] = field(default_factory=list)
    read_to: int = 0
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    ended: BaseException | None = None

    async def follow(self) -> None:
        """Follow the audit log from its first event on, and keep each as a line."""
        try:
            async for message in self.session.subscribe_audit(forever=True):
                self.saved += [to_line(each.position, each.event) for each in message.events]
                self.read_to = message.to_position
                self.grown.set()
        except Exception as problem:  # noqa: BLE001  # told to whoever waits for the log
            self.ended = problem
            self.grown.set()

    async def keys(self) -> dict[str, Any]:
        """Ask the broker for its public keys; the connection is one with the broker's SPIFFE ID, or none."""
        keys = await self.session.key_set()
        return {"issuer": keys.issuer, "checkpoint_key": keys.checkpoint_key}

    async def revoke(self, *, credential: str, reason: str) -> dict[str, Any]:
        """Take one credential back; the times are CLOCK_MONOTONIC, ns, as every process of this host sees it."""
        called = time.monotonic_ns()
        ending = await self.session.revoke(RuleKind.CREDENTIAL, credential, reason=reason)
        done = time.monotonic_ns()
        return {
            "called_at": called,
            "answered_at": done,
            "revocation": ending.revocation,
            "revoked": ending.revoked,
            "position": ending.position,
        }

    async def audit(self) -> dict[str, Any]:
        """Return a signed checkpoint and the log, as the stream brought it, at least up to there."""
        checkpoint = await self.session.checkpoint()
        keys = await self.session.key_set()
        async with asyncio.timeout(20):
            while self.read_to < checkpoint.size and not self.ended:
                self.grown.clear()
                await self.grown.wait()
        if self.ended:
            raise self.ended
        return {"lines": self.saved, "note": checkpoint.note, "size": checkpoint.size, "key": keys.checkpoint_key}


async def main() -> None:
    """Do what it is told until standard input ends."""
    async with connect(os.environ["BROKER_ADDRESS"], broker_id=os.environ["BROKER_ID"]) as session:
        desk = Desk(session=session)
        following = asyncio.create_task(desk.follow())
        await answer({"identity": identity, "keys": desk.keys, "revoke": desk.revoke, "audit": desk.audit})
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


if __name__ == "__main__":
    asyncio.run(main())
