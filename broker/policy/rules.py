"""Rules: what the *.cedar files say, policy by policy, with their terms.

cedarpy parses; this file reads the parsed policies (`cedarpy.pst`) and holds them to what Cedar itself does not ask:
unique ids, known annotations, terms, actions named by every permit, entities that exist.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import cedarpy
from cedarpy import pst

from broker.errors import Refusal
from broker.intent import is_text, parse_parameters, require_name
from broker.policy.durations import MAXIMUM as MAX_LIFETIME
from broker.policy.durations import duration_from
from broker.policy.limit import Limit, limits_from
from broker.policy.problem import Findings
from broker.policy.step_up import StepUp, step_up_from_json
from broker.scope import Constraint, constraint_from_json

ANNOTATIONS: Final = frozenset({"id", "limit", "max_lifetime", "once", "scope", "reason", "step_up"})
TERMS: Final = frozenset({"limit", "max_lifetime", "once", "scope", "step_up"})
MAX_REASON: Final = 200
_INCOMPLETE: Final = "unexpected end of input"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One policy.

    Attributes:
        id: its @id.
        file: where it stands.
        line: of its @id; None when it cannot be told.
        permits: True for permit, False for forbid.
        names_agent: its scope is `principal == Agent::"..."`: it gives to one agent, not to a role or to whoever fits.
        annotations: as written.
        max_lifetime: from @max_lifetime; None when there is none.
        limits: from @scope.
        step_up: from @step_up; None when nobody has to approve.
        once: from @once: the credential is good for one act.
        totals: from @limit: what its grants may add up to.
        reason: from @reason, or empty.
        source: as parsed.

    """

    id: str
    file: str
    line: int | None
    permits: bool
    names_agent: bool
    annotations: frozenset[str]
    max_lifetime: timedelta | None
    limits: Mapping[str, Constraint]
    step_up: StepUp | None
    once: bool
    totals: tuple[Limit, ...]
    reason: str
    source: pst.Template

    def named_actions(self) -> frozenset[str] | None:
        """Return the actions and classes that its scope names, or None when it names none."""
        match self.source.action:
            case pst.ActionEq(entity=entity):
                return frozenset({entity.id})
            case pst.ActionIn(entities=entities):
                return frozenset(entity.id for entity in entities)
            case _:
                return None


def read_rules(files: Mapping[str, bytes], found: Findings) -> dict[str, Rule]:
    """Read every *.cedar file, in the order of their names; what is wrong is noted in `found`."""
    rules: dict[str, Rule] = {}
    for file in sorted(name for name in files if name.endswith(".cedar")):
        text = _decoded(file, files[file], found)
        for template in _parsed(file, text, found):
            rule = _rule(file, text, template, found)
            if rule.id in rules:
                sentence = f"@id({rule.id!r}) is taken by a policy in {rules[rule.id].file}; give each its own"
                found.add(file, sentence, line=rule.line)
            elif rule.id:
                rules[rule.id] = rule
    return rules


def policy_set(rules: Iterable[Rule]) -> cedarpy.PolicySet:
    """Return the engine's form of the rules; the engine then knows each by its @id."""
    policies = {rule.id: replace(rule.source, id=rule.id) for rule in rules}
    return cedarpy.PolicySet.from_pst(
        pst.PolicySet(templates=pst.FrozenMap(), static_policies=pst.FrozenMap(policies), template_links=())
    )


def error_line(text: str, parse: Callable[[str], object]) -> int | None:
    """Return the line of a syntax error: the first that no continuation could save. The parser does not tell it."""
    lines = text.splitlines()

    def beyond_saving(count: int) -> bool:
        try:
            parse("\n".join(lines[:count]))
        except ValueError as problem:
            return _INCOMPLETE not in str(problem)
        return False

    if not beyond_saving(len(lines)):
        return len(lines) or None
    return bisect_left(range(1, len(lines) + 1), True, key=beyond_saving) + 1  # noqa: FBT003


def _decoded(file: str, content: bytes, found: Findings) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        found.add(file, "is not UTF-8; save it as UTF-8")
        return ""


def _parsed(file: str, text: str, found: Findings) -> tuple[pst.Template, ...]:
    """Return the policies of one file, in the order in which they stand."""
    try:
        parsed = cedarpy.policies_to_pst(text)
    except ValueError as problem:
        line = error_line(text, cedarpy.PolicySet.from_str)
        found.add(file, f"is not Cedar: {problem}; correct the policy there", line=line)
        return ()
    if parsed.templates:
        found.add(file, "has a template (?principal or ?resource); write the policies out, each with its own @id")
    if not parsed.static_policies and text.strip():
        found.add(file, "holds no policy; remove the file, or write one")
    elif not parsed.static_policies:
        # What an editor leaves while it writes: taking it would drop every forbid that stood there.
        found.add(file, "is empty; remove the file, or write a policy")
    return tuple(parsed.static_policies[key] for key in sorted(parsed.static_policies, key=_position))


