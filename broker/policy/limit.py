"""Limits: what the grants of a policy may add up to. A permit carries what its grant is charged; the store counts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from broker.errors import Reason, Refusal
from broker.intent import MAX_INTEGER, Intent, parse_parameters

MAX_LIMITS: Final = 8
_MEMBERS: Final = frozenset({"per", "max", "sum"})
_FORM: Final = 'a list such as [{"per": "task", "max": 10}, {"per": "day", "max": 100000, "sum": "amount"}]'


class Per(Enum):
    """Over what a limit adds up; a day is one of the agent, in UTC."""

    TASK = "task"
    CONVERSATION = "conversation"
    AGENT = "agent"
    DAY = "day"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit of a policy.

    Attributes:
        policy: the policy's id.
        place: among the policy's limits, from 0.
        per: over what it adds up.
        maximum: what all grants together may come to.
        parameter: what is added up; empty: the grants themselves.

    """

    policy: str
    place: int
    per: Per
    maximum: int
    parameter: str = ""

    @property
    def of_work(self) -> bool:
        """Whether it counts for a piece of work, so that an intent has to name its task."""
        return self.per in {Per.TASK, Per.CONVERSATION}

    def __str__(self) -> str:
        """Return it as commands show it and golden cases write it."""
        what = f"{self.parameter} of {self.maximum}" if self.parameter else f"{self.maximum} grants"
        return f"{self.policy}: {what} per {self.per.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What one grant adds up under a limit."""

    limit: Limit
    amount: int


def limits_from(policy: str, text: str) -> tuple[Limit, ...]:
    """Read @limit.

    Raises:
        Refusal: it is not JSON as parameters are.
        ValueError: it says something else than limits.

    """
    # Parsed as a member, through the same strict door as parameters.
    members = parse_parameters(f'{{"limit": {text}}}')
    listed = members.get("limit")
    if members.keys() != {"limit"} or not isinstance(listed, list) or not 1 <= len(listed) <= MAX_LIMITS:
        message = f"is {_FORM}, at most {MAX_LIMITS} long"
        raise ValueError(message)
    return tuple(_limit(policy, place, entry) for place, entry in enumerate(listed))


def _limit(policy: str, place: int, entry: object) -> Limit:
    kinds = {per.value: per for per in Per}
    if not isinstance(entry, dict) or not {"per", "max"} <= entry.keys() <= _MEMBERS:
        message = f'is {_FORM}; each has "per" and "max", and may have "sum"'
        raise ValueError(message)
    per, maximum, parameter = entry["per"], entry["max"], entry.get("sum", "")
    if not isinstance(per, str) or per not in kinds:
        message = f'"per" is one of {", ".join(kinds)}'
        raise ValueError(message)
    if isinstance(maximum, bool) or not isinstance(maximum, int) or not 1 <= maximum <= MAX_INTEGER:
        message = '"max" is an integer of at least 1'
        raise ValueError(message)
    if "sum" in entry and (not isinstance(parameter, str) or not parameter):
        message = '"sum" is the name of a parameter'
        raise ValueError(message)
    return Limit(policy=policy, place=place, per=kinds[per], maximum=maximum, parameter=parameter)


def charges_of(limits: Iterable[Limit], intent: Intent) -> tuple[Charge, ...]:
    """Return what a grant of an intent adds up under each of these limits.

    Raises:
        Refusal: TASK_REQUIRED, LIMIT_AMOUNT_REFUSED; LIMIT_REACHED when the one grant alone goes beyond a limit.

    """
    return tuple(_charges(limits, intent))


def _charges(limits: Iterable[Limit], intent: Intent) -> Iterator[Charge]:
    for limit in limits:
        if limit.of_work and not intent.task:
            raise Refusal(Reason.TASK_REQUIRED, f"policy {limit.policy} counts per {limit.per.value}")
        amount = _amount(limit, intent)
        if amount > limit.maximum:
            raise Refusal(Reason.LIMIT_REACHED, detail_of(limit.policy, limit.per.value), policy_ids=(limit.policy,))
        yield Charge(limit=limit, amount=amount)


def _amount(limit: Limit, intent: Intent) -> int:
    if not limit.parameter:
        return 1
    amount = intent.parameters.get(limit.parameter)
    # What is negative would give back; what is not there would count for nothing.
    if isinstance(amount, bool) or not isinstance(amount, int) or amount < 0:
        detail = f"policy {limit.policy} adds up {limit.parameter}"
        raise Refusal(Reason.LIMIT_AMOUNT_REFUSED, detail, policy_ids=(limit.policy,))
    return amount


def detail_of(policy: str, per: str) -> str:
    """Return how a refusal names a limit: no amount of the request, and none that was counted."""
    return f"policy {policy}, per {per}"
