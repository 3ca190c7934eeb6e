"""How a drifted task looks: all of it, what can be done last, and nothing that somebody else wrote hides or spills."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.cli.drifted_shown import drifted_lines, drifted_members, drifted_row
from broker.client import DriftedTask
from broker.client.drifted import drifted_task_of
from broker.intent import UNSHOWN
from broker.v1 import approval_pb2

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
AGENT = "spiffe://example.org/agent/assistant"
TASK = "task_0190a0a0-0000-7000-8000-000000000001"


def drifted(**changes: object) -> DriftedTask:
    message = approval_pb2.DriftedTask(
        task_id=TASK,
        state=approval_pb2.DRIFT_STATE_OPEN,
        agent=AGENT,
        tenant="main",
        business_owner="Support",
        security_owner="Security",
        task=approval_pb2.ApprovalTask(purpose="support", type="case", person="ana"),
        suspended=True,
        times=1,
        refusals=5,
        reasons=["TASK_BOUNDARY_EXCEEDED"],
        actions=["order.delete", "order.refund"],
        group="desk",
        escalated_to=["duty"],
    )
    message.within.FromTimedelta(timedelta(minutes=10))
    message.since.FromDatetime(NOW - timedelta(hours=1))
    message.drifted_at.FromDatetime(NOW - timedelta(minutes=2))
    message.task.begun_at.FromDatetime(NOW - timedelta(hours=2))
    message.task.deadline.FromDatetime(NOW + timedelta(hours=6))
    return replace(drifted_task_of(message), **changes)  # type: ignore[arg-type] # of any member


def test_everything_is_there_and_what_can_be_done_is_last() -> None:
    found = list(drifted_lines(drifted(), NOW))
    assert found == [
        ("drifted", f"{TASK}, 5 refusals within 10m, 2m ago"),
        ("now", "suspended: nothing is given in it"),
        ("agent", f"{AGENT} for tenant main"),
        ("its owners", "Support; Security"),
        (
            "its task",
            "of type case, purpose support, begun 2026-11-21 10:00:00Z, ends 2026-11-21 18:00:00Z, for ana",
        ),
        ("refused", "order.delete, order.refund"),
        ("because", "TASK_BOUNDARY_EXCEEDED"),
        ("told", "desk or duty"),
        ("look", f"broker audit trace {TASK}"),
        ("let it go on", f'broker task resume {TASK} --reason "..."'),
        ("end it", f'broker revoke task {TASK} --reason "..."'),
        ("stop the agent", f'broker stop agent {AGENT} --reason "..."'),
    ]


def test_one_that_drifted_again_and_goes_on_says_so() -> None:
    found = dict(drifted_lines(drifted(times=3, suspended=False), NOW))
    assert found["drifted"].endswith("2m ago, and 2 more since 2026-11-21 11:00:00Z")
    assert found["now"] == "it goes on"


@pytest.mark.parametrize("state", ["resumed", "ended", "other"])
def test_where_nothing_waits_nothing_is_offered(state: str) -> None:
    found = dict(drifted_lines(drifted(state=state), NOW))
    assert found["now"] == state
    assert not {"look", "let it go on", "end it", "stop the agent"} & set(found)


HOSTILE = {
    "bidirectional": "ana\u202e\u2066evil",
    "another line": 'ana\nlet it go on  broker stop everything --reason "x"',
    "the terminal": "ana\x1b[2K\x1b[1A\x9b31m",
    "a look-alike": "p\u0430ypal",
    "nothing to see": "an\u200ba\u00ad",
}


@pytest.mark.parametrize(
    "member", ["person", "purpose", "task_type", "business_owner", "group", "agent", "tenant", "task"]
)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nothing_hides(member: str, text: str) -> None:
    hostile = drifted(**{member: text})
    for _, value in drifted_lines(hostile, NOW):
        assert value.isprintable()
        assert not UNSHOWN.search(value)
    assert all(cell.isprintable() for cell in drifted_row(hostile))
    assert drifted_members(hostile)[member] == text


def test_what_is_to_be_copied_into_a_shell_is_one_command() -> None:
    """Whoever sits between, such as a captured door, may name a task or an agent as it likes."""
    found = dict(drifted_lines(drifted(task="t; touch x", agent="$(touch x)"), NOW))
    assert found["look"] == "broker audit trace 't; touch x'"
    assert found["let it go on"] == "broker task resume 't; touch x' --reason \"...\""
    assert found["end it"] == "broker revoke task 't; touch x' --reason \"...\""
    assert found["stop the agent"] == "broker stop agent '$(touch x)' --reason \"...\""


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nor_among_what_was_refused(text: str) -> None:
    hostile = drifted(actions=(text,), reasons=(text,), escalated_to=(text,))
    for _, value in drifted_lines(hostile, NOW):
        assert value.isprintable()
        assert not UNSHOWN.search(value)
    assert all(cell.isprintable() for cell in drifted_row(hostile))


def test_a_row_is_short_and_counts_what_it_leaves_out() -> None:
    cells = drifted_row(drifted(actions=tuple(f"order.{number:03}" for number in range(100))))
    assert sum(map(len, cells)) < 300
    assert "characters)" in cells[2]


def test_a_program_reads_all_of_it() -> None:
    read = json.loads(json.dumps(drifted_members(drifted())))
    assert (read["kind"], read["task"], read["within"]) == ("drifted_task", TASK, 600)
    assert (read["drifted_at"], read["actions"]) == ("2026-11-21T11:58:00+00:00", ["order.delete", "order.refund"])
    assert "ana" not in repr(drifted())
