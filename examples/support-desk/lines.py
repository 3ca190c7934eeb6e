"""How the demonstration speaks with its processes: one JSON object a line, over their standard input and output.

A request is {"do": name, ...arguments}; the answer is {"ok": {...}}, {"refused": {...}} or {"failed": text}. A process
ends when its input ends, so that none outlives the demonstration.
"""

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

Handler: TypeAlias = Callable[..., Awaitable[dict[str, Any]]]

_LONGEST_REQUEST: Final = 1 << 20


class Refused(Exception):
    """What was asked for was refused, by the broker or by a service; the members say how."""

    def __init__(self, members: dict[str, Any]) -> None:
        super().__init__(members.get("reason", ""))
        self.members = members


async def answer(handlers: Mapping[str, Handler]) -> None:
    """Answer requests, one after the other, until standard input ends."""
    requests = asyncio.StreamReader(limit=_LONGEST_REQUEST)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    tell({"ok": {}})  # ready
    while line := await requests.readline():
        request = json.loads(line)
        try:
            tell({"ok": await handlers[request.pop("do")](**request)})
        except Refused as refusal:
            tell({"refused": refusal.members})
        except Exception as problem:  # noqa: BLE001  # told to the demonstration, which ends with it
            traceback.print_exc()  # to the process's log
            tell({"failed": f"{type(problem).__name__}: {problem}"})


def tell(members: dict[str, Any]) -> None:
    """Say one thing to whoever began this process."""
    sys.stdout.write(json.dumps(members) + "\n")
    sys.stdout.flush()
