"""A call over the port and back: what the door says is what the issuer hears."""

from dataclasses import fields, is_dataclass
from typing import Any, Final

from broker.errors import Refusal
from broker.issuer.convert_exchange import decode_exchange_calls, encode_exchange_call
from broker.issuer.port import ExchangeCall
from broker.issuer.v1 import port_pb2 as v1
from broker.issuer.verb import Verb
from broker.issuer.verbs import VERBS


class _Named:
    """An issuer that says which of its methods was called."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: name


BY_METHOD: Final[dict[str, Verb[Any, Any]]] = {str(verb.ask(_Named(), None)): verb for verb in VERBS.values()}


def heard(method: str, call: Any) -> Any:
    """Return a call as the issuer decodes what the door encoded of it."""
    verb = BY_METHOD[method]
    message = verb.encode_call(call)
    return verb.decode_call(type(message).FromString(message.SerializeToString()))


def heard_exchange(call: ExchangeCall) -> Any:
    """Return an exchange as the issuer decodes it; a Refusal when it cannot."""
    sent = v1.ExchangeCalls(calls=[encode_exchange_call(call)]).SerializeToString()
    (found,) = decode_exchange_calls(v1.ExchangeCalls.FromString(sent))
    return found


def plain(value: Any) -> Any:
    """Return a value that equals another that means the same: refusals are exceptions, equal only to themselves."""
    if isinstance(value, Refusal):
        own = value.sentence == value.reason.meaning.sentence
        return (value.reason, value.detail, value.policy_ids, value.decision_id, "" if own else value.sentence)
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value).__name__, *(plain(getattr(value, each.name)) for each in fields(value)))
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value
