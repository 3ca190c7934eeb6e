"""A cursor that a file remembers between two runs of a command."""

import os
from pathlib import Path
from typing import Final

import click

MAX_CURSOR_BYTES: Final = 4096


def recall(path: Path | None) -> str:
    """Return the cursor that a file holds; empty when there is no file yet.

    Raises:
        click.ClickException: the file cannot be read, or holds no cursor.

    """
    if path is None:
        return ""
    try:
        with path.open(encoding="ascii") as file:
            text = file.read(MAX_CURSOR_BYTES).strip()
    except FileNotFoundError:
        return ""
    except OSError as failure:
        raise click.ClickException(f"{path}: {failure.strerror}") from failure
    except UnicodeDecodeError as failure:
        raise click.ClickException(f"{path}: holds no cursor; name another file") from failure
    if not text.isprintable() or " " in text:
        raise click.ClickException(f"{path}: holds no cursor; name another file")
    return text


def remember(path: Path | None, cursor: str) -> None:
    """Replace the file at once: a crash in between leaves the cursor before, and what came after is shown again.

    Raises:
        click.ClickException: the file cannot be written.

    """
    if path is None:
        return
    fresh = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(cursor + "\n")
        fresh.replace(path)
    except OSError as failure:
        raise click.ClickException(f"{path}: {failure.strerror}") from failure
