"""What one agent asks for and takes back, over and over, costs nobody else: no question walks it, and it is bounded."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Concatenate, Final, ParamSpec, TypeVar

import pytest

from broker.approval import Approval, ApprovalState
from broker.errors import Reason
from broker.intent import Intent, Resource
from broker.policy.step_up import StepUp, StepUpKind
from broker.scope import Scope
from broker.store.approval_items import ApprovalView, FewPending, OpenApproval
from broker.store.sqlite import approvals
from broker.store.sqlite.approval_reads import ApprovalReads
from broker.store.sqlite.forget import APPROVALS_KEPT, UNDECIDED_KEPT, forget_expired
from broker.store.sqlite.schema import migrate, shipped

_P = ParamSpec("_P")
_T = TypeVar("_T")
NOW: Final = datetime(2026, 5, 1, 12, tzinfo=UTC)
AGENT: Final = "spiffe://example.org/agent/a"
TASK: Final = "task_00000000-0000-7000-8000-000000000001"
INTENT: Final = Intent(
    action="order.refund",
    resource=Resource(type="order", id="1"),
    purpose="support",
    audience="spiffe://example.org/service/orders",
    task=TASK,
)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        migrate(opened, shipped())
        yield opened


class _Reads(ApprovalReads):
    """Reads of one connection, which remembers each query."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.queries: list[str] = []

    def _ask(self, question: Callable[Concatenate[sqlite3.Connection, _P], _T], *a: _P.args, **k: _P.kwargs) -> _T:
        self._connection.set_trace_callback(self.queries.append)
        try:
            return question(self._connection, *a, **k)
        finally:
            self._connection.set_trace_callback(None)

    @property
    def plans(self) -> list[str]:
        """How SQLite answered all that was asked."""
        return [row[3] for each in self.queries for row in self._connection.execute(f"EXPLAIN QUERY PLAN {each}")]


def asked(connection: sqlite3.Connection, number: int, state: ApprovalState, at: datetime = NOW) -> Approval:
    """Write a request that stands so; return it."""
    given = state in {ApprovalState.APPROVED, ApprovalState.USED, ApprovalState.DENIED}
    approval = Approval(
        id=f"appr_{number}",
        agent=AGENT,
        tenant="retail",
        task_type="",
        intent=INTENT,
        action_class="write",
        nonce="n",
        requirements=(StepUp(kind=StepUpKind.USER),),
        policy_ids=("p",),
        scope=Scope.of(INTENT),
        lifetime=timedelta(minutes=1),
        requested_at=at,
        pending_until=at + timedelta(minutes=15),
        state=state,
        usable_until=at if given and state is not ApprovalState.DENIED else None,
        decided_at=at if given else None,
    )
    approvals.write(connection, OpenApproval(approval=approval), number)
    return approval


@pytest.mark.parametrize(
    "view",
    [
        ApprovalView(tenants=("retail",)),
        ApprovalView(tenants=None),
        ApprovalView(agent=AGENT),
        ApprovalView(begun_by="s"),
    ],
    ids=["of tenants", "of all", "an agent's", "a front end's"],
)
def test_what_waits_is_listed_without_a_walk_through_what_is_over(
    connection: sqlite3.Connection, view: ApprovalView
) -> None:
    reads = _Reads(connection)
    asked(connection, 1, ApprovalState.WITHDRAWN)
    waiting = asked(connection, 2, ApprovalState.PENDING)
    connection.execute(
        "INSERT INTO task (id, agent, begun_by, tenant, purpose, conversation, begun_at, deadline)"
        " VALUES (?, 'a', 's', 'retail', 'p', '', 0, 0)",
        (TASK,),
    )
    found = reads.approvals_after(0, replace(view, states=(ApprovalState.PENDING,)), 10)
    assert [each.id for _, each in found] == [waiting.id]
    assert [each.id for _, each in reads.approvals_changed(2, 9, view, 10)] == [waiting.id]
    walks = [step for step in reads.plans if step.startswith("SCAN") and "json_each" not in step]
    assert not walks + [step for step in reads.plans if "INTEGER PRIMARY KEY (rowid>" in step]
    assert [step for step in reads.plans if "approval_changed" in step]


