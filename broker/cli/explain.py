"""`broker policy explain`: for one intent, which policies decided, on which terms, and what would have to change."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.cli import bundle
from broker.cli.bundle import WRONG, print_json
from broker.errors import Refusal
from broker.intent import Intent, Level, Resource, parse_parameters
from broker.policy.candidates import LIVE_TASK
from broker.policy.decision import Decision, Deny, Hold, Permit, Question, Terms
from broker.policy.explain import Considered, Explanation
from broker.policy.explain import explain as explained
from broker.policy.history import History
from broker.policy.nearest import Change, Found, Value
from broker.policy.paths import LOGIN

_LEVELS: Final = {level.name.lower(): level for level in Level if level is not Level.LOW}
_raised = click.Choice(sorted(_LEVELS))


@click.command
@bundle.directory
@click.option("--agent", required=True, help="SPIFFE ID of the agent that asks.")
@click.option("--action", required=True, help="What it would do, such as order.read.")
@click.option("--resource", metavar="TYPE/ID", help="What it would touch, such as order/1234.")
@click.option("--resource-set", metavar="TYPE/SET", help="Or a declared set, such as order/open-orders.")
@click.option("--purpose", required=True, help="Why; registered for this agent.")
@click.option("--audience", required=True, help="SPIFFE ID of the service that it would call.")
@click.option("--parameters", default="", help="The call's parameters, one JSON object.")
@click.option("--task", is_flag=True, help="Within a task that lives and is the agent's own.")
@click.option("--tenant", default="", help="The tenant of that task; needed for an agent that has several.")
@click.option("--on-behalf-of", default="", help="What the agent says of the person that it acts for.")
@click.option("--sensitivity", type=_raised, help="A level that the agent raises the bundle's own to.")
@click.option("--risk", type=_raised, help="A level that the agent raises the bundle's own to.")
@click.option("--after", multiple=True, metavar="ACTION", help="Granted before in that task; repeatable, in order.")
@bundle.as_json
@click.pass_context
def explain(  # noqa: PLR0913  # one parameter an option
    context: click.Context,
    *,
    directory: Path,
    agent: str,
    action: str,
    resource: str | None,
    resource_set: str | None,
    purpose: str,
    audience: str,
    parameters: str,
    task: bool,
    tenant: str,
    on_behalf_of: str,
    sensitivity: str | None,
    risk: str | None,
    after: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say how DIRECTORY decides one intent, why, and what would have to change.

    Exit status: 0 permitted; 1 refused, or held until a person approves, or the bundle cannot be used.
    """
    try:
        intent = Intent(
            action=action,
            resource=_resource(resource, resource_set),
            parameters=parse_parameters(parameters),
            purpose=purpose,
            audience=audience,
            task=LIVE_TASK if task else "",
            on_behalf_of=on_behalf_of,
            sensitivity=_LEVELS.get(sensitivity or ""),
            risk=_LEVELS.get(risk or ""),
        )
    except Refusal as refusal:
        raise click.UsageError(f"no intent: {refusal}. {refusal.reason.meaning.next_step}") from refusal
    draft, loads = bundle.draft_of(directory, for_program=as_json)
    for name in after:
        if not task or name not in draft.policy.actions:
            raise click.BadParameter(f"{name} is no action of the bundle, or --task is missing", param_hint="--after")
    history = History.after(draft.policy.register, after)
    question = Question(principal=agent, login=LOGIN, intent=intent, tenant=tenant, history=history)
    explanation = explained(draft.policy, question)
    if as_json:
        print_json({"digest": draft.policy.digest, "loads": loads, **_to_json(explanation)})
    else:
        _show(explanation)
    if not isinstance(explanation.decision, Permit):
        context.exit(WRONG)


def _resource(single: str | None, declared: str | None) -> Resource:
    if (single is None) == (declared is None):
        raise click.UsageError("give either --resource TYPE/ID or --resource-set TYPE/SET")
    kind, slash, name = (single or declared or "").partition("/")
    if not slash:
        raise click.UsageError("give TYPE and ID with a slash between them, such as order/1234")
    return Resource(type=kind, id=name) if declared is None else Resource(type=kind, set=name)


# --- for people ---------------------------------------------------------------------------------------------------


def _show(explanation: Explanation) -> None:
    console = bundle.console()
    _show_decision(console, explanation)
    for one in explanation.considered:
        _show_policy(console, one, explanation.decision)
    if explanation.elsewhere:
        several = "policies are" if explanation.elsewhere > 1 else "policy is"
        console.print(Text(f"{explanation.elsewhere} more {several} about this action, for others", "dim"))
    for fact in explanation.facts:
        console.print(Text.assemble((f"{fact.what}: ", "bold"), ", ".join(fact.values) or "none"), soft_wrap=True)
    if isinstance(explanation.decision, Deny):
        _show_ways(console, explanation)


def _show_decision(console: Console, explanation: Explanation) -> None:
    decision = explanation.decision
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    match decision:
        case Permit():
            console.print(Text("permitted", "bold green"))
        case Hold():
            console.print(Text("held: a person has to approve it first (STEP_UP_REQUIRED)", "bold yellow"))
        case Deny():
            detail = f": {decision.detail}" if decision.detail else ""
            console.print(Text.assemble(("refused ", "bold red"), (decision.reason.name, "bold"), detail))
            table.add_row("what to do", Text(decision.reason.meaning.next_step))
            table.add_row("for the user", Text(decision.sentence))
    if isinstance(decision, Hold):
        for required in decision.requirements:
            table.add_row("has to approve", Text(required.told()))
    if not isinstance(decision, Deny):
        _add_terms(table, decision.terms, explanation)
    console.print(table)


