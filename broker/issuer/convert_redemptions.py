"""Calls and answers about redemptions ⇄ messages of the port."""

from broker.issuer.convert import (
    MAX_ID,
    MAX_NAME,
    bounded,
    decode_context,
    encode_context,
    from_microseconds,
    to_microseconds,
)
from broker.issuer.port import RedeemCall, Redeemed
from broker.issuer.v1 import port_pb2 as v1


def encode_redeem(call: RedeemCall) -> v1.RedeemCall:
    """Return the message of a credential to spend."""
    return v1.RedeemCall(
        context=encode_context(call.context), credential=call.credential, call_digest=call.call_digest, key=call.key
    )


def decode_redeem(message: v1.RedeemCall) -> RedeemCall:
    """Return a credential to spend."""
    return RedeemCall(
        context=decode_context(message.context),
        credential=bounded(message.credential, MAX_ID, "credential"),
        call_digest=bounded(message.call_digest, MAX_NAME, "call_digest"),
        key=bounded(message.key, MAX_ID, "key"),
    )


def encode_redeemed(redeemed: Redeemed) -> v1.Redeemed:
    """Return the message of a credential that was spent."""
    return v1.Redeemed(position=redeemed.position, at_us=to_microseconds(redeemed.at))


def decode_redeemed(message: v1.Redeemed) -> Redeemed:
    """Return a credential that was spent."""
    return Redeemed(position=message.position, at=from_microseconds(message.at_us))
