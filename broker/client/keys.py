"""Keys, as the wire has them and as a session hands them out."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from broker.client.credential import Key, Rotation
from broker.client.decode import time_of
from broker.v1 import keys_pb2

USES: Final[Mapping[str, keys_pb2.KeyUse.ValueType]] = MappingProxyType(
    {"tokens": keys_pb2.KEY_USE_TOKENS, "checkpoints": keys_pb2.KEY_USE_CHECKPOINTS}
)
_USES_BACK: Final = MappingProxyType({message: use for use, message in USES.items()})
_STATES: Final = MappingProxyType(
    {
        keys_pb2.KEY_STATE_NEXT: "next",
        keys_pb2.KEY_STATE_CURRENT: "current",
        keys_pb2.KEY_STATE_RETIRED: "retired",
    }
)


def use_of(name: str) -> keys_pb2.KeyUse.ValueType:
    """Return the message of a use.

    Raises:
        ValueError: it is neither "tokens" nor "checkpoints".

    """
    if name not in USES:
        raise ValueError(f"a use is one of {', '.join(USES)}")
    return USES[name]


def key_of(message: keys_pb2.Key) -> Key:
    """Return a key; a use or state of a later release is shown as "other"."""

    def at(name: str) -> datetime | None:
        return time_of(getattr(message, name)) if name in present else None

    present = {field.name for field, _ in message.ListFields()}
    return Key(
        kid=message.kid,
        use=_USES_BACK.get(message.use, "other"),
        state=_STATES.get(message.state, "other"),
        algorithm=message.algorithm,
        published_at=at("published_at"),
        activated_at=at("activated_at"),
        retired_at=at("retired_at"),
        signs_from=at("signs_from"),
        signs_until=at("signs_until"),
        published_until=at("published_until"),
        verifier_key=message.verifier_key,
        endorsement=message.endorsement,
    )


def rotation_of(message: keys_pb2.RotateKeysResponse) -> Rotation:
    """Return what a change of the keys did."""
    return Rotation(
        position=message.position,
        at=time_of(message.at),
        use=_USES_BACK.get(message.use, "other"),
        kid=message.kid,
        replaced=message.replaced_kid,
        following=message.next_kid,
        signs_from=time_of(message.next_signs_from),
    )
