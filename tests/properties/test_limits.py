"""Limits, duties and sequences as a state machine: whatever is done in whatever order, a plain model agrees."""

from collections import Counter
from datetime import timedelta
from itertools import count
from typing import Any, ClassVar, Final

import pytest
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.intent import Json
from broker.operations.calls import ExchangeAnswer
from tests.operations.limiting import bundle, give_back, midnight, move, refund, write
from tests.properties.machine import A_WHILE, TIMEOUT, Machine, tell, walk

LIMITS: Final[tuple[dict[str, Json], ...]] = (
    {"per": "task", "max": 4},
    {"per": "task", "max": 40, "sum": "amount"},
    {"per": "conversation", "max": 60, "sum": "amount"},
    {"per": "agent", "max": 14},
    {"per": "day", "max": 90, "sum": "amount"},
)
ENTRIES: Final = """
[[separate_duties]]
name = "refund-or-cancel"
actions = ["order.refund", "order.cancel"]

[[sequence]]
name = "in-a-task"
actions = ["order.read", "customer.read", "order.refund"]
within = "task"
then = "refuse"

[[sequence]]
name = "in-a-conversation"
actions = ["customer.read", "order.refund", "order.cancel"]
within = "conversation"
then = "refuse"
"""
ACTIONS: Final[dict[str, dict[str, Any]]] = {
    "order.read": {},
    "order.cancel": {"action": "order.cancel"},
    "customer.read": {"action": "customer.read", "resource": "customer/7"},
}
ACT = st.one_of(
    st.sampled_from([("order.read", 0), ("customer.read", 0), ("order.cancel", 0)]),
    st.tuples(st.just("order.refund"), st.integers(min_value=1, max_value=45)),
)
Key = tuple[int, str]


class Model:
    """What limits, duties and sequences mean, in the plainest way: by looking through all that was ever granted."""

    def __init__(self) -> None:
        self.totals: Counter[Key] = Counter()
        self.charged: dict[str, dict[Key, int]] = {}
        self.words: dict[str, list[str]] = {}
        self.talks: dict[str, str] = {}
        self.day = 0

    def begin(self, task: str, conversation: str) -> None:
        self.talks[task] = f"talk {conversation}" if conversation else task

    def charges(self, task: str, action: str, amount: int) -> dict[Key, int]:
        if action != "order.refund":
            return {}
        subjects = {"task": task, "conversation": self.talks[task], "agent": "", "day": f"{self.day}"}
        return {
            (place, subjects[str(limit["per"])]): amount if "sum" in limit else 1 for place, limit in enumerate(LIMITS)
        }

    def refuses(self, task: str, action: str, amount: int) -> set[Reason]:
        """Return every reason that speaks against it."""
        found = set()
        for key, more in self.charges(task, action, amount).items():
            if self.totals[key] + more > int(str(LIMITS[key[0]]["max"])):
                found.add(Reason.LIMIT_REACHED)
        others = {"order.refund": "order.cancel", "order.cancel": "order.refund"}
        if others.get(action) in self.words.get(task, []):
            found.add(Reason.DUTY_SEPARATED)
        whole = (
            (self.words.get(task, []), ["order.read", "customer.read", "order.refund"]),
            (self.words.get(self.talks[task], []), ["customer.read", "order.refund", "order.cancel"]),
        )
        for word, sequence in whole:
            rest = iter(word)
            if action == sequence[-1] and all(each in rest for each in sequence[:-1]):
                found.add(Reason.SEQUENCE_REFUSED)
        return found

    def grant(self, credential: str, task: str, action: str, amount: int) -> None:
        self.charged[credential] = self.charges(task, action, amount)
        self.totals.update(self.charged[credential])
        for subject in {task, self.talks[task]}:
            self.words.setdefault(subject, []).append(action)

    def give_back(self, credential: str) -> None:
        self.totals.subtract(self.charged.pop(credential, {}))


