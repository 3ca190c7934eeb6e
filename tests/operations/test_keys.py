"""Keys follow one another without a gap, and one that was stolen counts no more: at once, and whatever happens then."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from broker.audit.checkpoint import VerifierKey, verify
from broker.credential.keys import MAX_KEYS, read_jwks
from broker.credential.ring import KeyUse
from broker.errors import Reason, Refusal
from broker.operations.calls import ReadCall
from broker.store.interface import Answer, Item, StoreUnavailable
from tests.operations.world import ORDERS, RETAIL_DESK, SECURITY, SUPPORT, World, open_world

LEAD = timedelta(minutes=5)
USES = pytest.mark.parametrize("use", KeyUse, ids=lambda use: use.value)


async def refused(awaitable: object) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await awaitable  # type: ignore[misc]
    return refusal.value


def ready(world: World) -> None:
    """Let so much time pass that the next key may sign."""
    world.time.ahead += LEAD + timedelta(seconds=1)


def file_of(world: World, use: KeyUse, kid: str) -> Path:
    return world.folder / "keys" / f"{'checkpoint-' if use is KeyUse.CHECKPOINTS else ''}{kid}.pem"


async def kids(world: World) -> set[str]:
    """Return the token keys that validators are told of."""
    keys = await world.issuer.key_set(ReadCall(context=world.context(ORDERS)))
    return set(read_jwks(keys.jwks))


async def logged(world: World, *kinds: str) -> list[dict[str, Any]]:
    return [json.loads(event.content) for event in await world.events(kinds=kinds)]


def kid_of(token: str) -> str:
    from base64 import urlsafe_b64decode  # noqa: PLC0415

    return str(json.loads(urlsafe_b64decode(token.partition(".")[0] + "=="))["kid"])


async def test_operators_see_which_key_signs_and_what_comes(world: World) -> None:
    found = await world.list_keys()
    assert set(found) == {(use.value, state) for use in KeyUse for state in ("current", "next")}
    for use, algorithm in ((KeyUse.TOKENS, "ES256"), (KeyUse.CHECKPOINTS, "Ed25519")):
        current, following = found[use.value, "current"], found[use.value, "next"]
        assert {current.algorithm, following.algorithm} == {algorithm}
        assert current.activated == current.published == following.published
        assert (current.retired, following.activated, following.signs_until) == (None, None, None)
        assert following.published is not None
        assert following.signs_from == following.published + LEAD
        assert bool(current.verifier_key) is (use is KeyUse.CHECKPOINTS)
        assert (current.endorsement, bool(following.endorsement)) == ("", use is KeyUse.CHECKPOINTS)
    assert await kids(world) == {found["token", "current"].kid, found["token", "next"].kid}


@USES
async def test_a_key_follows_once_it_was_published_long_enough_and_no_sooner(world: World, use: KeyUse) -> None:
    before = await world.list_keys()
    early = await refused(world.rotate(use))
    due = before[use.value, "next"].signs_from
    assert due is not None
    assert early.reason is Reason.KEY_NOT_READY
    assert early.detail == f"not before {due.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}"
    assert await world.list_keys() == before
    ready(world)
    changed = await world.rotate(use, text="by hand")
    after = await world.list_keys()
    assert changed.kid == after[use.value, "current"].kid == before[use.value, "next"].kid
    assert changed.replaced == after[use.value, "retired"].kid == before[use.value, "current"].kid
    assert changed.following == after[use.value, "next"].kid
    assert changed.signs_from == after[use.value, "next"].signs_from
    assert after[use.value, "retired"].retired == changed.at
    others = [other for other in KeyUse if other is not use]
    assert [after[other.value, "current"] for other in others] == [before[other.value, "current"] for other in others]


@USES
async def test_each_rotation_is_one_transaction_that_says_who_what_and_why(world: World, use: KeyUse) -> None:
    ready(world)
    changed = await world.rotate(use, text="by hand")
    log = await world.events(personal=True)
    rotated, *changes = [json.loads(event.content) for event in log[changed.position : changed.position + 4]]
    assert (rotated["type"], rotated["cause"], rotated["use"]) == ("keys.rotated", "asked", use.value)
    assert (rotated["spiffe_id"], rotated["kid"], rotated["replaced"]) == (SECURITY, changed.kid, changed.replaced)
    assert rotated["decision"]["policies"] == ["security-lists-and-rotates-keys"]
    assert [opening.value for opening in log[changed.position].openings if opening.field == "text"] == [b'"by hand"']
    assert [(event["type"], event["use"], event["kid"], event["state"]) for event in changes] == [
        ("key.changed", use.value, changed.replaced, "retired"),
        ("key.changed", use.value, changed.kid, "current"),
        ("key.changed", use.value, changed.following, "next"),
    ]
    assert {event["at"] for event in changes} == {rotated["at"]}


async def test_what_the_old_key_signed_counts_until_it_is_over_and_then_the_key_goes(world: World) -> None:
    credential = await world.granted()
    old = (await world.list_keys())["token", "current"].kid
    assert kid_of(credential.token.reveal()) == old
    ready(world)
    later = await world.granted(lifetime=timedelta(minutes=2))
    await world.rotate()
    retired = (await world.list_keys())["token", "retired"]
    assert retired.kid == old
    assert retired.published_until is not None
    assert retired.published_until >= max(credential.grant.expires_at, later.grant.expires_at)
    keys = world.issuer.verbs.rotate_keys.keys
    world.time.ahead = retired.published_until - datetime.now(UTC) - timedelta(seconds=1)
    await world.issuer.worker.run(keys.refresh)
    assert old in await kids(world)
    world.time.ahead += timedelta(seconds=2)
    await world.issuer.worker.run(keys.refresh)
    assert old not in await kids(world)
    assert [event["kid"] for event in await logged(world, "key.changed") if event["state"] == "removed"] == [old]


@USES
async def test_the_private_half_of_a_key_that_signs_no_more_is_destroyed(world: World, use: KeyUse) -> None:
    current = (await world.list_keys())[use.value, "current"]
    path = file_of(world, use, current.kid)
    with path.open("rb") as held:
        before = held.read()
        assert b"PRIVATE KEY" in before
        ready(world)
        await world.rotate(use)
        assert not path.exists()
        held.seek(0)
        assert held.read() == bytes(len(before)), "what is left of it on the disk holds nothing"


async def test_the_same_request_is_answered_as_it_was_and_nothing_more_is_done(world: World) -> None:
    ready(world)
    changed = await world.rotate(request_id="r1")
    size = len(await logged(world, "keys.rotated"))
    ready(world)
    assert await world.rotate(request_id="r1") == changed
    assert len(await logged(world, "keys.rotated")) == size
    for asked in (
        world.rotate(KeyUse.CHECKPOINTS, request_id="r1"),
        world.rotate(request_id="r1", text="another"),
        world.rotate(None, emergency="k", text="t", request_id="r1"),
    ):
        assert (await refused(asked)).reason is Reason.REQUEST_ID_REUSED
    gone = await world.rotate(None, emergency=changed.kid, text="stolen", request_id="r2")
    assert await world.rotate(None, emergency=changed.kid, text="stolen", request_id="r2") == gone
    assert (await refused(world.rotate(None, emergency=changed.kid, text="stolen"))).reason is Reason.KEY_UNKNOWN
    assert (await world.rotate(KeyUse.CHECKPOINTS, request_id="r3")).position > gone.position


async def test_request_ids_are_known_after_a_restart_and_for_a_day(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        ready(world)
        changed = await world.rotate(request_id="r1")
    async with open_world(tmp_path) as world:
        assert await world.rotate(request_id="r1") == changed
        await world.stored(lambda store: store.forget_expired(changed.at + timedelta(hours=23)))
        assert await world.stored(lambda store: store.key_request(SECURITY, "r1")) is not None
        await world.stored(lambda store: store.forget_expired(changed.at + timedelta(days=1)))
        assert await world.stored(lambda store: store.key_request(SECURITY, "r1")) is None


@USES
async def test_of_twenty_at_once_one_rotates(world: World, use: KeyUse) -> None:
    ready(world)
    answers = await asyncio.gather(*(world.rotate(use) for _ in range(20)), return_exceptions=True)
    refusals = [answer.reason for answer in answers if isinstance(answer, Refusal)]
    assert refusals == [Reason.KEY_NOT_READY] * 19
    assert len(await logged(world, "keys.rotated")) == 1
    found = await world.issuer.list_keys(ReadCall(context=world.context(SECURITY)))
    states = sorted(key.state.value for key in found.keys if key.use is use)
    assert states == ["current", "next", "retired"]


async def test_of_twenty_emergencies_at_once_one_takes_the_key_away(world: World) -> None:
    kid = (await world.list_keys())["token", "current"].kid
    asked = [world.rotate(None, emergency=kid, text="stolen") for _ in range(20)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [answer.reason for answer in answers if isinstance(answer, Refusal)] == [Reason.KEY_UNKNOWN] * 19
    assert len(await kids(world)) == 2


# --- emergencies ---------------------------------------------------------------------------------------------------


@USES
@pytest.mark.parametrize("state", ["current", "next", "retired"])
async def test_in_an_emergency_a_key_goes_at_once_whatever_it_was(world: World, use: KeyUse, state: str) -> None:
    ready(world)
    await world.rotate(use)
    before = await world.list_keys()
    stolen = before[use.value, state]
    changed = await world.rotate(None, emergency=stolen.kid, text="the disk was read")
    after = await world.list_keys()
    assert stolen.kid not in {key.kid for key in after.values()}
    assert stolen.kid not in await kids(world)
    signing = before[use.value, "next" if state == "current" else "current"].kid
    assert (changed.use, changed.kid, changed.replaced) == (use, signing, stolen.kid)
    assert after[use.value, "current"].kid == signing
    assert not file_of(world, use, stolen.kid).exists()
    assert (await logged(world, "keys.rotated"))[-1]["cause"] == "emergency"
    assert (await refused(world.rotate(None, emergency=stolen.kid, text="again"))).reason is Reason.KEY_UNKNOWN


async def test_a_lost_reply_is_given_again_under_the_key_that_signs_now(world: World) -> None:
    first = await world.granted(request_id="a")
    stolen = kid_of(first.token.reveal())
    changed = await world.rotate(None, emergency=stolen, text="stolen")
    again = await world.granted(request_id="a")
    assert again.grant.credential_id == first.grant.credential_id
    assert kid_of(again.token.reveal()) == changed.kid


@USES
async def test_a_removed_key_stays_removed_and_never_signs_even_if_its_file_is_put_back(
    tmp_path: Path, use: KeyUse
) -> None:
    async with open_world(tmp_path) as world:
        current = (await world.list_keys())[use.value, "current"]
        path = file_of(world, use, current.kid)
        stolen = path.read_bytes()
        changed = await world.rotate(None, emergency=current.kid, text="stolen")
    path.write_bytes(stolen)
    path.chmod(0o600)
    async with open_world(tmp_path) as world:
        after = await world.list_keys()
        assert after[use.value, "current"].kid == changed.kid
        assert current.kid not in {key.kid for key in after.values()} | await kids(world)
        assert kid_of((await world.granted()).token.reveal()) == after["token", "current"].kid
        assert not path.exists(), "and the file is destroyed again"
        for _ in range(3):  # a ring that runs out of keys does not reach for it either
            now = (await world.list_keys())[use.value, "current"].kid
            await world.rotate(None, emergency=now, text="all of them")
        assert current.kid not in {key.kid for key in (await world.list_keys()).values()}


async def test_the_store_takes_no_removed_key_back(world: World) -> None:
    keys = world.issuer.verbs.rotate_keys.keys
    kid = (await world.list_keys())["token", "current"].kid
    await world.rotate(None, emergency=kid, text="stolen")

    def put_back() -> str:
        from broker.store.interface import PutKey  # noqa: PLC0415

        store = keys.recorder.store
        gone = store.key(kid)
        assert gone is not None
        from dataclasses import replace  # noqa: PLC0415

        store.commit([Item(writes=(PutKey(key=replace(gone, state="current")),))])
        found = store.key(kid)
        assert found is not None
        return found.state

    assert await world.issuer.worker.run(put_back) == "removed"


BAD = {
    "no-reason": ({"use": None, "emergency": "k", "text": ""}, Reason.REQUEST_INVALID),
    "blank-reason": ({"use": None, "emergency": "k", "text": " \n"}, Reason.REQUEST_INVALID),
    "neither": ({"use": None}, Reason.REQUEST_INVALID),
    "both": ({"use": KeyUse.TOKENS, "emergency": "k", "text": "t"}, Reason.REQUEST_INVALID),
    "unknown-kid": ({"use": None, "emergency": "k", "text": "t"}, Reason.KEY_UNKNOWN),
    "a-path-for-a-kid": ({"use": None, "emergency": "../keys/checkpoint", "text": "t"}, Reason.KEY_UNKNOWN),
}


@pytest.mark.parametrize(("fields", "reason"), BAD.values(), ids=BAD)
async def test_what_makes_no_sense_is_refused_with_its_event_and_changes_nothing(
    world: World, fields: dict[str, Any], reason: Reason
) -> None:
    ready(world)
    before = await world.list_keys()
    assert (await refused(world.rotate(**fields))).reason is reason
    assert (await logged(world, "request.refused"))[-1]["reason"] == reason.name
    assert await world.list_keys() == before


async def test_a_reason_is_recorded_as_it_was_given(world: World) -> None:
    text = "\u202egnirts desrever\u202c \u0000 \u2028 é"
    kid = (await world.list_keys())["token", "current"].kid
    changed = await world.rotate(None, emergency=kid, text=text)
    event = (await world.events(personal=True))[changed.position]
    assert [json.loads(opening.value) for opening in event.openings if opening.field == "text"] == [text]
    assert text.encode() not in event.content


STRANGERS = {
    "agent": (SUPPORT, Reason.TENANT_REFUSED),
    "service": (ORDERS, Reason.TENANT_REFUSED),
    "operator-of-one-tenant": (RETAIL_DESK, Reason.TENANT_REFUSED),
}


@pytest.mark.parametrize(("who", "reason"), STRANGERS.values(), ids=STRANGERS)
async def test_only_who_may_manage_the_whole_broker_sees_or_changes_keys(
    world: World, who: str, reason: Reason
) -> None:
    ready(world)
    kid = (await world.list_keys())["token", "current"].kid
    asked: Sequence[Callable[[], object]] = (
        lambda: world.list_keys(who),
        lambda: world.rotate(who=who),
        lambda: world.rotate(None, who=who, emergency=kid, text="mine"),
        lambda: world.rotate(None, who=who, emergency="no-such-key", text="mine"),
    )
    for ask in asked:
        assert (await refused(ask())).reason is reason
    told = [event for event in await logged(world, "request.refused") if event["spiffe_id"] == who]
    assert [event["operation"] for event in told] == ["list_keys", *["rotate_keys"] * 3]
    assert (await world.list_keys())["token", "current"].kid == kid


# --- faults --------------------------------------------------------------------------------------------------------


async def test_after_a_commit_of_unknown_end_the_store_says_which_keys_there_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit stood, and its answer was an error: no key file that the store counts on may be gone."""
    keys = world.issuer.verbs.rotate_keys.keys
    store = keys.recorder.store
    commit = store.commit

    def stands_and_fails(items: Sequence[Item]) -> Sequence[Answer]:
        commit(items)
        raise StoreUnavailable("disk I/O error")

    ready(world)
    before = await world.list_keys()
    monkeypatch.setattr(store, "commit", stands_and_fails)
    assert (await refused(world.rotate())).reason is Reason.AUDIT_UNAVAILABLE
    monkeypatch.setattr(store, "commit", commit)
    after = await world.list_keys()
    assert after["token", "current"].kid == before["token", "next"].kid
    assert file_of(world, KeyUse.TOKENS, after["token", "next"].kid).exists()
    assert kid_of((await world.granted()).token.reveal()) == after["token", "current"].kid
    ready(world)
    await world.rotate()


