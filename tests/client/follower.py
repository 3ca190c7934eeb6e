"""A subscriber in a process of its own, to be killed.

`python -m tests.client.follower PORT SOCKET CURSOR LEDGER EVERY` writes `got N`
into the ledger for each position that it is given, and `ack N` once that is acknowledged.
"""

import asyncio
import os
import sys
from pathlib import Path

from broker.client import CursorFile, connect, follow_audit
from tests.operations.world import BROKER


async def main(port: str, socket: str, cursor: str, ledger: str, every: str) -> None:
    """Follow, and acknowledge every so many positions."""
    written = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with CursorFile(Path(cursor)) as cursors:
        async with (
            connect(f"127.0.0.1:{port}", broker_id=BROKER, socket=socket, timeout=30) as session,
            follow_audit(session, cursors) as subscriber,
        ):
            async for received in subscriber:
                position = received.value.position
                os.write(written, b"got %d\n" % position)
                if position % int(every) == 0:
                    await subscriber.ack(received)
                    os.write(written, b"ack %d\n" % position)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
