"""Tasks as a state machine: whatever happens in whatever order, what lives is what was given in tasks that live.

The model is a list of tasks; the issuer is the real one, with its store on disk, restarted in the middle.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.operations.calls import EndTaskCall
from broker.operations.task_calls import HeartbeatCall
from tests.operations.world import SHARED, SUPPORT
from tests.polling import eventually
from tests.properties.machine import A_WHILE, TIMEOUT, Machine, tell, walk

MISSED: Final = 3
BY_ITSELF: Final = {Reason.TASK_DEADLINE_PASSED, Reason.TASK_HEARTBEAT_MISSED}
RECENT: Final = 6
which = st.integers(0, RECENT - 1)
seconds = st.sampled_from([None, 20, 60, 200])


@dataclass(kw_only=True)
class Held:
    """What must be so of a task."""

    id: str
    deadline: datetime
    heartbeat: timedelta | None
    heard: datetime
    ended: bool = False
    given: list[Credential] = field(default_factory=list)

    def why(self, now: datetime) -> set[Reason]:
        """Return what may be said of it when it is over; nothing while it lives."""
        # Past its deadline nothing of it can live, and the store may have forgotten it.
        late = {Reason.TASK_UNKNOWN} if now >= self.deadline else set()
        if self.ended:
            return {Reason.TASK_ENDED, *late}
        silent = self.heartbeat is not None and now >= self.heard + MISSED * self.heartbeat
        # When both have passed, whoever looked first has recorded the one that it saw.
        passed = {Reason.TASK_DEADLINE_PASSED, *late} if late else set()
        return passed | ({Reason.TASK_HEARTBEAT_MISSED} if silent else set())


class Tasks(Machine):
    """Begin, ask, be heard of, be silent, end, cancel, restart."""

    counts: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[Held] = []
        self.still = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)

    def open(self) -> None:
        super().open()
        self.world.time.still = self.still
        for who in (SUPPORT, SHARED):
            self.world.long_lived(who)

    @initialize()
    def start(self) -> None:
        self.open()
        self.begin(None, 200)

    def chosen(self, number: int) -> Held:
        """Return one of the newest; the last number is the newest."""
        return self.tasks[max(-RECENT + number, -len(self.tasks))]

    def is_over(self, task: Held, told: Reason | None) -> bool:
        """Hold an answer against the model; return whether the task is over."""
        why = task.why(self.world.time())
        assert told in why if why else told is None, (told, why)
        self.counts["over by itself"] += bool(why & BY_ITSELF)
        return bool(why)

    @precondition(lambda self: sum(not each.why(self.world.time()) for each in self.tasks) < 4)
    @rule(heartbeat=seconds, lifetime=st.sampled_from([40, 200, 900]))
    def begin(self, heartbeat: int | None, lifetime: int) -> None:
        every = None if heartbeat is None else timedelta(seconds=heartbeat)
        task = self.run(self.world.begin(heartbeat=every, lifetime=timedelta(seconds=lifetime)))
        assert task.deadline == self.world.time() + timedelta(seconds=lifetime)
        self.tasks.append(Held(id=task.id, deadline=task.deadline, heartbeat=every, heard=self.world.time()))
        self.counts["begun"] += 1

    @rule(numbers=st.lists(which, min_size=1, max_size=4))
    def ask(self, numbers: list[int]) -> None:
        """Ask in several tasks at once."""
        tasks = [self.chosen(number) for number in numbers]
        calls = [self.world.call(task=task.id) for task in tasks]
        for task, answer in zip(tasks, self.run(self.world.issuer.exchange(calls)), strict=True):
            if not self.is_over(task, answer.reason if isinstance(answer, Refusal) else None):
                assert isinstance(answer, Credential)
                assert answer.grant.expires_at <= task.deadline
                task.given.append(answer)
                self.counts["given"] += 1

    @rule(number=which)
    def be_heard_of(self, number: int) -> None:
        task = self.chosen(number)
        call = HeartbeatCall(context=self.world.context(SUPPORT), task=task.id)
        if not self.is_over(task, self.told(self.world.issuer.heartbeat_task(call))):
            task.heard = self.world.time()

    @rule(number=which, cancelled=st.booleans())
    def end(self, number: int, cancelled: bool) -> None:
        task = self.chosen(number)
        call = EndTaskCall(context=self.world.context(SUPPORT), task=task.id, cancelled=cancelled, text="a walk")
        if not self.is_over(task, self.told(self.world.issuer.end_task(call))):
            task.ended = True
            self.counts["ended"] += 1

    @rule(number=which)
    def somebody_else_tries(self, number: int) -> None:
        name = self.chosen(number).id
        tries: list[Any] = [
            self.world.end(name, SHARED),
            self.world.issuer.heartbeat_task(HeartbeatCall(context=self.world.context(SHARED), task=name)),
        ]
        assert {self.told(each) for each in tries} == {Reason.TASK_UNKNOWN}

    @rule(seconds=st.sampled_from([15, 50]))
    def time_goes_by(self, seconds: int) -> None:
        self.world.time.ahead += timedelta(seconds=seconds)

    @rule(beats=st.integers(2, 4))
    def is_worked_on(self, beats: int) -> None:
        """A task is begun and heard of as it should be, while time passes for all; at the end it asks."""
        self.begin(20, 900)
        for _ in range(beats):
            self.world.time.ahead += timedelta(seconds=40)
            self.be_heard_of(RECENT - 1)
        self.ask([RECENT - 1])

    @precondition(lambda self: any(BY_ITSELF & each.why(self.world.time()) for each in self.tasks[-RECENT:]))
    @rule()
    def what_is_over_by_itself_is_ended(self) -> None:
        now = self.world.time()
        due = {
            each.grant.credential_id
            for task in self.tasks[-RECENT:]
            if task.why(now)
            for each in task.given
            if each.grant.expires_at > now
        }

        async def all_dead() -> bool:
            return due <= await self.dead()

        self.run(eventually(all_dead))

    @precondition(lambda self: self.since_start > A_WHILE)
    @rule()
    def restart(self) -> None:
        self.reopen()

    async def dead(self) -> set[str]:
        page = await self.world.revocations(SUPPORT)
        assert page.snapshot is not None
        return set(page.snapshot.credential_ids)

    @invariant()
    def what_lives_was_given_in_tasks_that_live(self) -> None:
        dead, now = self.run(self.dead()), self.world.time()
        for task in self.tasks:
            names = {each.grant.credential_id for each in task.given if each.grant.expires_at > now}
            if task.ended:
                assert names <= dead, "ended, and yet it lives"
            elif not task.why(now):
                assert not names & dead, "ended with a task that is not its own"


@pytest.mark.timeout(TIMEOUT)
def test_what_lives_was_given_in_tasks_that_live() -> None:
    walk(Tasks, walks=12, length=40, usual=36)
    tell("tasks", Tasks.counts, "begun", "ended", "over by itself", "given")
    assert Tasks.counts["over by itself"]
    assert Tasks.counts["given"] > Tasks.counts["steps"] / 20
