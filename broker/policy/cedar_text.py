"""Conditions as people read them: parsed Cedar becomes Cedar text again, with no more parentheses than it needs."""

import re
from typing import Final, assert_never

from cedarpy import pst

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS: Final = frozenset({"true", "false", "if", "then", "else", "in", "is", "like", "has", "__cedar"})
_INFIX: Final = {
    "or": ("||", 1),
    "and": ("&&", 2),
    "eq": ("==", 3),
    "not_eq": ("!=", 3),
    "less": ("<", 3),
    "less_eq": ("<=", 3),
    "greater": (">", 3),
    "greater_eq": (">=", 3),
    "in": ("in", 3),
    "add": ("+", 4),
    "sub": ("-", 4),
    "mul": ("*", 5),
}
_METHODS: Final = {
    "decimal_less_than": "lessThan",
    "decimal_less_eq": "lessThanOrEqual",
    "decimal_greater": "greaterThan",
    "decimal_greater_eq": "greaterThanOrEqual",
}
_FUNCTIONS: Final = frozenset({"datetime", "decimal", "duration", "ip"})
_RELATION: Final = 3
_UNARY: Final = 6
_MEMBER: Final = 7
_OPPOSITE: Final[dict[pst.BinaryOpName, pst.BinaryOpName]] = {
    "eq": "not_eq",
    "not_eq": "eq",
    "less": "greater_eq",
    "less_eq": "greater",
    "greater": "less_eq",
    "greater_eq": "less",
}


def text_of(expression: pst.Expr) -> str:
    """Return an expression as Cedar text that parses to the same expression."""
    return _text(expression, 0)


def conjuncts(expression: pst.Expr) -> tuple[pst.Expr, ...]:
    """Return the parts that must all hold, with what is always true left out."""
    match simplified(expression):
        case pst.BinaryOp(op="and", left=left, right=right):
            return conjuncts(left) + conjuncts(right)
        case pst.BoolLit(value=True):
            return ()
        case other:
            return (other,)


def simplified(expression: pst.Expr) -> pst.Expr:
    """Drop constants from && and ||, and turn a negated comparison into the opposite one."""
    match expression:
        case pst.BinaryOp(op="and" | "or" as op, left=left, right=right):
            return _joined(op, simplified(left), simplified(right))
        case pst.UnaryOp(op="not", arg=arg):
            return negated(simplified(arg))
        case _:
            return expression


def negated(expression: pst.Expr) -> pst.Expr:
    """Return the opposite of an expression."""
    match expression:
        case pst.BoolLit(value=value):
            return pst.BoolLit(not value)
        case pst.UnaryOp(op="not", arg=arg):
            return arg
        case pst.BinaryOp(op=op, left=left, right=right) if op in _OPPOSITE:
            return pst.BinaryOp(_OPPOSITE[op], left, right)
        case _:
            return pst.UnaryOp("not", expression)


def clause_expression(clause: pst.Clause) -> pst.Expr:
    """Return what has to be true for a `when` or an `unless` to be met."""
    match clause:
        case pst.When(expr=expr):
            return simplified(expr)
        case pst.Unless(expr=expr):
            return negated(simplified(expr))
        case _:
            assert_never(clause)


def scope_text(name: str, constraint: pst.PrincipalOrResourceConstraint | pst.ActionConstraint) -> str:
    """Return the scope constraint of a principal, action or resource; empty when there is none."""
    match constraint:
        case pst.ScopeAny():
            return ""
        case pst.ScopeEq(entity=entity) | pst.ActionEq(entity=entity):
            return f"{name} == {_entity(entity)}"
        case pst.ScopeIn(entity=entity):
            return f"{name} in {_entity(entity)}"
        case pst.ScopeIs(entity_type=kind):
            return f"{name} is {kind}"
        case pst.ScopeIsIn(entity_type=kind, entity=entity):
            return f"{name} is {kind} in {_entity(entity)}"
        case pst.ActionIn(entities=entities):
            return f"{name} in [{', '.join(map(_entity, entities))}]"
        case _:
            assert_never(constraint)


def _joined(op: pst.BinaryOpName, left: pst.Expr, right: pst.Expr) -> pst.Expr:
    neutral = pst.BoolLit(op == "and")
    # Only `false && x` is false whatever x is; `x && false` can be an error first, so it stays.
    if left == negated(neutral) or right == neutral:
        return left
    return right if left == neutral else pst.BinaryOp(op, left, right)