class Limits(Machine):
    """Drives an issuer and the model alike."""

    counts: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.tasks: list[str] = []
        self.granted: list[Credential] = []
        self.given_back: set[str] = set()
        self.numbers = count()
        self.requests: dict[str, tuple[dict[str, Any], Credential]] = {}

    @initialize()
    def start(self) -> None:
        write(self.folder, bundle(*LIMITS, entries=ENTRIES))
        self.open()
        self.begin("")

    @precondition(lambda self: len(self.tasks) < 5)
    @rule(conversation=st.sampled_from(["", "c1", "c1", "c2"]))
    def begin(self, conversation: str) -> None:
        task = self.run(self.world.begin(conversation=conversation, lifetime=timedelta(hours=8))).id
        self.tasks.append(task)
        self.model.begin(task, conversation)

    @rule(acts=st.lists(st.tuples(st.integers(0, 4), ACT), min_size=1, max_size=8))
    def exchange(self, acts: list[tuple[int, tuple[str, int]]]) -> None:
        """One group: each meets what the ones before it were granted."""
        chosen = [(self.tasks[which % len(self.tasks)], *act) for which, act in acts]
        names = [f"r{next(self.numbers)}" for _ in chosen]
        wanted = [
            refund(task, amount) if action == "order.refund" else ACTIONS[action] | {"task": task}
            for task, action, amount in chosen
        ]
        calls = [self.world.call(**each, request_id=name) for each, name in zip(wanted, names, strict=True)]
        answers = self.run(self.world.issuer.exchange(calls))
        for (task, action, amount), changes, name, answer in zip(chosen, wanted, names, answers, strict=True):
            self.check(answer, self.model.refuses(task, action, amount))
            if isinstance(answer, Credential):
                self.model.grant(answer.grant.credential_id, task, action, amount)
                self.granted.append(answer)
                self.counts["given"] += 1
                self.requests[name] = (changes, answer)

    def check(self, answer: ExchangeAnswer, refused_for: set[Reason]) -> None:
        if isinstance(answer, Refusal):
            assert answer.reason in refused_for, (answer, refused_for)
        else:
            assert not refused_for, refused_for

    @precondition(lambda self: self.granted)
    @rule(which=st.integers(0, 200), times=st.integers(1, 3))
    def an_outcome_says_that_nothing_happened(self, which: int, times: int) -> None:
        credential = self.granted[which % len(self.granted)]
        self.run(give_back(self.world, *[credential] * times))
        self.model.give_back(credential.grant.credential_id)
        self.given_back.add(credential.grant.credential_id)
        self.counts["given back"] += 1

    @precondition(lambda self: self.requests)
    @rule(which=st.integers(0, 200))
    def a_lost_reply_is_asked_again(self, which: int) -> None:
        name = sorted(self.requests)[which % len(self.requests)]
        changes, credential = self.requests[name]
        answer = self.run(self.world.exchange(**changes, request_id=name))
        if credential.grant.credential_id in self.given_back:
            assert isinstance(answer, Refusal)
            assert answer.reason is Reason.CREDENTIAL_REVOKED
        else:
            assert isinstance(answer, Credential)
            assert answer.grant.credential_id == credential.grant.credential_id

    @rule(which=st.integers(0, 4))
    def policy_refuses(self, which: int) -> None:
        refused = self.run(self.world.refused(**refund(self.tasks[which % len(self.tasks)], 45, purpose="curiosity")))
        assert refused.reason is Reason.PURPOSE_REFUSED

    @precondition(lambda self: self.since_start > A_WHILE)
    @rule()
    def the_process_starts_again(self) -> None:
        now = self.world.time()
        self.run(self.stack.aclose())
        self.open()
        move(self.world, now)
        self.requests.clear()  # bound to the SVID that asked

    @precondition(lambda self: self.model.day < 2)
    @rule()
    def a_day_passes(self) -> None:
        assume(self.model.totals)
        move(self.world, midnight(self.world) + timedelta(seconds=1))
        self.requests.clear()
        self.tasks.clear()
        self.model.day += 1
        self.begin("c1")

    @invariant()
    def nothing_is_beyond_its_limit(self) -> None:
        assert all(0 <= total <= int(str(LIMITS[place]["max"])) for (place, _), total in self.model.totals.items())


@pytest.mark.timeout(TIMEOUT)
def test_a_plain_model_agrees_whatever_is_done_in_whatever_order() -> None:
    walk(Limits, walks=10, length=40, usual=36)
    tell("limits", Limits.counts, "given", "given back")
    assert Limits.counts["given"] > Limits.counts["steps"] / 8
