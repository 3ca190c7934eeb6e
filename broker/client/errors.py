"""What a call to the broker can raise: a refusal, by category, or that nobody could be asked.

BrokerError
├── RefusedError       the broker said no: .reason, .sentence, .next_step, .decision_id, .policy_ids
│   ├── Unauthenticated, InvalidRequest, Denied, Unmet, Unknown, Conflict, OutOfRange, Exhausted, Unavailable
│   ├── StepUpRequired of Unmet: a person has to approve it first: .approval_id, .waits_for, .until
│   └── TokenRefused   a service said no to a credential
├── Undeclared         a call over a channel that was not told what the call is about to do
└── Unreachable        no answer: .__cause__ says why, as far as the connection knows
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from types import MappingProxyType
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, LocalizedMessage
from google.rpc.status_pb2 import Status

from broker.errors import Category, Reason, Refusal

DOMAIN: Final = "broker.v1"
_DETAILS: Final = "grpc-status-details-bin"


class BrokerError(Exception):
    """A call to the broker did not give what was asked for."""


class Unreachable(BrokerError):
    """There was no answer. Nothing is known about whether the broker acted; an exchange may be asked again."""


class Undeclared(BrokerError):
    """Nothing was asked: the channel was not told what the method is about to do. It is not called without it."""


class RefusedError(BrokerError):
    """A "no" with its reason.

    Args:
        reason: the stable reason; its name alone when this SDK is older than the broker.
        message: for the developer.
        sentence: may be shown to an end user as it is.
        next_step: for the developer or operator.
        detail: a field's name or a rule; empty without.
        decision_id: of the decision, when policy decided.
        policy_ids: of the policies that decided.
        request: the broker's id of the request, which its log names.

    """

    def __init__(  # noqa: PLR0913 - each is a word of its own, and all are named
        self,
        *,
        reason: Reason | str,
        message: str,
        sentence: str = "",
        next_step: str = "",
        detail: str = "",
        decision_id: str = "",
        policy_ids: tuple[str, ...] = (),
        request: str = "",
    ) -> None:
        name = reason.name if isinstance(reason, Reason) else reason
        super().__init__(f"{name}: {message}")
        self.reason = reason
        self.sentence = sentence
        self.next_step = next_step
        self.detail = detail
        self.decision_id = decision_id
        self.policy_ids = policy_ids
        self.request = request


class Unauthenticated(RefusedError):
    """Who asks could not be established."""


class InvalidRequest(RefusedError):
    """The request cannot be understood."""


class Denied(RefusedError):
    """Understood, and not allowed."""


class Unmet(RefusedError):
    """Allowed only after something else happens."""


class StepUpRequired(Unmet):
    """A person has to approve it first, or has not decided yet. The sentence may be shown; waiting is for the caller.

    Attributes:
        approval_id: what to wait for, and to ask again with; empty when nobody can approve it.
        waits_for: who has to answer: "user", "authentication", "group:" and its name.
        until: until when they can, UTC; None when nobody can.

    """

    approval_id: str = ""
    waits_for: tuple[str, ...] = ()
    until: datetime | None = None


class Unknown(RefusedError):
    """Names something that does not exist."""


class Conflict(RefusedError):
    """A name that is already used for another."""


class OutOfRange(RefusedError):
    """A cursor that points nowhere."""


class Exhausted(RefusedError):
    """Over a limit."""


class Unavailable(RefusedError):
    """The broker cannot, now; nothing was given."""


class TokenRefused(RefusedError):
    """A service did not accept a credential."""


CLASSES: Final[Mapping[Category, type[RefusedError]]] = MappingProxyType(
    {
        Category.UNAUTHENTICATED: Unauthenticated,
        Category.INVALID: InvalidRequest,
        Category.DENIED: Denied,
        Category.UNMET: Unmet,
        Category.UNKNOWN: Unknown,
        Category.CONFLICT: Conflict,
        Category.OUT_OF_RANGE: OutOfRange,
        Category.EXHAUSTED: Exhausted,
        Category.UNAVAILABLE: Unavailable,
        Category.TOKEN: TokenRefused,
    }
)
_HELD: Final = frozenset({Reason.STEP_UP_REQUIRED, Reason.APPROVAL_PENDING})
# For a reason that is younger than this SDK.
_BY_CODE: Final[Mapping[int, type[RefusedError]]] = MappingProxyType(
    {
        grpc.StatusCode.UNAUTHENTICATED.value[0]: Unauthenticated,
        grpc.StatusCode.INVALID_ARGUMENT.value[0]: InvalidRequest,
        grpc.StatusCode.PERMISSION_DENIED.value[0]: Denied,
        grpc.StatusCode.FAILED_PRECONDITION.value[0]: Unmet,
        grpc.StatusCode.NOT_FOUND.value[0]: Unknown,
        grpc.StatusCode.ALREADY_EXISTS.value[0]: Conflict,
        grpc.StatusCode.OUT_OF_RANGE.value[0]: OutOfRange,
        grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]: Exhausted,
        grpc.StatusCode.UNAVAILABLE.value[0]: Unavailable,
        grpc.StatusCode.INTERNAL.value[0]: Unavailable,
    }
)
# What gRPC itself says when there is no connection, or no answer in time.
_NO_ANSWER: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)


def refused(refusal: Refusal) -> RefusedError:
    """Return the error of a refusal that was found on this side, before anything was sent."""
    meaning = refusal.reason.meaning
    return CLASSES[refusal.reason.category](
        reason=refusal.reason,
        message=f"{meaning.next_step} ({refusal.detail})" if refusal.detail else meaning.next_step,
        sentence=refusal.sentence,
        next_step=meaning.next_step,
        detail=refusal.detail,
    )


def from_status(status: Status) -> RefusedError | None:
    """Return the error that a status of the broker stands for; None when the status is not one of the broker's."""
    info, localized = ErrorInfo(), LocalizedMessage()
    try:
        for detail in status.details:
            detail.Unpack(info)  # takes its own kind only
            detail.Unpack(localized)
    except DecodeError:
        return None
    if info.domain != DOMAIN or not info.reason:
        return None
    reason = Reason.__members__.get(info.reason)
    kind = CLASSES[reason.category] if reason else _BY_CODE.get(status.code, RefusedError)
    kind = StepUpRequired if reason in _HELD else kind
    policy_ids = info.metadata.get("policy_ids", "")
    error = kind(
        reason=reason or info.reason,
        message=status.message,
        sentence=localized.message,
        next_step=info.metadata.get("next_step", ""),
        detail=info.metadata.get("detail", ""),
        decision_id=info.metadata.get("decision_id", ""),
        policy_ids=tuple(policy_ids.split(",")) if policy_ids else (),
        request=info.metadata.get("request", ""),
    )
    if isinstance(error, StepUpRequired):
        _tell_where_to_wait(error, info.metadata)
    return error


