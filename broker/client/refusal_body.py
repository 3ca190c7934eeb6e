"""The body in which a guarded HTTP service says no: our middleware's, told from every other answer."""

import json
from typing import Any, Final

from broker.client.errors import RefusedError, refused
from broker.errors import Reason, Refusal

_STATUSES: Final = frozenset({400, 401, 403, 404, 409, 429, 503})
_LONGEST: Final = 4096  # bytes
_MEMBERS: Final = frozenset({"reason", "message", "next_step"})


def may_be_refusal(response: Any) -> bool:  # noqa: ANN401 - a response of either line of httpx
    """Whether the body is worth reading for it; it says how short it is."""
    headers = response.headers
    length = headers.get("content-length", "")
    return (
        response.status_code in _STATUSES
        and headers.get("content-type") == "application/json"
        and "content-encoding" not in headers
        and length.isascii()
        and length.isdigit()
        and len(length) <= len(str(_LONGEST))
        and int(length) <= _LONGEST
    )


def refusal_in(content: bytes) -> RefusedError | None:
    """Return the refusal that a body is, in this SDK's own words; None for anybody else's body."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or told.keys() - {"bound"} != _MEMBERS or not isinstance(told["reason"], str):
        return None
    reason = Reason.__members__.get(told["reason"])
    return refused(Refusal(reason)) if reason else None
