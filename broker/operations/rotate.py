"""Keys for those who ask: the public set for validators, the list and the changes of it for operators."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from broker.audit.event import Decided, KeysRotated, timestamp
from broker.credential.ring import Change, KeyRing, KeyState, KeyUse, RingKey, ready_at, removal, rotation
from broker.errors import Reason, Refusal
from broker.intent import canonical_json, digest
from broker.operations.attempt import Attempt, Visit
from broker.operations.calls import KeySet, ReadCall
from broker.operations.key_calls import KeyList, KeysChanged, ListedKey, RotateKeysCall
from broker.operations.keys import Keys, Rings
from broker.operations.record import position_of
from broker.policy.decision import Target, TargetKind
from broker.store.interface import AddKeyRequest, Item, StoredKeyRequest

# Checkpoint keys stay for good, and a list does not grow for good.
MAX_LISTED: Final = 64

_LOG: Final = Target(kind=TargetKind.LOG, id="audit")
_ORDER: Final = (KeyState.CURRENT, KeyState.NEXT, KeyState.RETIRED)
_ALGORITHMS: Final = {KeyUse.TOKENS: "ES256", KeyUse.CHECKPOINTS: "Ed25519"}
_ASKED: Final = "asked"
_EMERGENCY: Final = "emergency"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadKeySet:
    """Gives the key set to whom policy allows."""

    attempt: Attempt
    keys: Keys

    def __call__(self, call: ReadCall) -> KeySet:
        """Return the public keys."""
        return self.attempt(call.context, "get_key_set", self._read)

    def _read(self, visit: Visit) -> KeySet:
        self.attempt.allowed(visit, "broker.keys.read", _LOG)
        return self.keys.key_set()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListKeys:
    """Gives the list of the keys, with their states and times, to whom policy allows."""

    attempt: Attempt
    keys: Keys

    def __call__(self, call: ReadCall) -> KeyList:
        """Return the keys that are not removed; of the retired ones the newest."""
        return self.attempt(call.context, "list_keys", self._list)

    def _list(self, visit: Visit) -> KeyList:
        self.attempt.allowed(visit, "broker.keys.list", _LOG)
        found: list[ListedKey] = []
        for use, ring in self.keys.rings().items():
            newest_first = sorted(ring.keys, key=lambda key: key.since, reverse=True)
            ordered = sorted(newest_first, key=lambda key: _ORDER.index(key.state))
            found += [self._listed(use, ring, key) for key in ordered[:MAX_LISTED]]
        return KeyList(keys=tuple(found))

    def _listed(self, use: KeyUse, ring: KeyRing, key: RingKey) -> ListedKey:
        settings = self.keys.settings[use]
        is_checkpoint = use is KeyUse.CHECKPOINTS
        signs_until = key.since + settings.period
        return ListedKey(
            kid=key.kid,
            use=use,
            state=key.state,
            algorithm=_ALGORITHMS[use],
            published=key.published,
            activated=key.activated,
            retired=key.since if key.state is KeyState.RETIRED else None,
            signs_from=ready_at(ring, settings) if key.state is KeyState.NEXT else None,
            signs_until=signs_until if key.state is KeyState.CURRENT else None,
            published_until=key.until,
            verifier_key=self.keys.verifier_key(key).to_text() if is_checkpoint else "",
            endorsement=key.endorsement,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateKeys:
    """Changes the keys for whom policy allows: the next one follows, or in an emergency one counts no more at once."""

    attempt: Attempt
    keys: Keys

    def __call__(self, call: RotateKeysCall) -> KeysChanged:
        """Return what changed, durable by then; for a request id that was used before, what it did then."""
        return self.attempt(call.context, "rotate_keys", lambda visit: self._rotate(visit, call))

    def _rotate(self, visit: Visit, call: RotateKeysCall) -> KeysChanged:
        decided = self.attempt.allowed(visit, "broker.keys.rotate", _LOG)
        if (call.use is None) is not bool(call.emergency):
            raise Refusal(Reason.REQUEST_INVALID, "rotation: one of use and emergency")
        if call.emergency and not call.text.strip():
            raise Refusal(Reason.REQUEST_INVALID, "reason: required in an emergency")
        earlier = self._earlier(visit, call)
        if earlier is not None:
            return earlier
        use = call.use or self._use_of(call.emergency)
        changes = self._emergency(use, call.emergency, visit.now) if call.emergency else self._ordinary(use, visit.now)
        head = _Head(attempt=self.attempt, keys=self.keys, visit=visit, call=call, decided=decided, use=use)
        position = position_of(self.keys.carry_out([(use, change) for change in changes], visit.now, head))
        return head.changed(self.keys.rings(), position)

    def _use_of(self, kid: str) -> KeyUse:
        found = [use for use, ring in self.keys.rings().items() if any(key.kid == kid for key in ring.keys)]
        if not found:
            raise Refusal(Reason.KEY_UNKNOWN)
        return found[0]

    def _ordinary(self, use: KeyUse, now: datetime) -> Sequence[Change]:
        ring = self.keys.rings()[use]
        ready = ready_at(ring, self.keys.settings[use])
        if now < ready:
            raise Refusal(Reason.KEY_NOT_READY, f"not before {timestamp(ready)}")
        if self.keys.is_lost(ring.find(KeyState.NEXT)):
            raise Refusal(Reason.SIGNING_UNAVAILABLE, "the next key's file is not there")
        return rotation(ring, now, self.keys.all_over(use, now))

    def _emergency(self, use: KeyUse, kid: str, now: datetime) -> Sequence[Change]:
        ring = self.keys.rings()[use]
        return removal(ring, kid, now, lost=self.keys.is_lost(ring.find(KeyState.NEXT)))

    def _earlier(self, visit: Visit, call: RotateKeysCall) -> KeysChanged | None:
        """Return what was answered to the same request before.

        Raises:
            Refusal: REQUEST_ID_REUSED, it asked for something else.

        """
        store, caller = self.attempt.recorder.store, str(visit.principal.spiffe_id)
        found = store.key_request(caller, call.request_id) if call.request_id else None
        if found is None:
            return None
        position, request = found
        if request.digest != _digest(call):
            raise Refusal(Reason.REQUEST_ID_REUSED)
        return _from_json(request.answer, position)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """The first item of an operator's change: its event, and its answer under the request id."""

    attempt: Attempt
    keys: Keys
    visit: Visit
    call: RotateKeysCall
    decided: Decided
    use: KeyUse

    def changed(self, rings: Rings, position: int) -> KeysChanged:
        """Return what is answered, from the rings as they are after the change."""
        ring, before = rings[self.use], self.call.emergency
        following = ring.find(KeyState.NEXT)
        if not before:
            before = max((key for key in ring.keys if key.state is KeyState.RETIRED), key=lambda key: key.since).kid
        return KeysChanged(
            position=position,
            at=self.visit.now,
            use=self.use,
            kid=ring.signing().kid,
            replaced=before,
            following=following.kid if following else "",
            signs_from=ready_at(ring, self.keys.settings[self.use]),
        )

    def __call__(self, rings: Rings) -> Item:
        """Return the item."""
        changed = self.changed(rings, 0)
        event = KeysRotated(
            at=self.visit.now,
            caller=self.visit.caller,
            decided=self.decided,
            use=self.use.value,
            cause=_EMERGENCY if self.call.emergency else _ASKED,
            kid=changed.kid,
            replaced=changed.replaced,
            text=self.call.text,
        )
        entry = self.attempt.recorder.entry(event)
        return Item(writes=self._request(changed), accepted=lambda _: entry)

    def _request(self, changed: KeysChanged) -> tuple[AddKeyRequest, ...]:
        if not self.call.request_id:
            return ()
        request = StoredKeyRequest(
            caller=str(self.visit.principal.spiffe_id),
            request_id=self.call.request_id,
            digest=_digest(self.call),
            answer=_to_json(changed),
            at=self.visit.now,
        )
        return (AddKeyRequest(request=request),)


def _digest(call: RotateKeysCall) -> str:
    asked = {"use": call.use.value if call.use else "", "emergency": call.emergency, "text": call.text}
    return digest(canonical_json({**asked}))


def _to_json(changed: KeysChanged) -> str:
    times = {"at": changed.at.isoformat(), "signs_from": changed.signs_from.isoformat()}
    kids = {"kid": changed.kid, "replaced": changed.replaced, "following": changed.following}
    return json.dumps({"use": changed.use.value, **kids, **times})


def _from_json(text: str, position: int) -> KeysChanged:
    members = json.loads(text)
    return KeysChanged(
        position=position,
        at=datetime.fromisoformat(members["at"]),
        use=KeyUse(members["use"]),
        kid=members["kid"],
        replaced=members["replaced"],
        following=members["following"],
        signs_from=datetime.fromisoformat(members["signs_from"]),
    )
