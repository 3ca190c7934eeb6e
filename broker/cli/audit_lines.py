"""Lines: an event of the log as one line of text, in the forms that programs read."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from broker.audit import saved
from broker.audit.entry import Opening
from broker.audit.ocsf import to_ocsf
from broker.audit.otel import to_otel
from broker.audit.shown import Shown

_MODE: Final = 0o600


def line_in(form: str, position: int, content: bytes, openings: Sequence[Opening]) -> str:
    """Return an event as a line of JSON: "json" for the saved form, "ocsf" or "otel"."""
    if form == "json":
        return saved.to_line(position, content, openings)
    event = Shown.read(position, content, openings)
    return json.dumps(to_ocsf(event) if form == "ocsf" else to_otel(event), separators=(",", ":"))


def write_lines(form: str, log: Path) -> Path:
    """Write a saved log in another form beside it, whole or not at all; return where."""
    target = log.with_name(f"{log.name}.{form}")
    fresh = log.with_name(f"{log.name}.{form}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    with (
        os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as out,
        log.open(encoding="utf-8", newline="\n") as lines,
    ):
        bounded = iter(lambda: lines.readline(saved.MAX_LINE_CHARACTERS + 1), "")
        for entry in saved.entries(bounded):
            out.write(line_in(form, entry.position, entry.content, entry.openings) + "\n")
        out.flush()
        os.fsync(descriptor)
    return fresh.replace(target)
