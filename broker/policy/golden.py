"""Golden cases: questions with the answers that a bundle's author expects; unless all hold, it is not used."""

import json
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, assert_never

from broker.errors import Reason, Refusal
from broker.intent import Intent, Json, Level, Resource, parse_parameters
from broker.policy.compiled import CompiledPolicy
from broker.policy.decide import decide, decide_manage
from broker.policy.decision import (
    ActionClass,
    Allowed,
    Decision,
    Deny,
    Hold,
    ManageDecision,
    ManageQuestion,
    Permit,
    Question,
    Target,
    TargetKind,
    Terms,
)
from broker.policy.history import History
from broker.policy.problem import Findings
from broker.policy.table import Table, read_tables

GOLDEN_FILE: Final = "golden.toml"
EXPECTATIONS: Final = ("permit", "deny", "hold")
# Stands for a task that lives, is the agent's own and pinned to the case's tenant.
_LIVE_TASK: Final = "task_00000000-0000-7000-8000-000000000000"

CaseQuestion: TypeAlias = Question | ManageQuestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """An answer as a case states it: permit, deny or hold; a reason for deny; the policies behind it; its limits."""

    answer: str
    reason: str = ""
    policies: tuple[str, ...] | None = None
    limits: tuple[str, ...] | None = None

    def __str__(self) -> str:
        policies = f" by {', '.join(self.policies)}" if self.policies else ""
        limits = f", within {'; '.join(self.limits)}" if self.limits else ""
        return f"{self.answer}{f' {self.reason}' if self.reason else ''}{policies}{limits}"

    def met_by(self, given: "Outcome") -> bool:
        """Whether the answer given is the one expected; policies and limits count when they are stated."""
        same_policies = self.policies is None or set(self.policies) == set(given.policies or ())
        same_limits = self.limits is None or set(self.limits) == set(given.limits or ())
        return (self.answer, self.reason) == (given.answer, given.reason) and same_policies and same_limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One golden case; `after` are the actions that were granted before in its task, in their order."""

    name: str
    line: int | None
    question: CaseQuestion
    expected: Outcome
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What became of a case."""

    case: Case
    given: Outcome

    @property
    def passed(self) -> bool:
        """Whether the answer was the expected one."""
        return self.case.expected.met_by(self.given)


def read_cases(content: bytes, found: Findings) -> tuple[Case, ...]:
    """Read golden.toml; what is wrong is noted in `found`."""
    tables = read_tables(content, file=GOLDEN_FILE, kinds=("case",), found=found)["case"]
    cases = [case for case in map(_case, tables) if case is not None]
    names: set[str] = set()
    for case in cases:
        if case.name in names:
            found.add(GOLDEN_FILE, f"two cases are called {case.name!r}; rename one", line=case.line)
        names.add(case.name)
    for answer in ("permit", "deny"):
        if tables and not any(case.expected.answer == answer for case in cases):
            found.add(GOLDEN_FILE, f'no case expects "{answer}"; a bundle shows at least one permit and one deny')
    if not tables:
        found.add(GOLDEN_FILE, "holds no case; write at least one that expects permit and one that expects deny")
    return tuple(cases)


def run_cases(policy: CompiledPolicy, cases: tuple[Case, ...]) -> tuple[CaseResult, ...]:
    """Ask every case's question."""
    return tuple(CaseResult(case=case, given=_outcome(_ask(policy, case))) for case in cases)


def check_cases(policy: CompiledPolicy, cases: tuple[Case, ...], found: Findings) -> None:
    """Note every case whose answer is not the expected one."""
    for result in run_cases(policy, cases):
        if not result.passed:
            sentence = f"case {result.case.name!r} expects {result.case.expected} and gets {result.given}"
            found.add(GOLDEN_FILE, f"{sentence}; correct the policies or the case", line=result.case.line)


def _ask(policy: CompiledPolicy, case: Case) -> Decision | ManageDecision:
    match case.question:
        case Question() as question:
            return decide(policy, replace(question, history=History.after(policy.register, case.after)))
        case ManageQuestion() as question:
            return decide_manage(policy, question)


