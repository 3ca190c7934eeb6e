"""A stand-in for issuer or door: tells a test over a unix datagram socket what it lives through.

Usage: half.py ROLE REPORTS BEHAVIOUR --control-fd N [--config PATH].
Behaviours: "well"; "stubborn" ends neither at SIGTERM nor with its parent; "misconfigured" leaves with 78; "hesitant"
too, but a while after it closed its control socket; "dead-eared" closes that and goes on; "dies" ends at once;
"painted" is well, and says what would turn a terminal upside down.
"""

import argparse
import asyncio
import os
import resource
import signal
import socket
import sys
from contextlib import suppress

from broker.supervisor import Control


def main() -> None:
    """Live as told."""
    parser = argparse.ArgumentParser()
    for name in ("role", "reports", "behaviour"):
        parser.add_argument(name)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--config", default="")
    arguments = parser.parse_args()
    reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    reports.connect(arguments.reports)

    def tell(what: str) -> None:
        reports.send(f"{arguments.role} {os.getpid()} {what}".encode())

    core = resource.getrlimit(resource.RLIMIT_CORE)
    tell(f"started core={core[0]},{core[1]} grpc={'grpc' in sys.modules} config={arguments.config}")
    if arguments.behaviour == "dies":
        sys.exit(3)
    control = Control(arguments.control_fd)
    if arguments.behaviour in {"misconfigured", "hesitant"}:
        control.report_failure("no such\nkey: [lisen]")
        control.close()
        if arguments.behaviour == "hesitant":
            # Longer than the other half's restart takes, which is when a link is made; less than is waited for.
            signal.sigtimedwait([], 3.5)
        sys.exit(78)
    if arguments.behaviour == "dead-eared":
        control.close()
        signal.pause()

    def told_to_end(*_: object) -> None:
        tell("told to end")
        if arguments.behaviour in {"well", "painted"}:
            os._exit(0)

    signal.signal(signal.SIGTERM, told_to_end)
    colour = "\x1b[31m\u202e" if arguments.behaviour == "painted" else ""
    control.report_ready(f"the {arguments.role} is {colour}up")
    asyncio.run(live(control, tell, stays=arguments.behaviour == "stubborn"))


async def live(control: Control, tell: object, *, stays: bool) -> None:
    """Say something over each new link, and tell what was heard."""
    assert callable(tell)
    listening: set[asyncio.Task[None]] = set()
    async for link in control.links():
        listening.add(asyncio.create_task(listen(link, control, tell)))
    tell("parent gone")
    if stays:
        await asyncio.Event().wait()


async def listen(link: socket.socket, control: Control, tell: object) -> None:
    """Tell the other half who we are, hear who it is, and ask for another link when it says so."""
    assert callable(tell)
    reader, writer = await asyncio.open_connection(sock=link)
    writer.write(f"{os.getpid()}\n".encode())
    with suppress(ConnectionError):
        peer = (await reader.readline()).decode().strip()
        tell(f"linked {peer}")
        await reader.read()
        tell(f"unlinked {peer}")
    writer.transport.abort()
    control.ask_for_link()


if __name__ == "__main__":
    main()