def _text(expression: pst.Expr, above: int) -> str:
    """Write an expression; in parentheses when it binds no tighter than what stands around it demands."""
    text, binding = _written(expression)
    return f"({text})" if binding < above else text


def _written(expression: pst.Expr) -> tuple[str, int]:  # noqa: PLR0911  # one return a kind of expression
    """Return the text of an expression and how tightly it binds."""
    match expression:
        case pst.BinaryOp():
            return _binary(expression)
        case pst.UnaryOp():
            return _unary(expression)
        case pst.GetAttr(base=base, attr=attr):
            return _text(base, _MEMBER) + (f".{attr}" if _is_identifier(attr) else f"[{_quoted(attr)}]"), _MEMBER
        case pst.HasAttr(base=base, attrs=attrs):
            names = ".".join(attrs) if all(map(_is_identifier, attrs)) else _quoted(attrs[0])
            return f"{_text(base, _RELATION + 1)} has {names}", _RELATION
        case pst.Like(base=base, pattern=pattern):
            return f"{_text(base, _RELATION + 1)} like {_pattern(pattern)}", _RELATION
        case pst.Is(base=base, entity_type=kind, in_expr=inside):
            within = f" in {_text(inside, _RELATION + 1)}" if inside is not None else ""
            return f"{_text(base, _RELATION + 1)} is {kind}{within}", _RELATION
        case pst.IfThenElse(cond=cond, then_expr=then, else_expr=other):
            return f"if {_text(cond, 1)} then {_text(then, 0)} else {_text(other, 0)}", 0
        case pst.Set(elements=elements):
            return f"[{', '.join(_text(element, 0) for element in elements)}]", _MEMBER
        case pst.Record(fields=members):
            inner = ", ".join(f"{_quoted(name)}: {_text(member, 0)}" for name, member in members.items())
            return f"{{{inner}}}", _MEMBER
        case _:
            return _leaf(expression)


def _leaf(expression: pst.Expr) -> tuple[str, int]:
    match expression:
        case pst.BoolLit(value=value):
            return str(value).lower(), _MEMBER
        case pst.LongLit(value=number):
            return str(number), _MEMBER if number >= 0 else _UNARY
        case pst.StringLit(value=string):
            return _quoted(string), _MEMBER
        case pst.EntityLit(value=entity):
            return _entity(entity), _MEMBER
        case pst.Var(name=name):
            return str(name), _MEMBER
        case pst.Slot(name=name):
            return f"?{name}", _MEMBER
        case _:
            raise AssertionError(f"no leaf: {type(expression).__name__}")


def _binary(expression: pst.BinaryOp) -> tuple[str, int]:
    op, left, right = expression.op, expression.left, expression.right
    if op not in _INFIX:
        return f"{_text(left, _MEMBER)}.{_METHODS.get(op) or _camel(op)}({_text(right, 0)})", _MEMBER
    sign, binding = _INFIX[op]
    # Comparisons do not chain, and a - (b - c) is not a - b - c: only the left side may bind as loosely.
    first = binding + 1 if binding == _RELATION else binding
    return f"{_text(left, first)} {sign} {_text(right, binding + 1)}", binding


def _unary(expression: pst.UnaryOp) -> tuple[str, int]:
    op, arg = expression.op, expression.arg
    if op in {"not", "neg"}:
        return f"{'!' if op == 'not' else '-'}{_text(arg, _MEMBER)}", _UNARY
    if op in _FUNCTIONS:
        return f"{op}({_text(arg, 0)})", _MEMBER
    return f"{_text(arg, _MEMBER)}.{_camel(op)}()", _MEMBER


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _is_identifier(name: str) -> bool:
    return bool(_IDENTIFIER.fullmatch(name)) and name not in _WORDS


def _entity(entity: pst.EntityOrSlot) -> str:
    match entity:
        case pst.EntityUid(type=kind, id=name):
            return f"{kind}::{_quoted(name)}"
        case pst.Slot(name=name):
            return f"?{name}"
        case _:
            assert_never(entity)


def _quoted(text: str) -> str:
    return f'"{"".join(map(_escaped, text))}"'


def _pattern(elements: tuple[pst.PatternElem, ...]) -> str:
    parts = (
        "*" if isinstance(element, pst.Wildcard) else r"\*" if element.value == "*" else _escaped(element.value)
        for element in elements
    )
    return f'"{"".join(parts)}"'


def _escaped(character: str) -> str:
    """Escape what ends a string, and what does not show: text from a bundle must not steer a terminal."""
    if character in {'"', "\\"}:
        return f"\\{character}"
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"
