"""The option of the commands that a person gives: which person it is, by an identity token."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_MAX_TOKEN: Final = 12 * 1024


class _IdentityToken(click.ParamType[str]):
    """A file that holds one identity token, or - for standard input."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Return the token; it is never shown, also not when it cannot be one."""
        try:
            text = sys.stdin.read(_MAX_TOKEN + 1) if value == "-" else _read(Path(str(value)))
        except (OSError, UnicodeDecodeError) as problem:
            self.fail(f"{value} cannot be read: {getattr(problem, 'strerror', None) or 'not text'}", param, ctx)
        token = text.strip()
        if not token or len(token) > _MAX_TOKEN or not token.isascii() or any(c.isspace() for c in token):
            self.fail(f"{value} holds no identity token: one ID token (JWT), and nothing else", param, ctx)
        return token


def _read(path: Path) -> str:
    with path.open(encoding="ascii") as file:
        return file.read(_MAX_TOKEN + 1)


def person(command: Command) -> Command:
    """Add the option that says which person decides."""
    return click.option(
        "--identity-token-file",
        "identity_token",
        type=_IdentityToken(),
        metavar="FILE",
        help="The ID token of the person who decides, - for standard input; without it the operator of this SVID does.",
    )(command)
