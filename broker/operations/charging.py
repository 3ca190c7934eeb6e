"""What a grant is charged, and what is remembered of it: policy's terms become guards and writes of the transaction.

A bundle without limits, separate duties and sequences has none of them, and nothing here costs it anything.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from broker.errors import Reason
from broker.intent import Json
from broker.policy.bundle import CompiledPolicy
from broker.policy.decision import Terms
from broker.policy.history import History, Within, is_watched
from broker.policy.history import Step as PolicyStep
from broker.policy.limit import Limit, Per
from broker.store.interface import (
    Charge,
    Counter,
    Guard,
    NoteGranted,
    NotGranted,
    Step,
    StepsOpen,
    Store,
    WithinLimit,
    Write,
)
from broker.task import Task

# A conversation of which nothing was heard for so long begins anew: its name can come again at any time.
CONVERSATION_KEPT: Final = timedelta(days=30)
_DAY: Final = timedelta(days=1)


def history_of(store: Store, policy: CompiledPolicy, task: Task | None, action: str) -> History:
    """Return what was granted before, as far as the bundle asks for it with this action."""
    if task is None or not is_watched(policy.register, action):
        return History()
    subjects = {within: _subject(within, task) for within in Within}
    found = store.granted(task.id, tuple(dict.fromkeys(subjects.values())))
    steps = {
        (within, sequence): taken
        for within, subject in subjects.items()
        for (whose, sequence), taken in found.steps.items()
        if whose == subject
    }
    return History(actions=found.actions, steps=steps)


def guards_of_terms(terms: Terms, task: Task | None, *, agent: str, now: datetime) -> Iterator[Guard]:
    """Yield what must still hold inside the transaction, beside what is written of the grant."""
    for counter, amount, maximum in _charged(terms, task, agent, now):
        yield WithinLimit(counter=counter, amount=amount, maximum=maximum)
    if task is None:
        return
    if terms.apart_from:
        yield NotGranted(task=task.id, actions=terms.apart_from)
    for step in terms.steps:
        # One that completes has been approved: it was decided on as such.
        if step.place == step.sequence.last and not step.completes:
            yield StepsOpen(
                subject=_subject(step.sequence.within, task),
                sequence=step.sequence.key,
                steps=step.place,
                reason=Reason.SEQUENCE_CHANGED if step.sequence.step_up else Reason.SEQUENCE_REFUSED,
            )


def writes_of_terms(  # whose grant, and when
    terms: Terms, task: Task | None, *, agent: str, credential: str, action: str, now: datetime
) -> Iterator[Write]:
    """Yield what is written of a grant beside it."""
    amounts = tuple((counter, amount) for counter, amount, _ in _charged(terms, task, agent, now))
    if amounts:
        yield Charge(credential=credential, at=now, amounts=amounts)
    if task is not None and (terms.apart_from or terms.steps):
        yield NoteGranted(
            task=task.id,
            action=action if terms.apart_from else "",
            steps=tuple(_step(step, task, now) for step in terms.steps),
        )


def charged_of(terms: Terms) -> tuple[Mapping[str, Json], ...]:
    """Return how an event names the limits that a grant was charged to: no amount, which would tell a parameter."""
    named = {(charge.limit.policy, charge.limit.per.value): None for charge in terms.charges}
    return tuple({"policy": policy, "per": per} for policy, per in named)


def standing_of(policy: CompiledPolicy) -> tuple[tuple[str, int, str], ...]:
    """Return the limits by agent of a bundle, as the store keeps them apart."""
    return tuple(
        (limit.policy, limit.place, limit.parameter)
        for rule in policy.rules.values()
        for limit in rule.totals
        if limit.per is Per.AGENT
    )


def _charged(terms: Terms, task: Task | None, agent: str, now: datetime) -> Iterator[tuple[Counter, int, int]]:
    for charge in terms.charges:
        yield _counter(charge.limit, task, agent, now), charge.amount, charge.limit.maximum


def _counter(limit: Limit, task: Task | None, agent: str, now: datetime) -> Counter:
    subject, ends = agent, None
    if limit.per is Per.DAY:
        subject, ends = f"{agent} {now.date()}", now.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
    elif limit.of_work:
        if task is None:
            raise AssertionError("policy demands a task for what counts by it")
        within = Within.TASK if limit.per is Per.TASK else Within.CONVERSATION
        subject, ends = _subject(within, task), _ends(within, task, now)
    return Counter(
        policy=limit.policy,
        place=limit.place,
        per=limit.per.value,
        parameter=limit.parameter,
        subject=subject,
        ends=ends,
    )


def _subject(within: Within, task: Task) -> str:
    """Return what counts: a task without a conversation is one of its own. No SPIFFE ID has a space in it."""
    talks = within is Within.CONVERSATION and task.conversation
    return f"{task.agent} {task.conversation}" if talks else task.id


def _ends(within: Within, task: Task, now: datetime) -> datetime | None:
    talks = within is Within.CONVERSATION and task.conversation
    return now + CONVERSATION_KEPT if talks else None


def _step(step: PolicyStep, task: Task, now: datetime) -> Step:
    within = step.sequence.within
    return Step(
        subject=_subject(within, task),
        sequence=step.sequence.key,
        place=step.place,
        ends=_ends(within, task, now),
    )
