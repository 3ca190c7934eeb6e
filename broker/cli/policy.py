"""`broker policy`: look at a policy bundle before it decides anything."""

from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.cli import bundle
from broker.cli.bundle import WRONG, print_json
from broker.cli.explain import explain
from broker.policy.bundle import BundleProblem, Draft, compile_bundle, read_bundle
from broker.policy.compiled import CompiledPolicy
from broker.policy.golden import CaseResult, run_cases


@click.group()
def policy() -> None:
    """Check a policy bundle and show what it answers."""


policy.add_command(explain)


@policy.command()
@bundle.directory
@bundle.as_json
def check(directory: Path, *, as_json: bool) -> None:
    """Load DIRECTORY as the broker would and name everything that keeps it from loading.

    Exit status: 0 it loads; 1 it does not.
    """
    try:
        compiled = compile_bundle(bundle.read(directory))
    except BundleProblem as problem:
        bundle.stop(problem.problems, for_program=as_json)
    if as_json:
        print_json({"ok": True, "digest": compiled.digest, "counts": _counts(compiled), "problems": []})
        return
    console = Console()
    console.print(Text.assemble(("good", "bold green"), f"  {compiled.digest}"), soft_wrap=True)
    console.print(Text(", ".join(f"{count} {what}" for what, count in _counts(compiled).items())))


@policy.command()
@bundle.directory
@bundle.as_json
@click.pass_context
def test(context: click.Context, directory: Path, *, as_json: bool) -> None:
    """Ask the golden cases of DIRECTORY and show each answer.

    Exit status: 0 all as expected; 1 otherwise.
    """
    try:
        draft = read_bundle(bundle.read(directory))
    except BundleProblem as problem:
        bundle.stop(problem.problems, for_program=as_json)
    results = run_cases(draft.policy, draft.cases)
    if as_json:
        print_json(_results_json(draft, results))
    else:
        _show_results(results)
    if not all(result.passed for result in results):
        context.exit(WRONG)


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


def _show_results(results: tuple[CaseResult, ...]) -> None:
    table = Table(title="golden cases")
    for heading in ("", "case", "asked by", "action", "answer"):
        table.add_column(heading, overflow="fold")
    for result in results:
        question = result.case.question
        action = question.intent.action if hasattr(question, "intent") else question.action
        lines = [str(replace(result.given, limits=None)), *(f"within {limit}" for limit in result.given.limits or ())]
        answer = "\n".join(lines if result.passed else [*lines, f"expected {result.case.expected}"])
        table.add_row(
            Text("ok", "green") if result.passed else Text("WRONG", "bold red"),
            Text(result.case.name),
            Text(question.principal.removeprefix("spiffe://")),
            Text(action),
            Text(answer, "" if result.passed else "red"),
        )
    console = bundle.console()
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
                "limits": list(result.given.limits or ()),
            }
            for result in results
        ],
    }