def _position(key: str) -> int:
    return int(key.removeprefix("policy"))


def _line_of(text: str, policy_id: str) -> int | None:
    at = re.search(rf'@id\s*\(\s*"{re.escape(policy_id)}"\s*\)', text)
    return text.count("\n", 0, at.start()) + 1 if at else None


def _rule(file: str, text: str, template: pst.Template, found: Findings) -> Rule:
    notes = template.annotations
    policy_id = notes.get("id", "")
    line = _line_of(text, policy_id) if policy_id else None
    which = f"policy {policy_id}" if policy_id else f"policy number {_position(template.id) + 1} of the file"

    def note(sentence: str) -> None:
        found.add(file, f"{which}: {sentence}", line=line)

    _check_id(policy_id, note)
    for name in sorted(notes.keys() - ANNOTATIONS):
        note(f"unknown annotation @{name}; the broker knows @{', @'.join(sorted(ANNOTATIONS))}")
    return Rule(
        id=policy_id,
        file=file,
        line=line,
        permits=template.effect == "permit",
        names_agent=_names_agent(template.principal),
        annotations=frozenset(notes),
        max_lifetime=_lifetime(notes["max_lifetime"], note) if "max_lifetime" in notes else None,
        limits=_limits(notes["scope"], note) if "scope" in notes else {},
        step_up=_step_up(notes["step_up"], note) if "step_up" in notes else None,
        once="once" in notes and _is_once(notes["once"], note),
        totals=_totals(policy_id, notes["limit"], note) if "limit" in notes else (),
        reason=_reason(notes["reason"], note) if "reason" in notes else "",
        source=template,
    )


def _check_id(policy_id: str, note: Callable[[str], None]) -> None:
    if not policy_id:
        note('has no @id; write @id("a-name-of-its-own") before it')
        return
    try:
        require_name(policy_id, "@id")
    except Refusal:
        note("its @id must match [a-z0-9][a-z0-9._/-]* and be at most 128 long")


def _names_agent(constraint: pst.PrincipalOrResourceConstraint) -> bool:
    match constraint:
        case pst.ScopeEq(entity=pst.EntityUid(type=kind)):
            return str(kind) == "Agent"
        case _:
            return False


def _lifetime(text: str, note: Callable[[str], None]) -> timedelta | None:
    """Read an ISO 8601 duration in hours, minutes and seconds."""
    lifetime = duration_from(text)
    if lifetime is None or lifetime > MAX_LIFETIME:
        note('@max_lifetime is a duration such as "PT5M" or "PT1H30M", more than nothing and at most PT24H')
        return None
    return lifetime


def _limits(text: str, note: Callable[[str], None]) -> dict[str, Constraint]:
    """Read @scope: a JSON object, parameter name to constraint."""
    try:
        limits = {name: constraint_from_json(value) for name, value in parse_parameters(text or "[]").items()}
    except Refusal as refusal:
        note(f"@scope: {refusal.reason.meaning.next_step} (as for an intent's parameters)")
        return {}
    except ValueError as problem:
        note(f"@scope: {problem}")
        return {}
    if not limits:
        note("@scope is empty; name a parameter, or leave @scope out")
    return limits


def _step_up(text: str, note: Callable[[str], None]) -> StepUp | None:
    """Read @step_up: a JSON object that says who has to approve."""
    try:
        return step_up_from_json(parse_parameters(text or "[]"))
    except Refusal as refusal:
        note(f"@step_up: {refusal.reason.meaning.next_step} (as for an intent's parameters)")
    except ValueError as problem:
        note(f"@step_up: {problem}")
    return None


def _is_once(text: str, note: Callable[[str], None]) -> bool:
    """Read @once, which says all by being there: a value could be read as taking it back."""
    if text:
        note("@once takes no value; write @once, or leave it out")
    return True


def _totals(policy_id: str, text: str, note: Callable[[str], None]) -> tuple[Limit, ...]:
    """Read @limit: a JSON list of limits."""
    try:
        return limits_from(policy_id, text)
    except Refusal as refusal:
        note(f"@limit: {refusal.reason.meaning.next_step} (as for an intent's parameters)")
    except ValueError as problem:
        note(f"@limit: {problem}")
    return ()


def _reason(text: str, note: Callable[[str], None]) -> str:
    if not text or len(text) > MAX_REASON or not is_text(text) or not text.isprintable():
        note(f"@reason is one printable sentence for an end user, at most {MAX_REASON} characters")
        return ""
    return text