async def test_after_a_commit_that_failed_nothing_changed_and_no_key_is_left_lying_about(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = world.issuer.verbs.rotate_keys.keys
    store = keys.recorder.store
    commit = store.commit

    def fails(_: Sequence[Item]) -> Sequence[Answer]:
        raise StoreUnavailable("disk full")

    ready(world)
    before, files = await world.list_keys(), set((world.folder / "keys").iterdir())
    monkeypatch.setattr(store, "commit", fails)
    assert (await refused(world.rotate())).reason is Reason.AUDIT_UNAVAILABLE
    monkeypatch.setattr(store, "commit", commit)
    assert await world.list_keys() == before
    await world.issuer.worker.run(keys.refresh)
    assert set((world.folder / "keys").iterdir()) == files
    await world.rotate()


async def test_a_new_key_that_cannot_be_written_leaves_everything_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os  # noqa: PLC0415

    ready(world)
    before = await world.list_keys()
    link = os.link

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    assert (await refused(world.rotate())).reason is Reason.SIGNING_UNAVAILABLE
    monkeypatch.setattr(os, "link", link)
    assert await world.list_keys() == before
    await world.rotate()


@USES
async def test_a_next_key_whose_file_is_lost_never_signs_and_another_is_made(tmp_path: Path, use: KeyUse) -> None:
    async with open_world(tmp_path) as world:
        lost = (await world.list_keys())[use.value, "next"]
    file_of(world, use, lost.kid).unlink()
    async with open_world(tmp_path) as world:
        after = await world.list_keys()
        assert after[use.value, "next"].kid != lost.kid
        assert (await refused(world.rotate(use))).reason is Reason.KEY_NOT_READY
        ready(world)
        assert (await world.rotate(use)).kid == after[use.value, "next"].kid


async def test_a_broker_whose_signing_key_is_lost_does_not_start_and_changes_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        current = (await world.list_keys())["token", "current"]
    path = file_of(world, KeyUse.TOKENS, current.kid)
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(Refusal) as refusal:
        async with open_world(tmp_path):
            pass
    assert refusal.value.reason is Reason.SIGNING_UNAVAILABLE
    path.write_bytes(kept)
    path.chmod(0o600)
    async with open_world(tmp_path) as world:
        assert (await world.list_keys())["token", "current"].kid == current.kid


async def test_key_files_that_the_store_does_not_know_are_left_alone_and_never_sign(tmp_path: Path) -> None:
    """They may belong to another store: a wrong [store] url must not cost the keys of the right one."""
    async with open_world(tmp_path) as world:
        files = set((tmp_path / "keys").iterdir())
    (tmp_path / "broker.sqlite3").rename(tmp_path / "kept")
    async with open_world(tmp_path) as world:
        assert files < set((tmp_path / "keys").iterdir())
        known = {key.kid for key in (await world.list_keys()).values()}
        assert not {path.stem.removeprefix("checkpoint-") for path in files} & known


def earlier_key(path: Path) -> ed25519.Ed25519PrivateKey:
    """Write a checkpoint key as a release left it that had one for good."""
    key = ed25519.Ed25519PrivateKey.generate()
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    path.chmod(0o600)
    return key


async def test_the_checkpoint_key_of_an_earlier_release_goes_on(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    path = tmp_path / "keys" / "checkpoint.pem"
    key = earlier_key(path)
    async with open_world(tmp_path) as world:
        keys = await world.issuer.key_set(ReadCall(context=world.context(ORDERS)))
        held = VerifierKey.parse(keys.checkpoint_key)
        assert held.public_key == key.public_key().public_bytes_raw()
        note = (await world.issuer.checkpoint(ReadCall(context=world.context(SECURITY)))).note
        assert verify(note, held).size > 0
        ready(world)
        await world.rotate(KeyUse.CHECKPOINTS)
        assert not path.exists()


async def test_the_stolen_checkpoint_key_of_an_earlier_release_is_not_begun_with_again(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    earlier_key(tmp_path / "keys" / "checkpoint.pem")
    async with open_world(tmp_path) as world:
        before = await world.list_keys()
        stolen, following = (before["checkpoint", state].kid for state in ("current", "next"))
        await world.without_chores()  # or another one may be made before the first is taken away
        world.issuer.verbs.rotate_keys.keys.private.forget(following)
        changed = await world.rotate(None, emergency=stolen, text="stolen, and the next one is lost")
        assert changed.kid not in (stolen, following)
        after = await world.list_keys()
        assert after["checkpoint", "current"].endorsement == "", "no key is left that could vouch for it"
        assert after["checkpoint", "next"].endorsement


async def test_no_more_keys_are_published_than_validators_read(world: World) -> None:
    """A retired key stays until what it signed is over; until one goes, the next has to wait."""
    await world.granted(lifetime=timedelta(minutes=2))
    keys = world.issuer.verbs.rotate_keys.keys
    settings = keys.settings[KeyUse.TOKENS]
    for _ in range(MAX_KEYS - 2):
        await world.issuer.worker.run(lambda: _hurry(keys))
        await world.rotate()
    assert len(await kids(world)) == MAX_KEYS
    await world.issuer.worker.run(lambda: _hurry(keys))
    full = await refused(world.rotate())
    first = min(key.until for key in keys.rings()[KeyUse.TOKENS].keys if key.until)
    assert (full.reason, full.detail) == (
        Reason.KEY_NOT_READY,
        f"not before {first.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}",
    )
    stolen = (await world.list_keys())["token", "current"].kid
    await world.rotate(None, emergency=stolen, text="an emergency does not wait")
    assert len(await kids(world)) == MAX_KEYS
    assert settings.lead == LEAD


def _hurry(keys: Any) -> None:
    """Have the next key be published for long, without any time passing."""
    from dataclasses import replace  # noqa: PLC0415

    from broker.credential.ring import KeyState  # noqa: PLC0415

    rings = dict(keys.rings())
    following = rings[KeyUse.TOKENS].find(KeyState.NEXT)
    rings[KeyUse.TOKENS] = rings[KeyUse.TOKENS].with_key(replace(following, since=following.since - LEAD))
    keys._rings = rings
