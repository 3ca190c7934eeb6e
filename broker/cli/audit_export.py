"""`broker audit export`: the whole log as a file, with what proves it beside it, verified before it is called done."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from broker.audit import saved
from broker.audit.checkpoint import MAX_NOTE_BYTES, CheckpointInvalid, VerifierKey, stated
from broker.audit.entry import Opening
from broker.audit.saved import SavedLogInvalid
from broker.audit.shape import EventMalformed
from broker.audit.verify import Report, verify_log
from broker.cli.audit_lines import write_lines
from broker.cli.connection import NOT_ITS_LOG, REFUSED, fail, options, run, show
from broker.client import BrokerError, Session
from broker.v1 import audit_pb2

UNUSABLE: Final = 2
_MODE: Final = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """An export: the log, its newest checkpoint, and the key that the checkpoint is verified with."""

    log: Path

    @property
    def checkpoint(self) -> Path:
        """A signed note; stands only beside a log that it was verified against."""
        return self.log.with_name(self.log.name + ".checkpoint")

    @property
    def key(self) -> Path:
        """A verifier key; written once, with the first line of the log."""
        return self.log.with_name(self.log.name + ".key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How far the file goes, by its last complete line about a range: bytes, position and where to go on."""

    bytes: int = 0
    position: int = 0
    cursor: str = ""


@click.command
@options
@click.option("--personal", is_flag=True, help="With personal values, for whom policy allows it.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["ocsf", "otel"]),
    help="Once verified, write FILE.ocsf or FILE.otel too: an OCSF event or an OpenTelemetry log record a line.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, personal: bool,
    form: str | None, as_json: bool, file: Path,
) -> None:  # fmt: skip
    """Save the whole log in FILE, its newest checkpoint and its key beside it, and verify them offline.

    Run again it goes on where FILE ends, after an interruption as well as to add what is new; the checkpoint kept
    before has to hold for the longer log too. `broker audit verify` verifies the three files again, anywhere.

    Exit status: 0 saved and intact; 1 not intact, or refused; 2 FILE is no export; 69 the broker cannot be reached.
    """
    files = Files(log=file)
    earlier = _earlier(files)

    async def work(session: Session) -> tuple[VerifierKey, str]:
        return await _fetch(session, files, personal=personal, quiet=as_json)

    try:
        key, note = run(address, broker_id, socket, spiffe_id, work)
    except OSError as failure:
        raise _NoExport(f"{failure.filename or file}: {failure.strerror or failure}") from failure
    report = _verify(files, key, [note, *earlier])
    if report.fault is not None:
        fault = report.fault
        fail(f"NOT INTACT at {fault.position}: {fault.kind.value}: {fault.detail}",
             f"Keep {files.log} and the earlier checkpoint as evidence.", REFUSED)  # fmt: skip
    _replace(files.checkpoint, _pending(files).read_text(encoding="utf-8"))
    _pending(files).unlink()
    shown = {"log": "intact", "entries": report.size, "signed": report.vouched, "file": str(files.log),
             "checkpoint": str(files.checkpoint), "key": str(files.key)}  # fmt: skip
    if form:
        shown |= {form: _also(files, form)}
    show(dict(shown), as_json=as_json)


def _also(files: Files, form: str) -> str:
    try:
        return str(write_lines(form, files.log))
    except EventMalformed as failure:
        fail(f"{files.log} is saved and intact, but {failure}", NOT_ITS_LOG, REFUSED)
    except OSError as failure:
        raise _NoExport(f"{failure.filename or files.log}: {failure.strerror or failure}") from failure


