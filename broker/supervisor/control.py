"""The control socket of a child: links come down it, its readiness goes up it, and its end is the parent's death.

A SOCK_SEQPACKET pair, so that one message is one packet: from the parent LINK with a socket attached (SCM_RIGHTS); from
the child READY or FAILED with one line of text, or ASK.
"""

import asyncio
import ctypes
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

LINK: Final = b"link"
READY: Final = b"ready "
FAILED: Final = b"failed "
ASK: Final = b"ask"
MAX_MESSAGE: Final = 4096
# No key in a core file. One byte, and not none: that is less than any core file has, and where cores are handed to a
# program (core(5): a core_pattern that begins with "|") the kernel heeds no limit but this one, which means none to it.
NO_CORE: Final = (1, 1)

_PR_SET_DUMPABLE: Final = 4
_CREDENTIALS: Final = struct.Struct("3i")  # unix(7), SO_PEERCRED: pid, uid, gid


class Control:
    """A child's end of its control socket.

    Args:
        fd: the descriptor that `--control-fd` names; owned by this object from here on.

    """

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.settimeout(0)
        # Nothing that this process starts may hold it: its end has to mean that the parent is gone.
        self._socket.set_inheritable(False)
        _protect_memory(self._socket)

    async def links(self) -> AsyncIterator[socket.socket]:
        """Yield each new link to the other half. Ends when the parent is gone, and then so should this process."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                message, fds, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE, 8)
            except BlockingIOError:
                await self._readable(loop)
                continue
            except ConnectionError:
                return
            if not message:
                return
            for fd in fds:
                link = socket.socket(fileno=fd)
                # A descriptor that comes as a message is inheritable, unlike any that Python opens.
                link.set_inheritable(False)
                yield link

    async def _readable(self, loop: asyncio.AbstractEventLoop) -> None:
        readable = asyncio.Event()
        loop.add_reader(self._socket, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._socket)

    def report_ready(self, text: str) -> None:
        """Say, once, that this half serves, and what a person should know of it: a few words on one line."""
        self._report(READY + _one_line(text))

    def report_failure(self, text: str) -> None:
        """Say what is wrong with the configuration, before leaving with status 78 (EX_CONFIG)."""
        self._report(FAILED + _one_line(text))

    def ask_for_link(self) -> None:
        """Ask for another link, because the last one ended. A restart of the other half brings one unasked."""
        self._report(ASK)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _report(self, message: bytes) -> None:
        # The parent may be gone, which `links` tells, or have hundreds of messages of ours to read yet.
        with suppress(OSError):
            self._socket.send(message)


def _one_line(text: str) -> bytes:
    return " ".join(text.split()).encode(errors="replace")[: MAX_MESSAGE - len(FAILED)]


def _protect_memory(control: socket.socket) -> None:
    """Keep the memory of this process from being dumped or read by others, when root started it, as whomever.

    Started by an ordinary user it would keep a SPIRE agent of the same user from attesting us by path.
    """
    _, parent, _ = _CREDENTIALS.unpack(control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if parent == 0:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
