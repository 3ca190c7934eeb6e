"""Calls and answers about keys: what operators ask and are told, in nouns."""

from dataclasses import dataclass
from datetime import datetime

from broker.credential.ring import KeyState, KeyUse
from broker.operations.calls import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateKeysCall:
    """A change of the keys.

    Attributes:
        context: who asks.
        use: whose next key is to follow the current one; None in an emergency.
        emergency: kid of the key that is to count no more, from now on; empty: none.
        text: why; required in an emergency.
        request_id: the caller's own id, so that a lost reply can be asked again; or empty.

    """

    context: Context
    use: KeyUse | None = None
    emergency: str = ""
    text: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedKey:
    """A key as operators see it; times that do not apply, or are not known any more, are None.

    Attributes:
        kid: RFC 7638 thumbprint.
        use: what it signs.
        state: where it stands.
        algorithm: "ES256" or "Ed25519".
        published: when it was first published.
        activated: when it began to sign.
        retired: when it ceased to.
        signs_from: of a next key, when it may sign at the earliest.
        signs_until: of a current key, when another follows it by itself.
        published_until: of a retired token key, when what it signed is over and it is removed.
        verifier_key: of a checkpoint key, as auditors hold it; else empty.
        endorsement: of a checkpoint key, the signed note by which the one before introduced it; else empty.

    """

    kid: str
    use: KeyUse
    state: KeyState
    algorithm: str
    published: datetime | None = None
    activated: datetime | None = None
    retired: datetime | None = None
    signs_from: datetime | None = None
    signs_until: datetime | None = None
    published_until: datetime | None = None
    verifier_key: str = ""
    endorsement: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyList:
    """The keys that are not removed, by use, and in each the one that signs first."""

    keys: tuple[ListedKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysChanged:
    """What a change of the keys did.

    Attributes:
        position: of its event.
        at: when it came into force.
        use: what the keys sign.
        kid: the key that signs from then on.
        replaced: the key that does not any more, or counts no more.
        following: the key that is next.
        signs_from: when that may sign at the earliest.

    """

    position: int
    at: datetime
    use: KeyUse
    kid: str
    replaced: str
    following: str
    signs_from: datetime