def test_an_agents_history_counts_answers_alone(connection: sqlite3.Connection) -> None:
    reads = _Reads(connection)
    states = [*ApprovalState, ApprovalState.USED]
    for number, state in enumerate(states):
        asked(connection, number, state)
    assert reads.approval_counts(AGENT) == (3, 1)
    assert all("approval_answered" in step for step in reads.plans)


def test_what_is_taken_back_is_bounded_as_what_waits_is(connection: sqlite3.Connection) -> None:
    guard = FewPending(agent=AGENT, most=2, most_withdrawn=3, now=NOW)
    for number in range(2):
        asked(connection, number, ApprovalState.WITHDRAWN)
    assert approvals.refusal(connection, guard) is None
    asked(connection, 2, ApprovalState.WITHDRAWN)
    assert approvals.refusal(connection, guard) is Reason.LIMIT_APPROVALS
    assert approvals.refusal(connection, replace(guard, agent="another")) is None
    assert approvals.refusal(connection, replace(guard, now=NOW + timedelta(minutes=15))) is None


def test_what_one_user_is_asked_is_counted_without_a_walk_through_the_others(connection: sqlite3.Connection) -> None:
    """An agent may have thousands of them, each of whom it asks as much as it may."""
    guard = FewPending(agent=AGENT, most=2, most_withdrawn=3, now=NOW, person="ana")
    for number in range(3):
        opened = replace(asked(connection, number, ApprovalState.PENDING), id=f"of_{number}")
        approvals.write(connection, OpenApproval(approval=opened, person=f"user {number}"), number)
    queries: list[str] = []
    connection.set_trace_callback(queries.append)
    assert approvals.refusal(connection, guard) is None
    assert approvals.refusal(connection, replace(guard, person="user 1")) is None
    assert approvals.refusal(connection, replace(guard, person="")) is Reason.LIMIT_APPROVALS
    connection.set_trace_callback(None)
    plans = [row[3] for each in queries for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
    assert plans
    assert all("approval_waiting (agent=? AND person=? AND state=? AND pending_until>?)" in step for step in plans)


def test_what_waited_before_it_was_counted_by_user_is_counted_so_by_now() -> None:
    """A store of the release before: of the user alone is what no group has to answer, and whose task says for whom."""
    user, group, told = '[{"kind": "user"}]', '[{"kind": "group"}]', '[{"kind": "user"}, {"kind": "group"}]'
    rows = ((user, "t1", "ana"), (group, "t1", ""), (told, "t1", ""), (user, "t2", ""), (user, "", ""))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        migrate(opened, [each for each in shipped() if each.version < 13])
        task = (
            "INSERT INTO task (id, agent, begun_by, tenant, purpose, conversation, begun_at, deadline, person)"
            " VALUES (?, 'a', 's', 'retail', 'p', '', 0, 0, ?)"
        )
        opened.executemany(task, [("t1", "ana"), ("t2", "")])
        members = [row for row in opened.execute("PRAGMA table_info(approval)") if row[1] != "number" and row[3]]
        for number, (requirements, of, _) in enumerate(rows):
            known = {"id": f"appr_{number}", "requirements": requirements, "task": of, "state": "pending"}
            values = [known.get(name, 0 if kind == "INTEGER" else "") for _, name, kind, *_ in members]
            columns = ", ".join(name for _, name, *_ in members)
            places = ", ".join("?" * len(values))
            opened.execute(f"INSERT INTO approval ({columns}) VALUES ({places})", values)  # noqa: S608 - names of ours
        migrate(opened, shipped())
        found = [person for (person,) in opened.execute("SELECT person FROM approval ORDER BY number")]
    assert found == [person for *_, person in rows]


def test_what_nobody_decided_is_kept_for_a_day_and_what_people_answered_for_a_week(
    connection: sqlite3.Connection,
) -> None:
    for number, state in enumerate(ApprovalState):
        asked(connection, number, state)

    def left(now: datetime) -> set[str]:
        forget_expired(connection, now)
        return {state for (state,) in connection.execute("SELECT state FROM approval")}

    over = NOW + timedelta(minutes=15)
    assert len(left(over + UNDECIDED_KEPT - timedelta(seconds=1))) == len(ApprovalState)
    assert left(over + UNDECIDED_KEPT) == {"pending", "approved", "denied", "used"}
    assert left(NOW + APPROVALS_KEPT) == {"pending", "approved"}
