"""`broker policy`: look at a policy bundle before it decides anything."""

import json
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.policy.bundle import BundleProblem, Draft, Problem, compile_bundle, read_bundle
from broker.policy.compiled import CompiledPolicy
from broker.policy.golden import CaseResult, run_cases
from broker.policy.source import read_directory

_WRONG: Final = 1
_PIPED_WIDTH: Final = 160

_directory = click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


@click.group()
def policy() -> None:
    """Check a policy bundle and show what it answers."""


@policy.command()
@_directory
@_as_json
@click.pass_context
def check(context: click.Context, directory: Path, *, as_json: bool) -> None:
    """Load DIRECTORY as the broker would and name everything that keeps it from loading.

    Exit status: 0 it loads; 1 it does not.
    """
    try:
        compiled = compile_bundle(_read(directory))
    except BundleProblem as problem:
        _show_problems(problem.problems, as_json=as_json)
        context.exit(_WRONG)
    if as_json:
        _print_json({"ok": True, "digest": compiled.digest, "counts": _counts(compiled), "problems": []})
        return
    console = Console()
    console.print(Text.assemble(("good", "bold green"), f"  {compiled.digest}"), soft_wrap=True)
    console.print(Text(", ".join(f"{count} {what}" for what, count in _counts(compiled).items())))


@policy.command()
@_directory
@_as_json
@click.pass_context
def test(context: click.Context, directory: Path, *, as_json: bool) -> None:
    """Ask the golden cases of DIRECTORY and show each answer.

    Exit status: 0 all as expected; 1 otherwise.
    """
    try:
        draft = read_bundle(_read(directory))
    except BundleProblem as problem:
        _show_problems(problem.problems, as_json=as_json)
        context.exit(_WRONG)
    results = run_cases(draft.policy, draft.cases)
    if as_json:
        _print_json(_results_json(draft, results))
    else:
        _show_results(results)
    if not all(result.passed for result in results):
        context.exit(_WRONG)


def _read(directory: Path) -> dict[str, bytes]:
    try:
        return read_directory(directory)
    except OSError as problem:
        raise click.ClickException(f"{directory}: {problem.strerror or problem}") from problem


def _counts(compiled: CompiledPolicy) -> dict[str, int]:
    register = compiled.register
    return {
        "policies": len(compiled.rules),
        "actions": len(compiled.actions),
        "tenants": len(register.tenants),
        "agents": len(register.agents),
        "services": len(register.services),
        "operators": len(register.operators),
    }


def _show_problems(problems: tuple[Problem, ...], *, as_json: bool) -> None:
    if as_json:
        found = [{"file": p.file, "line": p.line, "sentence": p.sentence} for p in problems]
        _print_json({"ok": False, "problems": found})
        return
    console = _console()
    console.print(Text(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}; the broker would not load this:"))
    table = Table(show_lines=True)
    table.add_column("where", style="bold")
    table.add_column("what, and what puts it right", overflow="fold")
    for problem in problems:
        place = problem.file or "the bundle"
        # Text, not markup: what stands in a bundle is shown, never interpreted.
        table.add_row(Text(place if problem.line is None else f"{place}:{problem.line}"), Text(problem.sentence))
    console.print(table)


def _show_results(results: tuple[CaseResult, ...]) -> None:
    table = Table(title="golden cases")
    for heading in ("", "case", "asked by", "action", "answer"):
        table.add_column(heading, overflow="fold")
    for result in results:
        question = result.case.question
        action = question.intent.action if hasattr(question, "intent") else question.action
        answer = str(result.given) if result.passed else f"{result.given}\nexpected {result.case.expected}"
        table.add_row(
            Text("ok", "green") if result.passed else Text("WRONG", "bold red"),
            Text(result.case.name),
            Text(question.principal.removeprefix("spiffe://")),
            Text(action),
            Text(answer, "" if result.passed else "red"),
        )
    console = _console()
    console.print(table)
    wrong = sum(not result.passed for result in results)
    console.print(Text(f"{len(results)} cases, {wrong} wrong" if wrong else f"{len(results)} cases, all as expected"))


def _results_json(draft: Draft, results: tuple[CaseResult, ...]) -> dict[str, object]:
    return {
        "ok": all(result.passed for result in results),
        "digest": draft.policy.digest,
        "cases": [
            {
                "name": result.case.name,
                "line": result.case.line,
                "passed": result.passed,
                "expected": result.case.expected.answer,
                "answer": result.given.answer,
                "reason": result.given.reason,
                "policies": list(result.given.policies or ()),
            }
            for result in results
        ],
    }


def _console() -> Console:
    """Return a console that does not break lines at 80 columns when nobody looks at a terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, _PIPED_WIDTH))


def _print_json(value: dict[str, object]) -> None:
    click.echo(json.dumps(value, ensure_ascii=True))
