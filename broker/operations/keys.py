"""The key ring: what is due is done in one transaction, private keys first; and who may read the public keys."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from broker.audit.event import KeyChanged
from broker.credential.grant import Grant
from broker.credential.keys import Change, KeyRing, KeySettings, KeyState, Make, RingKey, Signer, plan
from broker.credential.mint import finish, prepare
from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.intent import digest
from broker.operations.attempt import Attempt, Clock, Visit
from broker.operations.calls import KeySet, ReadCall
from broker.operations.record import Recorder, commit
from broker.policy.decision import Target, TargetKind
from broker.store.interface import Item, PutKey, StoredKey


class NewSigner(Signer, Protocol):
    """A signer that was just made, with the public half that the ring publishes."""

    @property
    def public_jwk(self) -> str:
        """RFC 7517 JSON as text."""


class PrivateKeys(Protocol):
    """Where the private keys lie."""

    def make(self) -> NewSigner:
        """Make a key pair, durable before this returns."""

    def signer(self, kid: str) -> Signer:
        """Return the signer of a kid; raises Refusal SIGNING_UNAVAILABLE."""

    def forget(self, kid: str) -> None:
        """Destroy the private key of a kid, if it is there."""


@dataclass(slots=True, kw_only=True)
class Keys:
    """The key ring as the store has it, and the signer of its current key.

    Attributes:
        issuer: the URL that tokens name in `iss`.
        checkpoint_key: verifier key of the checkpoints.
        private: the private keys.
        recorder: where changes are recorded.
        settings: how keys follow one another.
        clock: the time, UTC.

    """

    issuer: str
    checkpoint_key: str
    private: PrivateKeys
    recorder: Recorder
    settings: KeySettings
    clock: Clock
    _ring: KeyRing | None = field(default=None)
    _signer: Signer | None = field(default=None)

    def refresh(self) -> bool:
        """Do what is due; return whether the key set or the signing key changed.

        Raises:
            Refusal: AUDIT_UNAVAILABLE or SIGNING_UNAVAILABLE; the ring stays as it was.

        """
        ring = self._ring or KeyRing(keys=tuple(_ring_key(stored) for stored in self.recorder.store.keys()))  # noqa: SIM118  # a method of ours
        now = self.clock()
        changes = plan(ring, now, self.settings)
        moved = [self._carry_out(change, now) for change in changes]
        if moved:
            try:
                commit(self.recorder.store, [self._item(key, now) for key in moved])
            except Refusal:
                for change, key in zip(changes, moved, strict=True):
                    if isinstance(change, Make):
                        self.private.forget(key.kid)
                raise
        for key in moved:
            ring = ring.with_key(key)
        changed = bool(moved) or self._ring is None
        if changed:
            self._signer = self.private.signer(ring.signing().kid)
            self._ring = ring
            for key in moved:
                if key.state in (KeyState.RETIRED, KeyState.REMOVED):
                    self.private.forget(key.kid)
        return changed

    def _carry_out(self, change: Change, now: datetime) -> RingKey:
        if isinstance(change, Make):
            made = self.private.make()
            return RingKey(kid=made.kid, public_jwk=made.public_jwk, state=change.state, since=now)
        return change.key

    def _item(self, key: RingKey, now: datetime) -> Item:
        entry = self.recorder.entry(KeyChanged(at=now, use="token", kid=key.kid, state=key.state.value))
        stored = StoredKey(kid=key.kid, public_jwk=key.public_jwk, state=key.state.value, since=key.since)
        return Item(writes=(PutKey(key=stored),), accepted=lambda _: entry)

    def mint(self, grant: Grant, decision_id: str) -> Credential:
        """Sign a grant.

        Raises:
            Refusal: SIGNING_UNAVAILABLE.

        """
        signer = self._signer
        if signer is None:
            raise Refusal(Reason.SIGNING_UNAVAILABLE)
        signing_input = prepare(grant, signer.kid, self.issuer)
        return finish(signing_input, signer.sign(signing_input), grant, decision_id)

    def key_set(self) -> KeySet:
        """Return the public keys as they are now."""
        jwks = self._ring.jwks() if self._ring else '{"keys":[]}'
        content = f"{self.issuer}\n{jwks}\n{self.checkpoint_key}"
        return KeySet(
            issuer=self.issuer, jwks=jwks, checkpoint_key=self.checkpoint_key, digest=digest(content.encode())
        )


def _ring_key(stored: StoredKey) -> RingKey:
    return RingKey(kid=stored.kid, public_jwk=stored.public_jwk, state=KeyState(stored.state), since=stored.since)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadKeySet:
    """Gives the key set to whom policy allows."""

    attempt: Attempt
    keys: Keys

    def __call__(self, call: ReadCall) -> KeySet:
        """Return the public keys."""
        return self.attempt(call.context, "get_key_set", self._read)

    def _read(self, visit: Visit) -> KeySet:
        self.attempt.allowed(visit, "broker.keys.read", Target(kind=TargetKind.LOG, id="audit"))
        return self.keys.key_set()
