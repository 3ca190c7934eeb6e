"""Two byte streams joined, with back-pressure and half-close in both directions."""

import asyncio
import contextlib
from dataclasses import dataclass

# What may wait in one direction; asyncio stops reading from the socket at twice this.
READ_AHEAD = 256 * 1024
# After one side has ended, how long the other may finish what it is saying.
LINGER_SECONDS = 1.0

_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Carried:
    """What one direction did: how many bytes, and whether its reader came to an end (else its writer did)."""

    count: int
    read_to_end: bool


async def splice(
    near_reader: asyncio.StreamReader,
    near_writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> bool:
    """Carry bytes both ways until both sides have ended, or one has and the other has had its time.

    Returns:
        False when the far side ended without having said anything, else True.

    Raises:
        OSError: the far side broke off (an alert of TLS is an ssl.SSLError, which is one).

    """
    outward = asyncio.create_task(_pump(near_reader, far_writer))
    inward = asyncio.create_task(_pump(far_reader, near_writer))
    both = {outward, inward}
    try:
        done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        near_left = inward not in done and (outward.exception() is not None or outward.result().read_to_end)
        await asyncio.wait(both, timeout=LINGER_SECONDS)
        # Once the near side has left, whatever the far side does is the consequence.
        return near_left or not inward.done() or inward.result().count > 0
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)


async def discard(writer: asyncio.StreamWriter) -> None:
    """Close, with what is still to be sent; a peer that does not take it in time does not hold us.

    A task that is being cancelled closes at once.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        writer.transport.abort()
    writer.close()
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            await writer.wait_closed()
    except TimeoutError:
        writer.transport.abort()
    except asyncio.CancelledError:
        writer.transport.abort()
        raise
    except OSError:
        pass  # the connection broke, so it is closed


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Carried:
    """Carry until either end is over; pass an end on where the transport can say it (TLS cannot)."""
    count = 0
    while piece := await reader.read(_PIECE):
        count += len(piece)
        try:
            writer.write(piece)
            # Back-pressure: no more is read until the other side has taken this.
            await writer.drain()
        except OSError:
            return _Carried(count=count, read_to_end=False)
    if writer.can_write_eof():
        with contextlib.suppress(OSError):
            writer.write_eof()
    return _Carried(count=count, read_to_end=True)