async def _fetch(session: Session, files: Files, *, personal: bool, quiet: bool) -> tuple[VerifierKey, str]:
    """Bring the file up to a checkpoint that is signed now; return the key that is trusted, and the checkpoint."""
    key = _kept_key(files, (await session.key_set()).checkpoint_key)
    note = (await session.checkpoint()).note
    try:
        checkpoint = stated(note)
    except CheckpointInvalid as failure:
        raise BrokerError(f"The broker's checkpoint is not one: {failure}") from failure
    reached = _reached(files.log)
    descriptor = os.open(files.log, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    with os.fdopen(descriptor, "r+", encoding="utf-8", newline="\n") as out:
        out.truncate(reached.bytes)  # what an interruption left of a range is fetched again
        out.seek(0, os.SEEK_END)
        if reached.position < checkpoint.size:
            await _append(session, out, reached, checkpoint.size, personal=personal, quiet=quiet)
        out.flush()
        os.fsync(out.fileno())
    _replace(_pending(files), note)
    return key, note


async def _append(session: Session, out: TextIO, reached: Reached, size: int, *, personal: bool, quiet: bool) -> None:
    """Append what comes after `reached`, up to the log's size as of now."""
    expected = reached.position
    console = Console(stderr=True)
    columns = (TextColumn("saving"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        bar = progress.add_task("saving", total=size, completed=expected)
        async for message in session.subscribe_audit(cursor=reached.cursor, forever=False, personal=personal):
            if message.from_position != expected:
                raise BrokerError(f"The log goes on at {message.from_position}, the file at {expected}.")
            _write(out, message)
            expected = message.to_position
            progress.update(bar, completed=expected)


def _write(out: TextIO, message: audit_pb2.SubscribeAuditResponse) -> None:
    if message.to_position == message.from_position:
        return
    for event in message.events:
        openings = [Opening(field=each.field, value=each.value.encode(), salt=each.salt) for each in event.openings]
        out.write(saved.to_line(event.position, event.event, openings) + "\n")
    covered = {"from": message.from_position, "to": message.to_position, "cursor": message.cursor}
    out.write(json.dumps(covered) + "\n")


def _reached(path: Path) -> Reached:
    """Return how far a file goes; an empty or a new one goes nowhere.

    Raises:
        _NoExport: it is something else.

    """
    reached, end = Reached(), 0
    if not path.exists():
        return reached
    with path.open("rb") as lines:
        while line := lines.readline(saved.MAX_LINE_CHARACTERS):
            end += len(line)
            if not line.endswith(b"\n"):
                break  # the line that an interruption cut off
            members = _members(path, line)
            if "cursor" in members:
                reached = Reached(bytes=end, position=int(str(members["to"])), cursor=str(members["cursor"]))
    if end and not reached.bytes and not _looks_saved(path):
        raise _NoExport(f"{path} is no export; nothing was written. Name another file.")
    return reached


def _members(path: Path, line: bytes) -> dict[str, object]:
    with suppress(ValueError, RecursionError):
        members = json.loads(line)
        if isinstance(members, dict) and ("position" in members or type(members.get("to")) is int):
            return members
    raise _NoExport(f"{path} is no export; nothing was written. Name another file.")


def _looks_saved(path: Path) -> bool:
    with path.open("rb") as lines:
        return lines.read(len(b'{"position":')) == b'{"position":'


def _kept_key(files: Files, text: str) -> VerifierKey:
    """Return the key that the export was begun with; keep the broker's with a new export.

    The broker's may be a later one of the same log: the log says how one follows the other, and is verified so.
    """
    if not files.key.exists():
        if files.log.exists() and files.log.stat().st_size:
            raise _NoExport(f"{files.log} is there and {files.key} is not; name another file, or put the key back.")
        _replace(files.key, text + "\n")
    try:
        offered, kept = VerifierKey.parse(text), VerifierKey.parse(_text(files.key))
    except CheckpointInvalid as failure:
        raise _NoExport(f"{files.key}: {failure}") from failure
    if offered.name != kept.name:
        raise BrokerError(f"The broker's log is {offered.name}, {files.log} is of {kept.name}. Nothing was added.")
    return kept


def _earlier(files: Files) -> list[str]:
    """Return the checkpoint of the export before, if there is one."""
    if not files.checkpoint.exists():
        return []
    try:
        note, key = _text(files.checkpoint), VerifierKey.parse(_text(files.key))
        if stated(note).origin == key.name:
            return [note]
    except (CheckpointInvalid, OSError, UnicodeDecodeError) as failure:
        raise _NoExport(f"{files.checkpoint} and {files.key} do not belong together: {failure}") from failure
    raise _NoExport(f"{files.checkpoint} and {files.key} do not belong together: they are of two logs")


def _verify(files: Files, key: VerifierKey, pinned: list[str]) -> Report:
    try:
        with files.log.open(encoding="utf-8", newline="\n") as lines:
            bounded = iter(lambda: lines.readline(saved.MAX_LINE_CHARACTERS + 1), "")
            return verify_log(saved.entries(bounded), pinned=pinned, key=key)
    except CheckpointInvalid as failure:
        fail(f"NOT INTACT: a checkpoint is signed by another key than the log's: {failure}",
             f"Keep {files.log}, its checkpoints and its key as evidence.", REFUSED)  # fmt: skip
    except (SavedLogInvalid, UnicodeDecodeError, OSError) as failure:
        raise _NoExport(f"{files.log}: {failure}") from failure


def _pending(files: Files) -> Path:
    """Return where a checkpoint lies until the log has been verified against it."""
    return files.log.with_name(files.log.name + ".checkpoint.unverified")


def _text(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        return file.read(MAX_NOTE_BYTES + 1)


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


class _NoExport(click.ClickException):
    exit_code = UNUSABLE
