"""Printed Cedar: it parses to what it was printed from, and nothing in it steers a terminal."""

import cedarpy
import pytest
from cedarpy import pst

from broker.policy.cedar_text import clause_expression, conjuncts, text_of

EXPRESSIONS = {
    "arithmetic on the right": "1 - (2 - 3) == 4 * (5 + 6)",
    "arithmetic on the left": "(1 - 2) - 3 == -4",
    "a negated disjunction": '!(context.a == "x" || context.b == "y") && context.c',
    "or within and": "(context.a || context.b) && context.c || context.d",
    "a comparison compared": "(1 < 2) == (3 < 4)",
    "if within and": "(if context.a then context.b else context.c) && context.d",
    "if as a whole": 'if context.a then context.b else context.c == "x" || context.d',
    "has, one and several": 'context has a && context has a.b && context has "not a name"',
    "members by odd names": 'context["not a name"].b["if"] == "x"',
    "like with a star that is one": 'context.a like "*a\\*b*\\"\\\\"',
    "is and is in": 'resource is Order && resource is Order in Tenant::"retail" && principal in [Role::"a", Role::"b"]',
    "methods": "context.s.contains(1) && context.s.containsAll([1, 2]) && [3].containsAny(context.s) && [1].isEmpty()",
    "extensions": 'ip("10.0.0.1").isInRange(ip("10.0.0.0/8")) && decimal("1.0").lessThanOrEqual(decimal("2.0"))',
    "times": 'datetime("2026-01-01").offset(duration("1h")).toDate().durationSince(context.t).toMinutes() > 3',
    "a record": 'context.p == {"a": 1, "b c": [true, false]}',
    "text": 'context.a == "quote \\" back \\\\ line \\n tab \\t bell \\u{7} right-to-left \\u{202e}"',
}


def parsed(text: str) -> pst.Expr:
    policies = cedarpy.policies_to_pst(f"permit (principal, action, resource) when {{ {text} }};")
    (clause,) = next(iter(policies.static_policies.values())).clauses
    assert isinstance(clause, pst.When)
    return clause.expr


@pytest.mark.parametrize("text", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_what_is_printed_parses_to_the_same(text: str) -> None:
    expression = parsed(text)
    printed = text_of(expression)
    assert parsed(printed) == expression
    assert printed.isprintable()


SIMPLER = {
    "constants go": ("true && (true && context.a)", ["context.a"]),
    "what is always true is no condition": ("true", []),
    "an or with true": ("true || context.a", []),
    "an or with false": ("false || context.a", ["context.a"]),
    "a false stays": ("false && context.a", ["false"]),
    "a false on the right stays, since the left may fail": ("context.a && false", ["context.a", "false"]),
    "a negated at most": ("!(context.a <= 1)", ["context.a > 1"]),
    "a negated less": ("!(context.a < 1)", ["context.a >= 1"]),
    "a negated more": ("!(context.a > 1)", ["context.a <= 1"]),
    "a negated at least": ("!(context.a >= 1)", ["context.a < 1"]),
    "a negated equality": ("!(context.a == 1)", ["context.a != 1"]),
    "a negated inequality": ("!(context.a != 1)", ["context.a == 1"]),
    "a doubled negation": ("!(!context.a)", ["context.a"]),
    "each of several": ('context.a == "x" && context.b != "y"', ['context.a == "x"', 'context.b != "y"']),
}


@pytest.mark.parametrize(("text", "conditions"), SIMPLER.values(), ids=SIMPLER)
def test_conditions_one_by_one(text: str, conditions: list[str]) -> None:
    assert [text_of(one) for one in conjuncts(clause_expression(pst.When(parsed(text))))] == conditions


def test_unless_is_the_opposite_of_when() -> None:
    expression = parsed("context.a > 1")
    assert text_of(clause_expression(pst.Unless(expression))) == "context.a <= 1"
    assert text_of(clause_expression(pst.When(expression))) == "context.a > 1"