def _outcome(decision: Decision | ManageDecision) -> Outcome:
    match decision:
        case Permit():
            return Outcome(answer="permit", policies=decision.policy_ids, limits=_limits(decision.terms))
        case Allowed():
            return Outcome(answer="permit", policies=decision.policy_ids)
        case Hold():
            return Outcome(answer="hold", policies=decision.policy_ids, limits=_limits(decision.terms))
        case Deny():
            return Outcome(answer="deny", reason=decision.reason.name, policies=decision.policy_ids)
        case _:
            assert_never(decision)


def _limits(terms: Terms) -> tuple[str, ...]:
    return tuple(str(charge.limit) for charge in terms.charges)


def _case(table: Table) -> Case | None:
    """Read one case; None when it cannot be asked."""
    name = table.text("name")
    expected = _expected(table)
    after = table.names("after", at_least=1, repeating=True) if table.has("after") else ()
    if after and not table.flag("task"):
        table.problem("after lists what was granted before in the task; say task = true")
    try:
        question = _manage_question(table) if table.has("target") else _question(table)
    except Refusal as refusal:
        table.problem(f"cannot be asked: {refusal}")
        question = None
    table.done()
    if question is None or not name:
        return None
    return Case(name=name, line=table.line, question=question, expected=expected, after=after)


def _expected(table: Table) -> Outcome:
    answer, reason = table.text("expect"), table.text("reason", default="")
    if answer not in EXPECTATIONS:
        table.problem(f"expect must be one of {', '.join(EXPECTATIONS)}")
    if (answer == "deny") != (reason in Reason.__members__):
        table.problem(
            'reason names the stable reason of a "deny", such as POLICY_NOT_PERMITTED; leave it out otherwise'
        )
    policies = table.names("policies", at_least=0) if table.has("policies") else None
    limits = table.texts("limits") if table.has("limits") else None
    return Outcome(answer=answer, reason=reason, policies=policies, limits=limits)


def _question(table: Table) -> Question:
    tenant = table.name("tenant", default="")
    chosen = table.text("resource_id", default=""), table.name("resource_set", default="")
    return Question(
        principal=table.spiffe_id("principal"),
        login=table.text("login", default="x509"),
        tenant=tenant,
        task_type=table.name("task_type", default=""),
        intent=Intent(
            action=table.text("action"),
            resource=Resource(type=table.text("resource_type"), id=chosen[0], set=chosen[1]),
            parameters=_parameters(table),
            purpose=table.text("purpose"),
            audience=table.text("audience"),
            task=_LIVE_TASK if table.flag("task") else "",
            on_behalf_of=table.text("on_behalf_of", default=""),
            sensitivity=_level(table, "sensitivity"),
            risk=_level(table, "risk"),
        ),
    )


def _level(table: Table, key: str) -> Level | None:
    return table.level(key) if table.has(key) else None


def _parameters(table: Table) -> dict[str, Json]:
    """Read parameters through the same door as an agent's."""
    try:
        return parse_parameters(json.dumps(table.value("parameters") or {}))
    except (TypeError, ValueError):
        table.problem("parameters consist of text, integers, booleans, lists and tables")
        return {}


def _manage_question(table: Table) -> ManageQuestion | None:
    """Read a case about the broker itself: target = { kind = "agent", id = "spiffe://..." }."""
    kinds = {kind.value: kind for kind in TargetKind}
    inner = table.inner("target")
    kind, name, tenant = inner.text("kind"), inner.text("id"), inner.name("tenant", default="")
    inner.done()
    action = table.name("action")
    principal, login = table.spiffe_id("principal"), table.text("login", default="x509")
    if kind not in kinds:
        inner.problem(f"kind must be one of {', '.join(kinds)}")
        return None
    if not action.startswith("broker."):
        table.problem(f"a target is for broker.* actions, of class {ActionClass.MANAGE.value}; take it away")
        return None
    target = Target(kind=kinds[kind], id=name, tenant=tenant)
    return ManageQuestion(principal=principal, login=login, action=action, target=target)
