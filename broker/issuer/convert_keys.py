"""Calls and answers about keys ⇄ messages of the port."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from broker.credential.ring import KeyState, KeyUse
from broker.issuer.convert import (
    MAX_ID,
    MAX_TEXT,
    bounded,
    decode_context,
    encode_context,
    from_microseconds,
    to_microseconds,
)
from broker.issuer.port import KeyList, KeysChanged, ListedKey, RotateKeysCall
from broker.issuer.v1 import port_pb2 as v1

_USES: Final[Mapping[KeyUse, v1.KeyUse.ValueType]] = {
    KeyUse.TOKENS: v1.KEY_USE_TOKENS,
    KeyUse.CHECKPOINTS: v1.KEY_USE_CHECKPOINTS,
}
_USES_BACK: Final = {message: use for use, message in _USES.items()}
_STATES: Final[Mapping[KeyState, v1.KeyState.ValueType]] = {
    KeyState.NEXT: v1.KEY_STATE_NEXT,
    KeyState.CURRENT: v1.KEY_STATE_CURRENT,
    KeyState.RETIRED: v1.KEY_STATE_RETIRED,
}
_STATES_BACK: Final = {message: state for state, message in _STATES.items()}


def encode_rotate_keys(call: RotateKeysCall) -> v1.RotateKeysCall:
    """Return the message of a change of the keys."""
    return v1.RotateKeysCall(
        context=encode_context(call.context),
        use=v1.KEY_USE_UNSPECIFIED if call.use is None else _USES[call.use],
        emergency=call.emergency,
        text=call.text,
        request_id=call.request_id,
    )


def decode_rotate_keys(message: v1.RotateKeysCall) -> RotateKeysCall:
    """Return a change of the keys."""
    return RotateKeysCall(
        context=decode_context(message.context),
        use=None if message.use == v1.KEY_USE_UNSPECIFIED else _USES_BACK[message.use],
        emergency=bounded(message.emergency, MAX_ID, "emergency"),
        text=bounded(message.text, MAX_TEXT, "text"),
        request_id=bounded(message.request_id, MAX_ID, "request_id"),
    )


def encode_key_list(found: KeyList) -> v1.KeyList:
    """Return the message of the keys."""
    return v1.KeyList(keys=[_encode_listed(key) for key in found.keys])


def decode_key_list(message: v1.KeyList) -> KeyList:
    """Return the keys."""
    return KeyList(keys=tuple(_decode_listed(key) for key in message.keys))


def _encode_listed(key: ListedKey) -> v1.ListedKey:
    return v1.ListedKey(
        kid=key.kid,
        use=_USES[key.use],
        state=_STATES[key.state],
        algorithm=key.algorithm,
        published_us=_time(key.published),
        activated_us=_time(key.activated),
        retired_us=_time(key.retired),
        signs_from_us=_time(key.signs_from),
        signs_until_us=_time(key.signs_until),
        published_until_us=_time(key.published_until),
        verifier_key=key.verifier_key,
        endorsement=key.endorsement,
    )


def _decode_listed(message: v1.ListedKey) -> ListedKey:
    return ListedKey(
        kid=message.kid,
        use=_USES_BACK[message.use],
        state=_STATES_BACK[message.state],
        algorithm=message.algorithm,
        published=_at(message.published_us, there=message.HasField("published_us")),
        activated=_at(message.activated_us, there=message.HasField("activated_us")),
        retired=_at(message.retired_us, there=message.HasField("retired_us")),
        signs_from=_at(message.signs_from_us, there=message.HasField("signs_from_us")),
        signs_until=_at(message.signs_until_us, there=message.HasField("signs_until_us")),
        published_until=_at(message.published_until_us, there=message.HasField("published_until_us")),
        verifier_key=message.verifier_key,
        endorsement=message.endorsement,
    )


def _time(at: datetime | None) -> int | None:
    return None if at is None else to_microseconds(at)


def _at(microseconds: int, *, there: bool) -> datetime | None:
    return from_microseconds(microseconds) if there else None


def encode_keys_changed(changed: KeysChanged) -> v1.KeysChanged:
    """Return the message of what a change of the keys did."""
    return v1.KeysChanged(
        position=changed.position,
        at_us=to_microseconds(changed.at),
        use=_USES[changed.use],
        kid=changed.kid,
        replaced=changed.replaced,
        following=changed.following,
        signs_from_us=to_microseconds(changed.signs_from),
    )


def decode_keys_changed(message: v1.KeysChanged) -> KeysChanged:
    """Return what a change of the keys did."""
    return KeysChanged(
        position=message.position,
        at=from_microseconds(message.at_us),
        use=_USES_BACK[message.use],
        kid=message.kid,
        replaced=message.replaced,
        following=message.following,
        signs_from=from_microseconds(message.signs_from_us),
    )
