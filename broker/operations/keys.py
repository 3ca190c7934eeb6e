"""The key rings: what is due is done in one transaction, private keys first, and what is over is destroyed after it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol, TypeAlias

from broker.audit.chain import endorse
from broker.audit.checkpoint import Checkpoint, VerifierKey, sign
from broker.audit.event import KeyChanged
from broker.credential.grant import Grant
from broker.credential.keys import Signer, raw_ed25519
from broker.credential.mint import finish, prepare
from broker.credential.ring import Change, KeyRing, KeySettings, KeyState, KeyUse, Make, Move, RingKey, plan, removal
from broker.credential.source import KeyFileError
from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.intent import digest
from broker.operations.attempt import Clock
from broker.operations.calls import KeySet
from broker.operations.record import Recorder, commit
from broker.store.interface import Committed, Item, PutKey, StoredKey

Rings: TypeAlias = Mapping[KeyUse, KeyRing]


class NewSigner(Signer, Protocol):
    """A signer with the public half that the ring publishes."""

    @property
    def public_jwk(self) -> str:
        """RFC 7517 JSON as text."""


class PrivateKeys(Protocol):
    """Where the private keys lie. What cannot be written or removed there raises KeyFileError."""

    @property
    def kids(self) -> frozenset[str]:
        """The keys that are there."""

    @property
    def earlier(self) -> NewSigner | None:
        """The checkpoint key of an earlier release, which a ring begins with."""

    def make(self, use: KeyUse) -> NewSigner:
        """Make a key pair, durable before this returns."""

    def signer(self, kid: str) -> Signer:
        """Return the signer of a kid; raises Refusal SIGNING_UNAVAILABLE."""

    def forget(self, kid: str) -> None:
        """Destroy the private key of a kid, if it is there."""


@dataclass(slots=True, kw_only=True)
class Keys:
    """The key rings as the store has them, and the signers of their current keys.

    Attributes:
        issuer: the URL that tokens name in `iss`.
        log_name: the name of the log and its checkpoint keys.
        private: the private keys.
        recorder: where changes are recorded.
        settings: how keys follow one another, by use.
        clock: the time, UTC.

    """

    issuer: str
    log_name: str
    private: PrivateKeys
    recorder: Recorder
    settings: Mapping[KeyUse, KeySettings]
    clock: Clock
    _rings: Rings | None = field(default=None)
    _made: set[str] = field(default_factory=set)
    _doomed: set[str] = field(default_factory=set)

    def refresh(self) -> bool:
        """Do what is due; return whether anything changed.

        Raises:
            Refusal: AUDIT_UNAVAILABLE or SIGNING_UNAVAILABLE; the rings stay as they were.
            KeyFileError: what was retired or removed could not be destroyed; it is tried again the next time.

        """
        now = self.clock()
        changes = [(use, change) for use in KeyUse for change in self._due(use, now)]
        if changes:
            self.carry_out(changes, now)
        for ring in self.rings().values():
            self.private.signer(ring.signing().kid)
        self._destroy()
        return bool(changes)

    def rings(self) -> Rings:
        """Return the rings by use; read from the store when what it holds is not certain."""
        if self._rings is None:
            stored = self.recorder.store.keys()  # a method of ours
            self._rings = {
                use: KeyRing(keys=tuple(_ring_key(each) for each in stored if each.use == use.value)) for use in KeyUse
            }
            self._clear_away()
        return self._rings

    def all_over(self, use: KeyUse, now: datetime) -> datetime | None:
        """Return when everything that a ring's current key has signed is over; None: never.

        Validators whose clocks are behind still know the key when its last token is over by their time.
        """
        if use is KeyUse.CHECKPOINTS:
            return None
        return max(now, self.recorder.store.last_expiry() or now) + self.settings[use].lead

    def is_lost(self, key: RingKey | None) -> bool:
        """Whether the private half of a key is not there."""
        return key is not None and key.kid not in self.private.kids

    def carry_out(
        self, changes: Sequence[tuple[KeyUse, Change]], now: datetime, head: Callable[[Rings], Item] | None = None
    ) -> Committed:
        """Do changes in one transaction; return the answer to its first item.

        Args:
            changes: what to do, in order.
            now: UTC.
            head: makes an item that is to come before the changes, from the rings as they will be.

        Raises:
            Refusal: AUDIT_UNAVAILABLE, and nothing is known of what the store holds; SIGNING_UNAVAILABLE, a key file
                could not be written.

        """
        rings = dict(self.rings())
        items: list[Item] = []
        try:
            for use, change in changes:
                key = self._made_or_moved(use, change, rings[use], now)
                rings[use] = rings[use].with_key(key)
                items.append(self._item(use, key, now))
            answers = commit(self.recorder.store, items if head is None else [head(rings), *items])
        except KeyFileError as problem:
            self._rings = None
            raise Refusal(Reason.SIGNING_UNAVAILABLE, "a new key cannot be written") from problem
        except Refusal:
            self._rings = None
            raise
        self._rings = rings
        self._made.clear()
        self._doomed |= {change.key.kid for _, change in changes if isinstance(change, Move) and _is_over(change.key)}
        with suppress(KeyFileError):  # the chore tries again, and says so
            self._destroy()
        if not isinstance(answers[0], Committed):
            raise TypeError("no item of it has a guard")
        return answers[0]

    def mint(self, grant: Grant, decision_id: str) -> Credential:
        """Sign a grant.

        Raises:
            Refusal: SIGNING_UNAVAILABLE.

        """
        signer = self.private.signer(self.rings()[KeyUse.TOKENS].signing().kid)
        signing_input = prepare(grant, signer.kid, self.issuer)
        return finish(signing_input, signer.sign(signing_input), grant, decision_id)

    def sign_checkpoint(self, size: int, root: bytes) -> str:
        """Return the signed note of the log's size and root.

        Raises:
            Refusal: SIGNING_UNAVAILABLE.

        """
        key = self.rings()[KeyUse.CHECKPOINTS].signing()
        checkpoint = Checkpoint(origin=self.log_name, size=size, root=root)
        return sign(checkpoint, raw_ed25519(key.public_jwk), self.private.signer(key.kid))

    def verifier_key(self, key: RingKey) -> VerifierKey:
        """Return a checkpoint key as auditors hold it."""
        return VerifierKey(name=self.log_name, public_key=raw_ed25519(key.public_jwk))

    def key_set(self) -> KeySet:
        """Return the public keys as they are now."""
        rings = self.rings()
        jwks, signing = rings[KeyUse.TOKENS].jwks(), rings[KeyUse.CHECKPOINTS].find(KeyState.CURRENT)
        checkpoint_key = self.verifier_key(signing).to_text() if signing else ""
        content = f"{self.issuer}\n{jwks}\n{checkpoint_key}"
        return KeySet(issuer=self.issuer, jwks=jwks, checkpoint_key=checkpoint_key, digest=digest(content.encode()))

    def _due(self, use: KeyUse, now: datetime) -> Sequence[Change]:
        ring = self.rings()[use]
        following = ring.find(KeyState.NEXT)
        if self.is_lost(following) and following is not None:  # it never signed, and never can
            return removal(ring, following.kid, now, lost=False)
        return plan(ring, now, self.settings[use], self.all_over(use, now))

    def _made_or_moved(self, use: KeyUse, change: Change, ring: KeyRing, now: datetime) -> RingKey:
        if not isinstance(change, Make):
            return change.key
        made = self._earlier(use, change.state)
        if made is None:
            made = self.private.make(use)
            self._made.add(made.kid)
        key = RingKey(
            kid=made.kid, public_jwk=made.public_jwk, state=change.state, since=now, published=now,
            activated=now if change.state is KeyState.CURRENT else None,
        )  # fmt: skip
        return replace(key, endorsement=self._endorsement(key, ring) if use is KeyUse.CHECKPOINTS else "")

    def _earlier(self, use: KeyUse, state: KeyState) -> NewSigner | None:
        """Return the key of an earlier release, as long as no ring has ever held it."""
        earlier = self.private.earlier
        first = use is KeyUse.CHECKPOINTS and state is KeyState.CURRENT
        return earlier if first and earlier and self.recorder.store.key(earlier.kid) is None else None

    def _endorsement(self, key: RingKey, ring: KeyRing) -> str:
        """Return the note of the key that signs by then; nothing for one that follows none that can be trusted."""
        by = ring.find(KeyState.CURRENT)
        if by is None:
            return ""
        return endorse(self.verifier_key(key), self.verifier_key(by), self.private.signer(by.kid))

    def _item(self, use: KeyUse, key: RingKey, now: datetime) -> Item:
        is_checkpoint = use is KeyUse.CHECKPOINTS
        event = KeyChanged(
            at=now,
            use=use.value,
            kid=key.kid,
            state=key.state.value,
            key=self.verifier_key(key).to_text() if is_checkpoint else "",
            note=key.endorsement if key.published == now else "",
        )
        entry = self.recorder.entry(event)
        return Item(writes=(PutKey(key=_stored(use, key)),), accepted=lambda _: entry)

    def _clear_away(self) -> None:
        """Doom the files of keys that are over by the store, or that were made here and never came to stand in it.

        A key that the store does not know may belong to another store: it never signs, and is left alone.
        """
        for kid in self.private.kids:
            stored = self.recorder.store.key(kid)
            if kid in self._made if stored is None else _is_over(_ring_key(stored)):
                self._doomed.add(kid)
        self._made.clear()

    def _destroy(self) -> None:
        failure: KeyFileError | None = None
        for kid in tuple(self._doomed):
            try:
                self.private.forget(kid)
                self._doomed.discard(kid)
            except KeyFileError as problem:
                failure = problem
        if failure is not None:
            raise failure


def _is_over(key: RingKey) -> bool:
    return key.state in (KeyState.RETIRED, KeyState.REMOVED)


def _ring_key(stored: StoredKey) -> RingKey:
    return RingKey(
        kid=stored.kid,
        public_jwk=stored.public_jwk,
        state=KeyState(stored.state),
        since=stored.since,
        published=stored.published,
        activated=stored.activated,
        until=stored.until,
        endorsement=stored.endorsement,
    )


def _stored(use: KeyUse, key: RingKey) -> StoredKey:
    return StoredKey(
        kid=key.kid,
        public_jwk=key.public_jwk,
        state=key.state.value,
        since=key.since,
        use=use.value,
        published=key.published,
        activated=key.activated,
        until=key.until,
        endorsement=key.endorsement,
    )
