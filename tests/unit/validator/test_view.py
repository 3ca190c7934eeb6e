"""View: a message that does not fit makes it worthless; it is as fresh as the broker's reading, not its arrival."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pyroaring import BitMap

from broker.credential.status_list import MAX_REVOKED
from broker.errors import Reason, Refusal
from broker.validator.view import KeySet, RevocationView, Update, UpdateRefused
from tests.unit.credential.samples import ISSUER, NOW, OTHER_SIGNER, SIGNER

KEY_SET = KeySet(issuer=ISSUER, jwks='{"keys":[' + SIGNER.public_jwk + "]}")
FIRST = Update(start=10, stop=10, snapshot=BitMap([3, 70_000]).serialize(), size=10, read_at=NOW, key_set=KEY_SET)
BOUND = timedelta(seconds=10)
SECOND = timedelta(seconds=1)


def opened(monotonic: Callable[[], float] = lambda: 0.0) -> RevocationView:
    view = RevocationView(issuer=ISSUER, monotonic=monotonic)
    view.apply(FIRST, NOW)
    return view


def following(start: int = 10, stop: int = 12, **changes: Any) -> Update:
    return replace(Update(start=start, stop=stop, size=stop, read_at=NOW + SECOND), **changes)


def test_a_snapshot_and_what_follows_are_known() -> None:
    view = opened()
    view.apply(following(revoked=(5, 6)), NOW + SECOND)
    assert [index for index in (3, 4, 5, 6, 7, 70_000) if view.is_revoked(index)] == [3, 5, 6, 70_000]
    assert (view.count, view.stop) == (4, 12)
    assert view.keys.keys() == {SIGNER.kid}


def test_before_a_snapshot_everything_is_refused() -> None:
    view = RevocationView(issuer=ISSUER)
    assert view.is_revoked(1)
    assert view.staleness(NOW) is None
    with pytest.raises(Refusal) as refused:
        view.require_fresh(NOW, BOUND)
    assert refused.value.reason is Reason.VIEW_STALE


BAD: dict[str, Update] = {
    "gap": following(start=11),
    "gap-far": following(start=1000, stop=1001),
    "again": following(start=9),
    "backwards": following(start=10, stop=9),
    "index-too-large": following(revoked=(2**32,)),
    "index-negative": following(revoked=(-1,)),
    "snapshot-empty": following(snapshot=b""),
    "snapshot-garbage": following(snapshot=b"garbage"),
    "snapshot-cut": following(snapshot=BitMap(range(1000)).serialize()[:-3]),
    "snapshot-of-everything": following(snapshot=BitMap(range(2**32 - 1)).serialize()),
    "snapshot-one-too-many": following(snapshot=BitMap(range(MAX_REVOKED + 1)).serialize()),
    "snapshot-full-and-one-more": following(snapshot=BitMap(range(MAX_REVOKED)).serialize(), revoked=(MAX_REVOKED,)),
    "keys-of-another-issuer": following(key_set=replace(KEY_SET, issuer=ISSUER + "/")),
    "keys-garbage": following(key_set=replace(KEY_SET, jwks="{}")),
    "keys-off-the-curve": following(key_set=replace(KEY_SET, jwks=KEY_SET.jwks.replace('"x":"', '"x":"AAAA', 1))),
}


@pytest.mark.parametrize("update", BAD.values(), ids=BAD.keys())
def test_a_message_that_does_not_fit_drops_the_view(update: Update) -> None:
    view = opened()
    view.require_fresh(NOW, BOUND)
    with pytest.raises(UpdateRefused):
        view.apply(update, NOW)
    assert view.staleness(NOW) is None
    assert view.is_revoked(1)
    with pytest.raises(UpdateRefused, match="no snapshot"):
        view.apply(following(), NOW)
    view.apply(FIRST, NOW)
    assert not view.is_revoked(1)


def test_a_view_holds_as_many_as_can_live_and_begins_anew_beyond() -> None:
    view = opened()
    view.apply(following(snapshot=BitMap(range(MAX_REVOKED - 1)).serialize(), revoked=(MAX_REVOKED,)), NOW)
    assert view.count == MAX_REVOKED
    with pytest.raises(UpdateRefused, match="it holds 16,777,217 indexes; at most 16,777,216 are read"):
        view.apply(following(start=12, stop=14, revoked=(2**32 - 1,)), NOW)
    assert view.is_revoked(MAX_REVOKED - 1)
    view.apply(FIRST, NOW)
    assert (view.count, view.is_revoked(MAX_REVOKED)) == (2, False)


def test_a_message_without_snapshot_cannot_be_the_first() -> None:
    with pytest.raises(UpdateRefused, match="no snapshot"):
        RevocationView(issuer=ISSUER).apply(replace(FIRST, snapshot=None, start=0, stop=0), NOW)


def test_a_new_snapshot_replaces_what_was_known() -> None:
    view = opened()
    view.apply(replace(FIRST, start=50, stop=51, size=51, snapshot=BitMap([8]).serialize(), revoked=(9,)), NOW)
    assert [index for index in (3, 8, 9) if view.is_revoked(index)] == [8, 9]


def test_freshness_is_the_brokers_reading() -> None:
    view = opened()
    assert view.staleness(NOW + BOUND) == BOUND
    view.require_fresh(NOW + BOUND, BOUND)
    with pytest.raises(Refusal):
        view.require_fresh(NOW + BOUND + timedelta(microseconds=1), BOUND)
    view.apply(following(read_at=NOW + 2 * SECOND), NOW + 30 * SECOND)  # it was long under way
    assert view.staleness(NOW + 30 * SECOND) == 28 * SECOND


def test_a_page_with_more_behind_it_is_not_fresh() -> None:
    view = opened()
    view.apply(following(stop=12, size=13, read_at=NOW + 5 * SECOND), NOW + 5 * SECOND)
    assert view.staleness(NOW + 5 * SECOND) == 5 * SECOND
    view.apply(following(start=12, stop=13, read_at=NOW + 6 * SECOND), NOW + 6 * SECOND)
    assert view.staleness(NOW + 6 * SECOND) == timedelta(0)


def test_a_first_page_with_more_behind_it_is_not_fresh_at_all() -> None:
    view = opened()
    view.apply(replace(FIRST, size=11), NOW)
    assert view.staleness(NOW) is None


def test_a_broker_whose_clock_is_fast_does_not_make_the_view_fresh_for_longer() -> None:
    view = RevocationView(issuer=ISSUER, monotonic=lambda: 0.0)
    view.apply(replace(FIRST, read_at=NOW + timedelta(hours=1)), NOW)
    assert view.staleness(NOW + 11 * SECOND) == 11 * SECOND


def test_a_clock_that_is_set_back_does_not_make_the_view_fresher() -> None:
    ticks = [100.0]
    view = opened(lambda: ticks[-1])
    ticks.append(111.0)
    for now in (NOW, NOW - timedelta(days=1), NOW + 11 * SECOND):
        assert view.staleness(now) == 11 * SECOND
        assert not view.is_fresh(now, BOUND)
    assert view.staleness(NOW + 12 * SECOND) == 12 * SECOND  # suspended: that clock stood still
    view.apply(following(read_at=NOW + SECOND), NOW - timedelta(days=1))  # heard with the clock already set back
    ticks.append(122.0)
    assert view.staleness(NOW - timedelta(days=1)) == 11 * SECOND


def test_what_was_long_under_way_is_old_by_the_other_clock_too() -> None:
    ticks = [100.0]
    view = opened(lambda: ticks[-1])
    view.apply(following(read_at=NOW), NOW + 8 * SECOND)
    ticks.append(101.0)
    assert view.staleness(NOW) == 9 * SECOND


def test_a_message_that_says_nothing_of_freshness_adds_none() -> None:
    view = opened()
    view.apply(following(read_at=None), NOW + 5 * SECOND)
    assert view.staleness(NOW + 5 * SECOND) == 5 * SECOND


def test_without_keys_nothing_is_fresh() -> None:
    view = RevocationView(issuer=ISSUER)
    view.apply(replace(FIRST, key_set=None), NOW)
    assert view.staleness(NOW) is None
    view.apply(following(key_set=replace(KEY_SET, jwks='{"keys":[]}')), NOW)
    assert view.staleness(NOW) is None


def test_keys_come_and_go_with_an_epoch() -> None:
    view = opened()
    epoch = view.key_epoch
    view.apply(following(key_set=KEY_SET), NOW)
    assert view.key_epoch == epoch
    both = replace(KEY_SET, jwks=f'{{"keys":[{SIGNER.public_jwk},{OTHER_SIGNER.public_jwk}]}}')
    view.apply(following(start=12, stop=12, size=12, key_set=both), NOW)
    assert view.key_epoch == epoch + 1
    assert view.keys.keys() == {SIGNER.kid, OTHER_SIGNER.kid}
    view.apply(following(start=12, stop=12, size=12, key_set=KEY_SET), NOW)
    assert view.keys.keys() == {SIGNER.kid}
