"""The option of the commands that a person gives: which person it is, by an identity token."""

import errno
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from broker.client.identity_token import MAX_LENGTH, is_token

Command = TypeVar("Command", bound=Callable[..., Any])

# So long a pipe is waited for that nobody writes to, in seconds.
WAIT: Final = 10.0


class _IdentityToken(click.ParamType[str]):
    """A file that holds one identity token, or - for standard input."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Return the token; it is never shown, also not when it cannot be one."""
        try:
            text = sys.stdin.read(MAX_LENGTH + 2) if value == "-" else _read(Path(str(value)))
        except (OSError, UnicodeDecodeError) as problem:
            self.fail(f"{value} cannot be read: {getattr(problem, 'strerror', None) or 'not text'}", param, ctx)
        token = text.strip()
        if not is_token(token):
            self.fail(f"{value} holds no identity token: one ID token (JWT), and nothing else", param, ctx)
        return token


def _read(path: Path) -> str:
    """Return what a file begins with: more than a token has, where there is more.

    Raises:
        OSError: it cannot be read, or is a pipe out of which nothing more comes.
        UnicodeDecodeError: it is not ASCII.

    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # else a pipe without a writer is waited for
    try:
        return b"".join(_pieces(file)).decode("ascii")
    finally:
        os.close(file)


def _pieces(file: int) -> Iterator[bytes]:
    end, wanted = time.monotonic() + WAIT, MAX_LENGTH + 2
    while wanted > 0:
        if not select.select([file], [], [], max(0.0, end - time.monotonic()))[0]:
            raise OSError(errno.ETIMEDOUT, f"nothing came out of it for {WAIT:g} seconds")
        piece = os.read(file, wanted)
        if not piece:
            return
        wanted -= len(piece)
        yield piece


def person(command: Command) -> Command:
    """Add the option that says which person decides."""
    return click.option(
        "--identity-token-file",
        "identity_token",
        type=_IdentityToken(),
        metavar="FILE",
        help="The ID token of the person who decides, - for standard input; without it the operator of this SVID does.",
    )(command)