def _tell_where_to_wait(error: StepUpRequired, metadata: Mapping[str, str]) -> None:
    error.approval_id = metadata.get("approval_id", "")
    error.waits_for = tuple(filter(None, metadata.get("approval_kinds", "").split(",")))
    with suppress(ValueError):  # a form of a later release
        error.until = datetime.fromisoformat(metadata["approval_until"]) if "approval_until" in metadata else None


def from_rpc(error: grpc.aio.AioRpcError, *, connection: Exception | None) -> BrokerError:
    """Return the error of a failed call.

    Args:
        error: gRPC's.
        connection: why the newest connection failed, which gRPC itself does not say; None when it did not.

    """
    known = _status_of(error)
    found = from_status(known) if known else None
    if found is not None:
        return found
    code = error.code()
    if code in _NO_ANSWER:
        why = f"{connection}" if connection else f"{code.name}: {error.details()}"
        unreachable = Unreachable(f"The broker did not answer: {why}")
        unreachable.__cause__ = connection or error
        return unreachable
    kind = _BY_CODE.get(code.value[0], RefusedError)
    return kind(reason=code.name, message=error.details() or "")


def _status_of(error: grpc.aio.AioRpcError) -> Status | None:
    """Return the status in the call's trailing metadata; None when there is none, or one that contradicts the code."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            try:
                status = Status.FromString(value)
            except DecodeError:
                return None
            return status if status.code == error.code().value[0] else None
    return None
