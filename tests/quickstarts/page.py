"""A page of the documentation, followed as a reader does: command by command, in one terminal and a second one."""

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

SECOND_TERMINAL: Final = "a second terminal"
SAVED: Final = "save as "
_BLOCK: Final = re.compile(r"(?:<!-- (?P<mark>[^>]+) -->\n)?```(?P<kind>sh|python)\n(?P<text>.*?)```", re.DOTALL)
_DONE: Final = "the commands of this block are done:"


@dataclass(frozen=True, kw_only=True)
class Block:
    """Commands to type and where, or a file to save."""

    text: str
    mark: str


def blocks(page: Path) -> list[Block]:
    """Return what there is to do on the page, in order; code that is not to be saved only shows something."""
    found = (Block(text=block["text"], mark=block["mark"] or "") for block in _BLOCK.finditer(page.read_text())
             if block["kind"] == "sh" or block["mark"])  # fmt: skip
    return list(found)


@dataclass(kw_only=True)
class Reader:
    """Somebody at a terminal: one shell for a whole page, so that what is exported stays."""

    folder: Path
    environment: dict[str, str]
    replaced: dict[str, str]  # addresses: those on the page may be taken on this machine
    shell: Process | None = None
    servers: list[Process] = field(default_factory=list)

    async def type(self, commands: str, *, within: float = 240) -> str:
        """Run commands as they stand; return what was shown. One that fails ends it, as it would stop a reader."""
        commands = self.adapted(commands)
        if self.shell is None:
            self.shell = await self._spawn("bash", "-uo", "pipefail")
            await self._say("set -eE; trap 'status=$?; echo; echo \"" + _DONE + " $status\"' ERR\n")
        await self._say(f"{{\n{commands}\n}} </dev/null\necho; echo '{_DONE} 0'\n")
        assert self.shell.stdout is not None
        shown: list[str] = []
        async with asyncio.timeout(within):
            async for line in self.shell.stdout:
                text = line.decode()
                if text.startswith(_DONE):
                    assert text.split()[-1] == "0", f"{commands}\n{''.join(shown)}"
                    return "".join(shown)
                shown.append(text)
        raise AssertionError(f"the shell ended in:\n{commands}\n{''.join(shown)}")

    async def serve(self, command: str, *, until: str) -> None:
        """Run one command in a second terminal, until it says something."""
        exported = (await self.type("env -0")).strip("\n").split("\0")
        variables = dict(pair.split("=", 1) for pair in exported if pair)
        server = await self._spawn("bash", "-c", f"exec env {self.adapted(command)}", **variables)
        self.servers.append(server)
        assert server.stdout is not None
        shown = ""
        try:
            async with asyncio.timeout(60):
                while until not in shown:
                    line = (await server.stdout.readline()).decode()
                    assert line, f"{command} ended with {await server.wait()}: {shown}"
                    shown += line
        except TimeoutError:
            pytest.fail(f"{command} does not say {until!r}, but: {shown}")

    def adapted(self, text: str) -> str:
        """Return some text of a page with the addresses of this machine."""
        for printed, used in self.replaced.items():
            text = text.replace(printed, used)
        return text

    async def leave(self) -> None:
        """Press Ctrl-C in the second terminals, and close the first."""
        for server in reversed(self.servers):
            if server.returncode is None:
                server.send_signal(signal.SIGINT)
            async with asyncio.timeout(30):
                await server.communicate()
        if self.shell is not None and self.shell.returncode is None:
            self.shell.kill()
            await self.shell.wait()

    async def _spawn(self, *command: str, **variables: str) -> Process:
        return await asyncio.create_subprocess_exec(
            *command, cwd=self.folder, env=self.environment | variables, stdin=PIPE, stdout=PIPE, stderr=STDOUT,
            limit=2**22, start_new_session=True, preexec_fn=_interruptible,
        )  # fmt: skip

    async def _say(self, text: str) -> None:
        assert self.shell is not None
        assert self.shell.stdin is not None
        self.shell.stdin.write(text.encode())
        await self.shell.stdin.drain()


async def follow(reader: Reader, page: Path) -> list[str]:
    """Do what a whole page says; return what each block of the first terminal showed."""
    shown = []
    for block in blocks(page):
        if block.mark == SECOND_TERMINAL:
            await reader.serve(block.text, until="ready")
        elif block.mark.startswith(SAVED):
            (reader.folder / block.mark.removeprefix(SAVED)).write_text(reader.adapted(block.text))
        else:
            shown.append(await reader.type(block.text))
    return shown


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def plain_environment(**more: str) -> dict[str, str]:
    """Return what a newcomer's shell has: none of this project's variables."""
    return {"HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"} | more
