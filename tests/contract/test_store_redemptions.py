"""What every store does with redemptions: a credential is spent once, for as long as it is remembered."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from broker.errors import Reason
from broker.store.interface import (
    AddRedemption,
    Committed,
    Item,
    NotOver,
    Rejected,
    Store,
    StoredRedemption,
    StoreUnavailable,
    Unspent,
)
from tests.contract.store_builders import LATER, NOW, entry, grant, granting
from tests.contract.test_store import sqlite_file, sqlite_memory

NAME = "cred_once"


@pytest.fixture(params=[sqlite_file, sqlite_memory], ids=["sqlite-file", "sqlite-memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = request.param(tmp_path)
    opened.commit([granting(grant("once", use="once", expires_at=LATER))])
    yield opened
    opened.close()


def spending(key: str = "a", *, guarded: bool = True) -> Item:
    return Item(
        guards=(NotOver(credential_id=NAME, now=NOW), Unspent(credential_id=NAME)) if guarded else (),
        writes=(AddRedemption(credential_id=NAME, key=key, call_digest="sha-256:x", at=NOW),),
        accepted=lambda _: entry(f"spent by {key}"),
        refused=lambda refusal: entry(f"not spent by {key}: {refusal.reason.name}"),
    )


def test_it_is_spent_once_and_the_first_is_remembered(store: Store) -> None:
    assert store.redemption(NAME) is None
    first, second = store.commit([spending("a"), spending("b")])
    assert isinstance(first, Committed)
    assert second == Rejected(reason=Reason.CREDENTIAL_SPENT, position=store.size() - 1)
    (third,) = store.commit([spending("a")])
    assert isinstance(third, Rejected)
    assert store.redemption(NAME) == StoredRedemption(key="a", call_digest="sha-256:x", position=1, at=NOW)
    assert first.position == 1


def test_without_its_guard_the_row_itself_says_no(store: Store) -> None:
    store.commit([spending("a")])
    size = store.size()
    with pytest.raises(StoreUnavailable):
        store.commit([spending("b", guarded=False)])
    assert store.size() == size
    found = store.redemption(NAME)
    assert found is not None
    assert found.key == "a"


@pytest.mark.parametrize(
    ("name", "ahead", "reason"),
    [
        (NAME, timedelta(minutes=5, microseconds=-1), None),
        (NAME, timedelta(minutes=5), Reason.TOKEN_EXPIRED),
        ("cred_nobodys", timedelta(0), Reason.CREDENTIAL_UNKNOWN),
    ],
)
def test_what_is_over_or_unknown_does_not_count(
    store: Store, name: str, ahead: timedelta, reason: Reason | None
) -> None:
    (answer,) = store.commit([Item(guards=(NotOver(credential_id=name, now=NOW + ahead),))])
    assert (answer.reason if isinstance(answer, Rejected) else None) is reason


def test_it_is_forgotten_with_its_grant_and_not_before(store: Store) -> None:
    store.commit([spending("a")])
    store.forget_expired(LATER - timedelta(microseconds=1))
    assert store.redemption(NAME) is not None
    assert store.grant(NAME) is not None
    store.forget_expired(LATER)
    assert store.redemption(NAME) is None
    assert store.grant(NAME) is None
    (answer,) = store.commit([spending("b")])
    assert isinstance(answer, Rejected)
    assert answer.reason is Reason.CREDENTIAL_UNKNOWN
