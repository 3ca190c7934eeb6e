"""`broker paths`: each agent, action and service that a policy bundle can permit."""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path as Directory

import click
from rich.table import Table
from rich.text import Text

from broker.cli import bundle
from broker.cli.bundle import print_json
from broker.policy.bundle import Draft
from broker.policy.decision import Question
from broker.policy.paths import ALWAYS, Condition, Path
from broker.policy.paths import paths as found_paths


@click.command
@bundle.directory
@click.option("--agent", "agents", multiple=True, help="Only this agent, by SPIFFE ID; repeatable.")
@click.option("--tenant", "tenants", multiple=True, help="Only for this tenant; repeatable.")
@bundle.as_json
def paths(*, directory: Directory, agents: tuple[str, ...], tenants: tuple[str, ...], as_json: bool) -> None:
    """Show who can get to what under DIRECTORY: agent, action, service, and the condition that is left.

    Each row was confirmed by deciding one intent, or says that none was found. Exit status: 0 done; 1 the bundle cannot
    be used; 2 an agent or tenant that it does not declare.
    """
    draft, loads = bundle.draft_of(directory, for_program=as_json)
    _check_names(draft, agents, tenants)
    examples = [case.question for case in draft.cases if isinstance(case.question, Question)]
    rows = found_paths(draft.policy, examples, agents=agents or None, tenants=tenants or None)
    if as_json:
        found = [_to_json(row) for row in rows]
        unconfirmed = sum(not row["confirmed"] for row in found)
        print_json({"digest": draft.policy.digest, "loads": loads, "paths": found, "unconfirmed": unconfirmed})
        return
    _show(list(rows))


def _check_names(draft: Draft, agents: tuple[str, ...], tenants: tuple[str, ...]) -> None:
    """A misspelled name must not look like an agent that can do nothing."""
    register = draft.policy.register
    for option, names, known in (("agent", agents, register.agents), ("tenant", tenants, register.tenants)):
        for name in names:
            if name not in known:
                raise click.BadParameter(f"the bundle has no {option} {name}", param_hint=f"--{option}")


def _show(rows: list[Path]) -> None:
    console = bundle.console()
    for (agent, tenant), several in groupby(rows, key=lambda row: (row.agent, row.tenant)):
        console.print(Text.assemble((agent, "bold"), f" for {tenant}"), soft_wrap=True)
        table = Table(show_lines=True, expand=True)
        table.add_column("action", overflow="fold", ratio=2)
        table.add_column("service, resource", overflow="fold", ratio=3)
        table.add_column("under which condition", overflow="fold", ratio=6)
        table.add_column("at most, confirmed", min_width=len("held for approval"))
        for row in several:
            table.add_row(
                Text.assemble((row.action, "bold"), "\n", (row.action_class.value, "dim")),
                Text(f"{row.service.removeprefix('spiffe://')}\n{_resource(row)}"),
                Text("\n").join(_conditions(row)),
                Text.assemble(str(row.max_lifetime), "\n", _state(row)),
            )
        console.print(table)
    unconfirmed = sum(not row.confirmed for row in rows)
    summary = f"{len(rows)} paths; each was confirmed by a decision"
    console.print(Text(f"{summary}, except {unconfirmed}" if unconfirmed else summary))


def _resource(row: Path) -> str:
    return f"{row.resource_type}, the set {row.resource_set}" if row.resource_set else row.resource_type


def _state(row: Path) -> Text:
    if not row.confirmed:
        return Text("not confirmed", "yellow")
    return Text("held for approval", "yellow") if row.held else Text("confirmed", "green")


def _conditions(row: Path) -> Iterator[Text]:
    for number, permit in enumerate(row.permits):
        lead = "or " if number else ""
        what = "always" if permit.text == ALWAYS else f"when {permit.text}"
        yield Text.assemble((lead, "dim"), what, (f"  ({permit.policy_id})", "green"))
        for name, limit in permit.limits.items():
            yield Text(f"   with {name} in {json.dumps(limit.to_json(), ensure_ascii=True)}")
        for total in permit.totals:
            yield Text(f"   within {total}")
    for forbid in row.forbids:
        yield Text.assemble(("unless ", "red"), forbid.text, (f"  ({forbid.policy_id})", "red"))
    for line in row.history:
        yield Text(line, "yellow")


def _to_json(row: Path) -> dict[str, object]:
    return {
        "agent": row.agent,
        "tenant": row.tenant,
        "action": row.action,
        "class": row.action_class.value,
        "service": row.service,
        "resource_type": row.resource_type,
        "resource_set": row.resource_set,
        "permits": [_condition_json(one) for one in row.permits],
        "forbids": [_condition_json(one) for one in row.forbids],
        "max_lifetime_seconds": int(row.max_lifetime.total_seconds()),
        "confirmed": row.confirmed,
        "held": row.held,
        "history": list(row.history),
        "witness": row.witness.intent.canonical_object() if row.witness else None,
    }


def _condition_json(one: Condition) -> dict[str, object]:
    found: dict[str, object] = {"policy": one.policy_id, "condition": one.text}
    if one.max_lifetime is not None:
        found["max_lifetime_seconds"] = int(one.max_lifetime.total_seconds())
        found["scope"] = {name: limit.to_json() for name, limit in one.limits.items()}
        found["limits"] = [str(total) for total in one.totals]
    elif one.reason:
        found["reason"] = one.reason
    return found
