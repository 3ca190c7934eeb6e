"""What every store does with overrides: it ends and refuses what they cover, and remembers who may stop."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.errors import Reason
from broker.override import Override, Stop, StopKind, Stopper
from broker.store.interface import (
    ActivatePolicy,
    AddOverride,
    Committed,
    Item,
    LiftOverride,
    NotRevoked,
    OverrideInForce,
    Rejected,
    Store,
)
from tests.contract.store_builders import AGENT, NOW, OPERATOR, OTHER_AGENT, ended, grant, granting, scope
from tests.contract.test_store import sqlite_file, sqlite_memory


@pytest.fixture(params=[sqlite_file, sqlite_memory], ids=["sqlite-file", "sqlite-memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = request.param(tmp_path)
    yield opened
    opened.close()


def override(kind: StopKind, name: str = "", tenant: str = "", identity: str = "ovr_1") -> Override:
    stop = Stop(kind=kind, name=name, tenant=tenant)
    return Override(id=identity, stop=stop, at=NOW, by=OPERATOR, text="why")


def imposing(imposed: Override, *spared: str) -> Item:
    return Item(writes=(AddOverride(override=imposed, spared=spared),), accepted=ended)


def lifting(identity: str = "ovr_1") -> Item:
    return Item(guards=(OverrideInForce(override_id=identity),), writes=(LiftOverride(override_id=identity),))


def of(name: str, index: int, action: str, **changes: Any) -> Any:
    """Return a grant of one action."""
    return grant(name, index=index, scope=replace(scope(), actions=frozenset({action})), **changes)


GRANTS = (
    of("reads", 0, "order.read"),
    of("writes", 1, "order.cancel"),
    of("elsewhere", 2, "order.cancel", tenant="apac"),
    of("others", 3, "order.read", agent=OTHER_AGENT),
    of("forgotten", 4, "order.archive"),  # which no bundle knows any more
    of("over", 5, "order.cancel", expires_at=NOW),
)
COVERED = [
    (override(StopKind.AGENT, AGENT), (), "reads writes elsewhere forgotten"),
    (override(StopKind.TENANT, "emea"), (), "reads writes others forgotten"),
    (override(StopKind.CLASS, "write"), ("order.read",), "writes elsewhere forgotten"),
    (override(StopKind.CLASS, "write", "emea"), ("order.read",), "writes forgotten"),
    (override(StopKind.CLASS, "write"), (), "reads writes elsewhere others forgotten"),
    (override(StopKind.ACTION, "order.cancel"), (), "writes elsewhere"),
    (override(StopKind.ACTION, "order.cancel", "apac"), (), "elsewhere"),
    (override(StopKind.EVERYTHING), (), "reads writes elsewhere others forgotten"),
]


@pytest.mark.parametrize(("imposed", "spared", "names"), COVERED)
def test_an_override_ends_what_it_covers_and_nothing_else(
    store: Store, imposed: Override, spared: tuple[str, ...], names: str
) -> None:
    store.commit([granting(each) for each in GRANTS])
    (answer,) = store.commit([imposing(imposed, *spared)])
    assert isinstance(answer, Committed)
    assert {each.credential_id for each in answer.revoked} == {f"cred_{name}" for name in names.split()}
    (again,) = store.commit([imposing(replace(imposed, id="ovr_2"), *spared)])
    assert isinstance(again, Committed)
    assert again.revoked == ()
    size = store.size()
    heard = [each for one in store.revoked_in(0, size, audience=scope().audience) for each in one.credentials]
    assert {each.credential_id for each in heard} == {each.credential_id for each in answer.revoked}


GUARD = NotRevoked(agent=AGENT, tenant="emea", task="", policy_ids=("reads",), action="order.read", action_class="read")
HELD = [
    (override(StopKind.AGENT, AGENT), True),
    (override(StopKind.AGENT, OTHER_AGENT), False),
    (override(StopKind.TENANT, "emea"), True),
    (override(StopKind.TENANT, "apac"), False),
    (override(StopKind.CLASS, "read"), True),
    (override(StopKind.CLASS, "read", "emea"), True),
    (override(StopKind.CLASS, "read", "apac"), False),
    (override(StopKind.CLASS, "write"), False),
    (override(StopKind.ACTION, "order.read"), True),
    (override(StopKind.ACTION, "order.read", "apac"), False),
    (override(StopKind.ACTION, "order.cancel"), False),
    (override(StopKind.EVERYTHING), True),
]


@pytest.mark.parametrize(("imposed", "covers"), HELD)
def test_what_an_override_covers_is_not_written(store: Store, imposed: Override, covers: bool) -> None:
    item = Item(guards=(GUARD,))
    store.commit([imposing(imposed)])
    (answer,) = store.commit([item])
    assert (isinstance(answer, Rejected) and answer.reason is Reason.OVERRIDE_IN_FORCE) is covers
    store.commit([lifting()])
    (answer,) = store.commit([item])
    assert isinstance(answer, Committed)


def test_an_action_of_no_known_class_is_of_every_class_that_is_stopped(store: Store) -> None:
    store.commit([imposing(override(StopKind.CLASS, "write"))])
    unknown, none = replace(GUARD, action_class=""), replace(GUARD, action="", action_class="")
    answers = store.commit([Item(guards=(unknown,)), Item(guards=(none,))])
    assert [type(answer) for answer in answers] == [Rejected, Committed]


def test_a_grant_and_an_override_cannot_cross_within_a_group(store: Store) -> None:
    before, after = store.commit([granting(GRANTS[0]), imposing(override(StopKind.EVERYTHING)), granting(GRANTS[1])])[
        ::2
    ]
    assert isinstance(before, Committed)
    assert isinstance(after, Rejected)
    assert [each.credential_id for each in store.revoked_now(NOW, agent=AGENT)[1]] == ["cred_reads"]


def test_overrides_in_force_can_be_asked_for_and_one_is_lifted_once(store: Store) -> None:
    one, other = override(StopKind.CLASS, "read", "emea"), override(StopKind.EVERYTHING, identity="ovr_2")
    store.commit([imposing(one), imposing(other)])
    assert store.overrides() == [one, other]
    first, second = store.commit([lifting(), lifting()])
    assert isinstance(first, Committed)
    assert isinstance(second, Rejected)
    assert (second.reason, store.overrides()) == (Reason.OVERRIDE_UNKNOWN, [other])


def test_imposing_and_lifting_wake_the_readers_of_revocations(store: Store) -> None:
    before = store.endings
    store.commit([imposing(override(StopKind.EVERYTHING))])
    imposed = store.endings
    store.commit([lifting()])
    assert before < imposed < store.endings


def test_who_may_stop_things_is_as_the_last_activation_says(store: Store) -> None:
    assert store.stoppers() == []
    everywhere, somewhere = Stopper(spiffe_id=OPERATOR), Stopper(spiffe_id=OPERATOR, tenant="emea")
    store.commit([Item(writes=(ActivatePolicy(digest="sha-256:a", stoppers=(everywhere, somewhere)),))])
    assert store.stoppers() == [everywhere, somewhere]
    store.commit([Item(writes=(ActivatePolicy(digest="sha-256:b", stoppers=(somewhere,)),))])
    assert store.stoppers() == [somewhere]


def test_what_is_stopped_is_stopped_in_the_next_process_too(tmp_path: Path) -> None:
    first = sqlite_file(tmp_path)
    imposed = override(StopKind.AGENT, AGENT)
    first.commit([imposing(imposed)])
    first.close()
    again = sqlite_file(tmp_path)
    assert again.overrides() == [imposed]
    again.forget_expired(NOW)
    assert again.overrides() == [imposed]
    again.close()
