"""`broker audit`: what the log says, and whether it can be believed."""

import json
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from broker.audit import saved
from broker.audit.checkpoint import MAX_NOTE_BYTES, CheckpointInvalid, VerifierKey
from broker.audit.saved import SavedLogInvalid
from broker.audit.verify import LoggedEntry, Report, verify_log
from broker.cli.audit_export import export
from broker.cli.audit_tail import tail
from broker.cli.audit_trace import trace, unaccounted
from broker.store.interface import StoreUnavailable
from broker.store.sqlite import OfflineLog

NOT_INTACT: Final = 1
UNUSABLE: Final = 2
_SQLITE: Final = b"SQLite format 3\x00"
_STEP: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A log to verify: its entries, how many there seem to be, and the notes that lie beside it."""

    entries: Iterable[LoggedEntry]
    size: int | None
    notes: list[str]


@click.group
def audit() -> None:
    """Follow, trace, export and verify the audit log."""


audit.add_command(export)
audit.add_command(tail)
audit.add_command(trace)
audit.add_command(unaccounted)


@audit.command
@click.option("--key", "key_text", required=True, metavar="VKEY|FILE", help="The log's verifier key, or a file of it.")
@click.option(
    "--checkpoint",
    "checkpoint_files",
    required=True,
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A checkpoint that was kept outside the broker. May be given more than once.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("source", metavar="STORE.db|SAVED.jsonl|-")
def verify(*, key_text: str, checkpoint_files: tuple[Path, ...], as_json: bool, source: str) -> None:
    """Verify a store file, or a saved `broker audit tail --json`, offline.

    Exit status 0: the log is intact. 1: it is not, and the first bad entry is named. 2: the input is unusable.
    """
    try:
        key = _key(key_text)
        pinned = [_text(file) for file in checkpoint_files]
        with ExitStack() as stack:
            log = stack.enter_context(_open(source))
            watched = stack.enter_context(_progress(log, quiet=as_json))
            report = verify_log(watched, pinned=pinned, history=log.notes, key=key)
    except (StoreUnavailable, SavedLogInvalid, CheckpointInvalid, OSError, UnicodeDecodeError) as problem:
        raise _Unusable(str(problem)) from problem
    _show(report, as_json=as_json)
    if report.fault is not None:
        raise SystemExit(NOT_INTACT)


class _Unusable(click.ClickException):
    exit_code = UNUSABLE


def _text(file: Path) -> str:
    with file.open(encoding="utf-8", newline="") as handle:
        return handle.read(MAX_NOTE_BYTES + 1)


def _key(text: str) -> VerifierKey:
    """Read the key itself, or the file that holds it."""
    try:
        return VerifierKey.parse(text)
    except CheckpointInvalid:
        if not Path(text).is_file():
            raise CheckpointInvalid("--key is neither a verifier key (name+id+base64) nor a file of one") from None
    return VerifierKey.parse(_text(Path(text)))


@contextmanager
def _open(source: str) -> Iterator[_Source]:
    if source == "-":
        yield _saved(sys.stdin)
        return
    path = Path(source)
    with path.open("rb") as handle:
        is_store = handle.read(len(_SQLITE)) == _SQLITE
    if is_store:
        with OfflineLog.open(path) as log:
            yield _Source(entries=log.entries(), size=log.size(), notes=log.notes())
        return
    with path.open(encoding="utf-8") as lines:
        yield _saved(lines)


def _saved(lines: TextIO) -> _Source:
    bounded = iter(lambda: lines.readline(saved.MAX_LINE_CHARACTERS + 1), "")
    return _Source(entries=saved.entries(bounded), size=None, notes=[])


@contextmanager
def _progress(log: _Source, *, quiet: bool) -> Iterator[Iterable[LoggedEntry]]:
    """Give the entries, and show on standard error how far they have been read."""
    columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("verifying", total=log.size)

        def watched() -> Generator[LoggedEntry, None, None]:
            for number, entry in enumerate(log.entries):
                if number % _STEP == 0:
                    progress.update(task, completed=number)
                yield entry

        with closing(watched()) as entries:
            yield entries


def _show(report: Report, *, as_json: bool) -> None:
    fault = report.fault
    if as_json:
        found = None if fault is None else {**asdict(fault), "kind": fault.kind.name}
        click.echo(
            json.dumps({"intact": fault is None, "read": report.size, "vouched": report.vouched, "fault": found})
        )
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    if fault is None:
        table.add_row("log", "[green]intact[/green]")
        table.add_row("entries", str(report.size))
        table.add_row("signed", f"the first {report.vouched}")
        if report.size > report.vouched:
            newer = f"{report.size - report.vouched} newer than the checkpoint: well-formed, not yet vouched for"
            table.add_row("", newer)
    else:
        where = str(fault.position) if fault.last == fault.position else f"between {fault.position} and {fault.last}"
        table.add_row("log", "[red]NOT INTACT[/red]")
        table.add_row("first bad entry", where)
        table.add_row("what", fault.kind.value)
        table.add_row("why", fault.detail)
        table.add_row("proven intact", f"the first {fault.vouched} entries")
    Console(highlight=False).print(table)
