"""Held requests as a state machine: whatever is done in whatever order, nothing is given that people did not approve.

The model is a list of requests; the issuer is the real one, with its store on disk, restarted in the middle.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from broker.approval import ApprovalState
from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from tests.operations.approving import GROUP, bundle, payout
from tests.operations.limiting import move, write
from tests.operations.world import DEPUTY, LEAD, SECURITY, SUPPORT
from tests.properties.machine import A_WHILE, TIMEOUT, Machine, tell, walk

ACCOUNTS: Final = ("A", "B")
# None of them is a multiple of the step, so that no moment is a question of microseconds.
STEP: Final = 4
PENDING, GOOD, BYPASS = 15, 5, 10
HELD = GROUP | {"quorum": 2, "pending_for": f"PT{PENDING}M", "good_for": f"PT{GOOD}M", "bypass": f"PT{BYPASS}M"}
OPEN = ("pending", "approved")


@dataclass
class Request:
    """What must be so of one request."""

    id: str
    task: str
    account: str
    asked: int
    state: str = "pending"
    yes: dict[str, bool] = field(default_factory=dict)
    decided: int = 0
    bypass: int | None = None
    given: int = 0
    ended_late: str = ""

    def at(self, now: int) -> str:
        """Where it stands."""
        late = {"pending": self.asked + PENDING, "approved": self.decided + GOOD}
        return "expired" if self.state in late and now > late[self.state] else self.state

    def bypasses(self, now: int) -> bool:
        return self.bypass is not None and now < self.bypass

    def end(self, state: str, now: int) -> None:
        if self.at(now) in OPEN:
            self.state = state
        elif self.state in OPEN:
            self.ended_late = state
        self.bypass = None

    def settle(self, found: ApprovalState) -> None:
        """Of what was late already when it was ended, whoever looked first has written what it saw."""
        if self.ended_late and found is ApprovalState(self.ended_late):
            self.state = self.ended_late
        self.ended_late = ""


class Approvals(Machine):
    """Ask, answer, use, take back, end, revoke, restart, and let time pass."""

    counts: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.tasks: dict[str, bool] = {}
        self.now = 0

    @initialize()
    def start(self) -> None:
        write(self.folder, bundle(HELD))
        self.open()
        self.begin()

    def task(self, number: int) -> str:
        return list(self.tasks)[number % len(self.tasks)]

    def intent(self, task: str, account: str) -> dict[str, Any]:
        return self.run(payout(self.world, task=task, parameters={"account": account}))

    @precondition(lambda self: len(self.tasks) < 3)
    @rule()
    def begin(self) -> None:
        task = self.run(self.world.begin(lifetime=timedelta(hours=8))).id
        self.tasks[task] = True

    @rule(number=st.integers(0, 2))
    def end(self, number: int) -> None:
        task = self.task(number)
        told = self.told(self.world.end(task))
        assert told is (None if self.tasks[task] else Reason.TASK_ENDED)
        self.tasks[task] = False
        for each in self.requests:
            if each.task == task and told is None:
                each.end("withdrawn", self.now)

    @rule(number=st.integers(0, 2), account=st.sampled_from(ACCOUNTS), times=st.integers(1, 3))
    def ask(self, number: int, account: str, times: int) -> None:
        """Ask without an approval, several at once: a bypass lets it pass, or all wait for one and the same."""
        task = self.task(number)
        calls = [self.world.call(**self.intent(task, account)) for _ in range(times)]
        answers = self.run(self.world.issuer.exchange(calls))
        if not self.tasks[task]:
            assert {answer.reason for answer in answers if isinstance(answer, Refusal)} == {Reason.TASK_ENDED}
            return
        same = [each for each in reversed(self.requests) if (each.task, each.account) == (task, account)]
        if any(each.state == "denied" for each in same):
            assert {answer.reason for answer in answers if isinstance(answer, Refusal)} == {Reason.APPROVAL_DENIED}
            return
        if any(each.bypasses(self.now) for each in self.requests if each.task == task):
            assert all(isinstance(answer, Credential) for answer in answers)
            return
        telling = next((each for each in same if each.at(self.now) in OPEN), None)
        held = {answer.held.approval for answer in answers if isinstance(answer, Refusal) and answer.held}
        assert len(held) == 1, answers
        if telling is not None:
            assert held == {telling.id}
        else:
            (name,) = held
            assert name not in {each.id for each in self.requests}
            self.requests.append(Request(id=name, task=task, account=account, asked=self.now))
            self.counts["held"] += 1

    @precondition(lambda self: bool(self.requests))
    @rule(number=st.integers(0, 9), account=st.sampled_from(ACCOUNTS), times=st.integers(1, 4), other=st.booleans())
    def use(self, number: int, account: str, times: int, other: bool) -> None:
        """Use one, several at once; for what it is for, or for something else."""
        request = self.requests[number % len(self.requests)]
        asked = account if other else request.account
        calls = [self.world.call(**self.intent(request.task, asked), approval=request.id) for _ in range(times)]
        answers = self.run(self.world.issuer.exchange(calls))
        given = [answer for answer in answers if isinstance(answer, Credential)]
        reasons = {answer.reason for answer in answers if isinstance(answer, Refusal)}
        if not self.tasks[request.task]:
            assert (given, reasons) == ([], {Reason.TASK_ENDED})
        elif asked != request.account:
            assert (given, reasons) == ([], {Reason.APPROVAL_MISMATCH})
        elif request.at(self.now) == "approved":
            assert len(given) == 1
            assert reasons <= {Reason.APPROVAL_USED}
            assert len(request.yes) == 2, "as many as policy wants have said yes"
            request.state, request.given = "used", request.given + 1
            self.counts["given"] += 1
        else:
            assert (given, reasons) == ([], {Reason[f"APPROVAL_{request.at(self.now).upper()}"]})

    @precondition(lambda self: bool(self.requests))
    @rule(number=st.integers(0, 9), who=st.sampled_from([LEAD, DEPUTY]), bypass=st.booleans())
    def approve(self, number: int, who: str, bypass: bool) -> None:
        request = self.requests[number % len(self.requests)]
        state = request.at(self.now)
        told = self.told(self.world.approve(request.id, who, bypass=timedelta(minutes=BYPASS) if bypass else None))
        if state in OPEN and who in request.yes:
            assert told is None
        elif state != "pending":
            assert told is Reason[f"APPROVAL_{'USED' if state == 'approved' else state.upper()}"]
        else:
            assert told is None
            request.yes[who] = bypass
            if len(request.yes) == 2:
                request.state, request.decided = "approved", self.now
                request.bypass = self.now + BYPASS if all(request.yes.values()) else None

    @rule(
        number=st.integers(0, 2),
        account=st.sampled_from(ACCOUNTS),
        bypass=st.sampled_from([False, False, True]),
        times=st.integers(1, 4),
    )
    def ask_approve_and_use(self, number: int, account: str, bypass: bool, times: int) -> None:
        """What people mostly do; by single steps alone a walk hardly ever gets there."""
        self.ask(number, account, 1)
        if self.requests:
            newest = len(self.requests) - 1
            self.approve(newest, LEAD, bypass)
            self.approve(newest, DEPUTY, bypass)
            self.use(newest, account, times, other=False)

    ask_too = ask

    @precondition(lambda self: bool(self.requests))
    @rule(number=st.integers(0, 9), withdraw=st.booleans())
    def take_back(self, number: int, withdraw: bool) -> None:
        request = self.requests[number % len(self.requests)]
        state = request.at(self.now)
        told = self.told(self.world.withdraw(request.id) if withdraw else self.world.deny(request.id))
        if state in OPEN or request.bypasses(self.now):
            assert told is None
            request.end("withdrawn" if withdraw else "denied", self.now)
        else:
            assert told is Reason[f"APPROVAL_{state.upper()}"]

    @rule()
    def revoke_and_lift(self) -> None:
        revoked = self.run(self.world.revoke("agent", SUPPORT))
        self.run(self.world.lift(revoked.revocation))
        for each in self.requests:
            each.end("withdrawn", self.now)

    @rule()
    def wait(self) -> None:
        self.now += STEP
        move(self.world, self.world.time() + timedelta(minutes=STEP))
        for who in (LEAD, DEPUTY, SECURITY):
            self.world.renew(who)

    @precondition(lambda self: self.since_start > A_WHILE)
    @rule()
    def restart(self) -> None:
        self.reopen()

    @invariant()
    def each_is_given_once_at_most_and_stands_where_it_should(self) -> None:
        for each in self.requests:
            assert each.given <= 1
            shown = self.run(self.world.approval(each.id, SUPPORT))
            each.settle(shown.state)
            assert shown.state is ApprovalState(each.at(self.now)), each
            bypassing = shown.bypass_until is not None and shown.bypass_until > self.world.time()
            assert bypassing is each.bypasses(self.now)


@pytest.mark.timeout(TIMEOUT)
def test_nothing_is_given_that_people_did_not_approve() -> None:
    walk(Approvals, walks=12, length=40, usual=36)
    tell("approvals", Approvals.counts, "held", "given")
    assert Approvals.counts["given"] > Approvals.counts["steps"] / 100
