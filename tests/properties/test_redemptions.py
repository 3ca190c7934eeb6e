"""Redemption as a state machine: whatever happens in whatever order, a credential is spent by one attempt at most.

The model is a handful of sets; the issuer is the real one, with its store on disk, restarted in the middle.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, initialize, invariant, multiple, precondition, rule

from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.operations.redeem_calls import RedeemAnswer, Redeemed
from tests.operations.test_exchange import shown
from tests.operations.test_redeem import ANOTHER, CHAT, together
from tests.operations.world import ORDERS, REFUND, SUPPORT
from tests.properties.machine import A_WHILE, TIMEOUT, Machine, tell, walk

KEYS = ("key-of-attempt-one", "key-of-attempt-two")


@dataclass
class Model:
    """What must be so."""

    spent: dict[str, tuple[str, Redeemed]] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    stopped: str = ""


class Redemptions(Machine):
    """Give, redeem, retry, revoke, end, stop, lift, restart, let time pass."""

    credentials: Bundle[Credential] = Bundle("credentials")
    tasks: Bundle[str] = Bundle("tasks")

    counts: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.open()

    def expected(self, credential: Credential, key: str, who: str, digest: str) -> Reason | None:
        """Return why an attempt at what is not over is refused; None when it is not."""
        name, right = credential.grant.credential_id, credential.grant.scope.only_call("retail")
        first = self.model.spent.get(name)
        refused = (
            (who != ORDERS, Reason.CREDENTIAL_UNKNOWN),
            (first is None and digest != right, Reason.TOKEN_SCOPE_EXCEEDED),
            (bool(self.model.stopped), Reason.OVERRIDE_IN_FORCE),
            (name in self.model.dead, Reason.CREDENTIAL_REVOKED),
            (first is not None and (first[0], right) != (key, digest), Reason.CREDENTIAL_SPENT),
        )
        return next((reason for holds, reason in refused if holds), None)

    # --- rules -----------------------------------------------------------------------------------------------------

    @initialize(target=tasks)
    def begin(self) -> Any:
        return self.run(self.world.begin(lifetime=timedelta(hours=4))).id

    @rule(target=tasks)
    def begin_another(self) -> Any:
        return multiple() if self.model.stopped else self.run(self.world.begin(lifetime=timedelta(hours=4))).id

    @rule(target=credentials, task=tasks)
    def give(self, task: str) -> Any:
        answer = self.run(self.world.exchange(**REFUND, task=task))
        return answer if isinstance(answer, Credential) else multiple()

    @rule(
        credential=credentials,
        key=st.sampled_from(KEYS),
        who=st.sampled_from([ORDERS, ORDERS, ORDERS, CHAT]),
        wrong=st.sampled_from([False, False, False, True]),
    )
    def redeem(self, credential: Credential, key: str, who: str, wrong: bool) -> None:
        digest = ANOTHER if wrong else credential.grant.scope.only_call("retail") or ""
        expected = self.expected(credential, key, who, digest)
        (answer,) = self.run(together(self.world, self.world.spending(credential, who, key=key, call_digest=digest)))
        self.learn(credential, key, answer, expected)

    redeem_too = redeem

    @rule(target=credentials, key=st.sampled_from(KEYS))
    def give_and_redeem(self, key: str) -> Any:
        """What agents mostly do; by single steps alone most credentials are over before they are used."""
        self.let_go_on()
        answer = self.give(self.begin_another())
        if isinstance(answer, Credential):
            self.redeem(answer, key, ORDERS, wrong=False)
        return answer

    @rule(credential=credentials, count=st.integers(2, 6))
    def race(self, credential: Credential, count: int) -> None:
        """Several attempts at once: the first in line is as if it had come alone, the others as if after it."""
        digest = credential.grant.scope.only_call("retail") or ""
        keys = [KEYS[number % 2] for number in range(count)]
        calls = [self.world.spending(credential, key=key) for key in keys]
        for key, answer in zip(keys, self.run(together(self.world, *calls)), strict=True):
            self.learn(credential, key, answer, self.expected(credential, key, ORDERS, digest))

    def learn(self, credential: Credential, key: str, answer: RedeemAnswer, expected: Reason | None) -> None:
        if credential.grant.expires_at <= self.world.time():
            assert isinstance(answer, Refusal)  # over, or forgotten already, or for what it was refused before
            return
        assert (answer.reason if isinstance(answer, Refusal) else None) is expected
        if isinstance(answer, Redeemed):
            self.counts["spent"] += credential.grant.credential_id not in self.model.spent
            first = self.model.spent.setdefault(credential.grant.credential_id, (key, answer))
            assert first == (key, answer)

    @rule(credential=credentials)
    def revoke(self, credential: Credential) -> None:
        if self.world.time() < credential.grant.expires_at - timedelta(seconds=2):
            # The rule's own reason and that of the credential are one.
            self.run(self.world.revoke("credential", credential.grant.credential_id))
            self.model.dead.add(credential.grant.credential_id)

    @rule(task=consumes(tasks))
    def end(self, task: str) -> None:
        if not self.model.stopped:
            self.run(self.world.end(task))
            self.model.dead |= {name for name, held in self.given().items() if held == task}

    def given(self) -> dict[str, str]:
        found = self.run(self.world.events(kinds=("credential.granted",)))
        members = [shown(event) for event in found]
        return {each["credential"]: each.get("task", "") for each in members}

    @rule()
    def stop(self) -> None:
        if not self.model.stopped:
            done = self.run(self.world.stop("agent", SUPPORT))
            self.model.stopped = done.override
            self.model.dead |= set(self.given())  # those that are over are refused for that, or as revoked

    @rule()
    def let_go_on(self) -> None:
        if self.model.stopped:
            self.run(self.world.let_go_on(self.model.stopped))
            self.model.stopped = ""

    @rule(seconds=st.sampled_from([1, 50]))
    def let_time_pass(self, seconds: int) -> None:
        self.world.time.ahead += timedelta(seconds=seconds)

    @precondition(lambda self: self.since_start > A_WHILE)
    @rule()
    def restart(self) -> None:
        self.reopen()

    @invariant()
    def each_is_spent_by_one_event(self) -> None:
        events = [shown(each) for each in self.run(self.world.events(kinds=("credential.redeemed",)))]
        names = [each["credential"] for each in events]
        assert sorted(names) == sorted(self.model.spent)


@pytest.mark.timeout(TIMEOUT)
def test_a_credential_is_spent_by_one_attempt_at_most() -> None:
    walk(Redemptions, walks=12, length=40, usual=36)
    tell("redemptions", Redemptions.counts, "spent")
    assert Redemptions.counts["spent"] > Redemptions.counts["steps"] / 50
