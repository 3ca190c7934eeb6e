"""What every store does with reports and with tasks that drift."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from broker.errors import Reason
from broker.outcome import Report, ReportKind
from broker.store.interface import Committed, Item, Rejected, Store, TaskAlive
from broker.store.outcome_items import (
    AddReport,
    CountDrift,
    ForgetDrift,
    OutcomeFits,
    Reportable,
    ReportUnused,
    ResumeTask,
    StoredReport,
    SuspendTask,
    TaskSuspended,
)
from broker.store.sqlite import outcomes
from tests.contract.store_builders import AGENT, LATER, NOW, ORDERS, beginning, ended, entry, grant, granting, task
from tests.contract.test_store import sqlite_file, sqlite_memory

NAME = "cred_a"
USE = "00000000-0000-4000-8000-000000000001"
WEEK = timedelta(days=7)


@pytest.fixture(params=[sqlite_file, sqlite_memory], ids=["sqlite-file", "sqlite-memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = request.param(tmp_path)
    opened.commit([granting(grant("a", expires_at=LATER))])
    yield opened
    opened.close()


def said(kind: str = "accepted", number: int = 1, credential: str = NAME) -> Report:
    kind_of = ReportKind(kind)
    return Report(
        id=f"00000000-0000-4000-8000-{number:012}",
        kind=kind_of,
        at=NOW,
        credential=credential,
        use=USE if kind_of.is_outcome else "",
    )


def adding(report: Report, service: str = ORDERS) -> Item:
    fits = OutcomeFits(service=service, credential=report.credential, use=report.use, kind=report.kind)
    return Item(
        guards=(ReportUnused(service=service, report=report.id), *((fits,) if report.kind.is_outcome else ())),
        writes=(AddReport(service=service, report=report, at=NOW),),
        accepted=lambda _: entry(report.id),
    )


def reason(store: Store, item: Item) -> Reason | None:
    (answer,) = store.commit([item])
    return answer.reason if isinstance(answer, Rejected) else None


def test_a_report_is_remembered_by_service_and_id(store: Store) -> None:
    (first,) = store.commit([adding(said())])
    assert isinstance(first, Committed)
    assert first.position is not None
    found = store.report(ORDERS, said().id)
    assert found == StoredReport(position=first.position, digest=said().digest())
    assert store.report(AGENT, said().id) is None
    assert reason(store, adding(said())) is Reason.REPORT_ID_REUSED
    assert reason(store, adding(said(), service=AGENT)) is None, "ids are each service's own"


def test_an_outcome_is_of_a_use_that_the_same_service_reported_of_that_credential(store: Store) -> None:
    assert reason(store, adding(said("done", 2))) is Reason.USE_UNKNOWN
    store.commit([adding(said())])
    assert reason(store, adding(said("done", 2), service=AGENT)) is Reason.USE_UNKNOWN
    assert reason(store, adding(said("done", 2, "cred_b"))) is Reason.USE_UNKNOWN
    assert reason(store, adding(said("done", 2))) is None
    assert reason(store, adding(said("failed", 3))) is Reason.OUTCOME_CONTRADICTED


def test_within_one_group_they_count_one_after_another(store: Store) -> None:
    group = [adding(said()), adding(said("unknown", 2)), adding(said("done", 3)), adding(said("done", 4))]
    answers = [each.reason if isinstance(each, Rejected) else None for each in store.commit(group)]
    assert answers == [None, None, None, Reason.OUTCOME_CONTRADICTED]


def test_a_credential_is_remembered_a_week_and_its_reports_with_it(store: Store) -> None:
    store.commit([adding(said())])
    live = store.reportable(NAME)
    assert live == Reportable(
        credential_id=NAME, audience=ORDERS, agent=AGENT, tenant="emea", task="", transaction_id="txn_a",
        expires_at=LATER,
    )  # fmt: skip
    assert store.forget_expired(LATER) == 1
    assert store.reportable(NAME) == live
    store.forget_expired(LATER + WEEK - timedelta(microseconds=1))
    assert store.reportable(NAME) == live
    assert store.report(ORDERS, said().id) is not None
    store.forget_expired(LATER + WEEK)
    assert store.reportable(NAME) is None
    assert store.report(ORDERS, said().id) is None


def test_of_expired_credentials_only_so_many_are_remembered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "MOST", 2)
    names = [f"b{number}" for number in range(4)]
    store.commit(
        [granting(grant(name, index=at + 1, expires_at=LATER + timedelta(seconds=at))) for at, name in enumerate(names)]
    )
    store.commit([adding(said(number=9, credential="cred_b0"))])
    store.forget_expired(LATER + timedelta(minutes=1))
    assert [store.reportable(f"cred_{name}") is not None for name in names] == [False, False, True, True]
    assert store.report(ORDERS, said(number=9).id) is None


def test_a_report_of_what_is_lost_is_of_no_credential_and_is_remembered_a_week(store: Store) -> None:
    lost = Report(id=USE, kind=ReportKind.DROPPED, at=NOW, count=3)
    store.commit([Item(writes=(AddReport(service=ORDERS, report=lost, at=NOW),), accepted=lambda _: entry("lost"))])
    store.forget_expired(NOW + WEEK - timedelta(microseconds=1))
    assert store.report(ORDERS, USE) is not None
    store.forget_expired(NOW + WEEK)
    assert store.report(ORDERS, USE) is None


def test_refusals_are_counted_by_task_and_only_the_last_are_kept(store: Store) -> None:
    for second, name in enumerate("aababa"):
        at, reason = NOW + timedelta(seconds=second), "DUTY_SEPARATED"
        counted = CountDrift(task=f"task_{name}", at=at, reason=reason, action=f"order.{name}", keep=3)
        store.commit([Item(writes=(counted,))])
    assert [each.at.second for each in store.drift("task_a")] == [1, 3, 5]
    assert [(each.at.second, each.action) for each in store.drift("task_b")] == [(2, "order.b"), (4, "order.b")]
    store.commit([Item(writes=(ForgetDrift(task="task_a"),))])
    assert (len(store.drift("task_a")), len(store.drift("task_b"))) == (0, 2)
    store.forget_expired(NOW)
    assert not store.drift("task_b"), "there is no such task"


def test_a_suspended_task_gives_nothing_until_it_is_resumed(store: Store) -> None:
    store.commit([beginning(task("a")), granting(grant("t", task="task_a", index=7))])
    (answer,) = store.commit([Item(writes=(SuspendTask(task="task_a", at=NOW),), accepted=ended)])
    assert isinstance(answer, Committed)
    revoked = [each.credential_id for each in store.revoked_now(NOW, agent=AGENT)[1]]
    assert revoked == ["cred_t"], "the other one is of no task"
    found = store.task("task_a")
    assert found is not None
    assert found.suspended_at == NOW
    alive = TaskAlive(task="task_a", agent=AGENT, now=NOW)
    assert reason(store, Item(guards=(alive,))) is Reason.TASK_SUSPENDED
    assert reason(store, granting(grant("u", task="task_a", index=8))) is Reason.TASK_SUSPENDED
    heard = TaskAlive(task="task_a", agent=AGENT, now=NOW, even_suspended=True)
    assert reason(store, Item(guards=(heard,))) is None
    suspended = TaskSuspended(task="task_a", now=NOW)
    assert reason(store, Item(guards=(suspended,), writes=(ResumeTask(task="task_a"),))) is None
    assert reason(store, Item(guards=(alive,))) is None
    assert reason(store, Item(guards=(suspended,))) is Reason.TASK_NOT_SUSPENDED
    assert len(store.revoked_now(NOW, agent=AGENT)[1]) == 1, "what ended stays ended"


def test_what_cannot_be_resumed(store: Store) -> None:
    store.commit([beginning(task("a")), Item(writes=(SuspendTask(task="task_a", at=NOW),), accepted=ended)])
    assert reason(store, Item(guards=(TaskSuspended(task="task_a", now=LATER),))) is Reason.TASK_DEADLINE_PASSED
    assert reason(store, Item(guards=(TaskSuspended(task="task_no", now=NOW),))) is Reason.TASK_UNKNOWN