def _add_terms(table: Table, terms: Terms, explanation: Explanation) -> None:
    tightest = [
        one.rule.id for one in explanation.considered if one.decided and one.rule.max_lifetime == terms.max_lifetime
    ]
    table.add_row("tenant", Text(terms.tenant))
    table.add_row("class", Text(terms.action_class.value))
    if terms.use == "once":
        table.add_row("use", Text("once: the service spends it before it acts"))
    table.add_row("lifetime", Text(f"at most {terms.max_lifetime} (by {', '.join(tightest)})"))
    for charge in terms.charges:
        table.add_row("limit", Text(f"{charge.limit}; this adds {charge.amount}"))
    for line in explanation.history:
        table.add_row("before", Text(line))
    for name, limit in terms.scope.constraints.items():
        table.add_row(f"scope: {name}", Text(json.dumps(limit.to_json(), ensure_ascii=True)))


def _show_policy(console: Console, one: Considered, decision: Decision) -> None:
    rule = one.rule
    effect = "permit" if rule.permits else "forbid"
    counts = one.decided and not (isinstance(decision, Deny) and rule.permits)
    state = "decided" if counts else "applies" if one.applies else "does not apply"
    colour = ("green" if rule.permits else "red") if one.applies else "dim"
    place = rule.file if rule.line is None else f"{rule.file}:{rule.line}"
    console.print(Text.assemble("\n", (f"{effect} {rule.id}", "bold"), f"  {place}  ", (state, colour)))
    if rule.reason:
        console.print(Text(f"    “{rule.reason}”"), soft_wrap=True)
    for requirement in one.requirements:
        mark = ("  ✓ ", "green") if requirement.holds else ("  ✗ ", "red")
        console.print(Text.assemble(mark, requirement.text), soft_wrap=True)


def _show_ways(console: Console, explanation: Explanation) -> None:
    console.print(Text("\nwhat would have to change", "bold"))
    if explanation.bundle_change:
        console.print(Text(f"  in the bundle: {explanation.bundle_change}"), soft_wrap=True)
    for way in explanation.ways:
        answer = "held for a person's approval" if isinstance(way.decision, Hold) else "permitted"
        changes = " and ".join(map(_change_text, way.changes)) or "nothing else"
        by = f"  → {answer} by {', '.join(way.decision.policy_ids)}"
        console.print(Text.assemble("  ", changes, (by, "green")), soft_wrap=True)
    if not explanation.ways and not explanation.bundle_change:
        console.print(Text("  no nearby intent was found that is not refused: the policies would have to change"))


def _change_text(change: Change) -> str:
    name = ".".join(change.place)
    if change.place == ("task",):
        return "a task" if change.after else "no task"
    if change.after is None or change.after == "":
        return f"{name} left out"
    before = "" if change.before in {None, ""} else f", not {_value_text(change.before)}"
    return f"{name} {_value_text(change.after)}{before}"


def _value_text(value: Value) -> str:
    shown = _value_json(value)
    return str(shown) if isinstance(value, Level | Resource) else json.dumps(shown, ensure_ascii=True)


def _value_json(value: Value) -> object:
    match value:
        case Level():
            return value.name.lower()
        case Resource():
            return f"{value.type}/{value.id}" if value.id else f"{value.type}/{value.set} (set)"
        case _:
            return value


# --- for programs -------------------------------------------------------------------------------------------------


def _to_json(explanation: Explanation) -> dict[str, object]:
    return {
        "decision": _decision_json(explanation.decision),
        "policies": [_policy_json(one) for one in explanation.considered],
        "policies_for_others": explanation.elsewhere,
        "facts": [asdict(fact) for fact in explanation.facts],
        "bundle_change": explanation.bundle_change,
        "ways": [_way_json(way) for way in explanation.ways],
        "history": list(explanation.history),
    }


def _decision_json(decision: Decision) -> dict[str, object]:
    policies = list(decision.policy_ids)
    if isinstance(decision, Deny):
        return {
            "answer": "deny",
            "reason": decision.reason.name,
            "detail": decision.detail,
            "sentence": decision.sentence,
            "next_step": decision.reason.meaning.next_step,
            "policies": policies,
        }
    terms = decision.terms
    return {
        "answer": "hold" if isinstance(decision, Hold) else "permit",
        "policies": policies,
        "tenant": terms.tenant,
        "class": terms.action_class.value,
        "use": terms.use,
        "max_lifetime_seconds": int(terms.max_lifetime.total_seconds()),
        "scope": {name: limit.to_json() for name, limit in terms.scope.constraints.items()},
        "limits": [{"limit": str(charge.limit), "adds": charge.amount} for charge in terms.charges],
        "step_up": [each.to_json() for each in decision.requirements] if isinstance(decision, Hold) else [],
    }


def _policy_json(one: Considered) -> dict[str, object]:
    return {
        "id": one.rule.id,
        "file": one.rule.file,
        "line": one.rule.line,
        "effect": "permit" if one.rule.permits else "forbid",
        "reason": one.rule.reason,
        "decided": one.decided,
        "applies": one.applies,
        "requirements": [asdict(requirement) for requirement in one.requirements],
    }


def _way_json(way: Found) -> dict[str, object]:
    return {
        "answer": "hold" if isinstance(way.decision, Hold) else "permit",
        "policies": list(way.decision.policy_ids),
        "changes": [
            {
                "place": ".".join(change.place),
                "before": _value_json(change.before),
                "after": _value_json(change.after),
            }
            for change in way.changes
        ],
    }
