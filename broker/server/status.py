"""Status: a refusal as gRPC says it. One table from category to code, total; what a client reads is in ErrorInfo.

`google.rpc.Status`: `message` is the developer's sentence, `ErrorInfo` the stable reason with what belongs to it,
`LocalizedMessage` the sentence that an end user may see. No value of the request, and no exception's text, is in it.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, LocalizedMessage
from google.rpc.status_pb2 import Status

from broker.errors import Category, Held, Reason, Refusal

DOMAIN: Final = "broker.v1"
LOCALE: Final = "en"

# Trailing metadata is bounded by what clients accept (8 KiB by default, and base64 makes it a third longer).
_MAX_POLICY_IDS: Final = 2048
_MAX_TEXT: Final = 512

CODES: Final[Mapping[Category, grpc.StatusCode]] = MappingProxyType(
    {
        Category.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
        Category.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
        Category.DENIED: grpc.StatusCode.PERMISSION_DENIED,
        Category.UNMET: grpc.StatusCode.FAILED_PRECONDITION,
        Category.UNKNOWN: grpc.StatusCode.NOT_FOUND,
        Category.CONFLICT: grpc.StatusCode.ALREADY_EXISTS,
        Category.OUT_OF_RANGE: grpc.StatusCode.OUT_OF_RANGE,
        Category.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
        Category.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
        Category.TOKEN: grpc.StatusCode.PERMISSION_DENIED,
    }
)


def code_of(reason: Reason) -> grpc.StatusCode:
    """Return the code of a reason: its category's; a defect is INTERNAL, so that no client asks again by itself."""
    return grpc.StatusCode.INTERNAL if reason is Reason.INTERNAL else CODES[reason.category]


def status_of(refusal: Refusal, *, request: str) -> Status:
    """Return the status of a refusal.

    Args:
        refusal: what was refused.
        request: the door's id of the call, which its log line names.

    """
    meaning = refusal.reason.meaning
    detail = _shortened(refusal.detail, _MAX_TEXT)
    metadata = {
        "decision_id": refusal.decision_id,
        "policy_ids": _joined(refusal.policy_ids),
        "detail": detail,
        "next_step": meaning.next_step,
        "request": request,
        **_held(refusal.held),
    }
    info = ErrorInfo(
        reason=refusal.reason.name,
        domain=DOMAIN,
        metadata={name: value for name, value in metadata.items() if value},
    )
    status = Status(
        code=code_of(refusal.reason).value[0],
        message=f"{meaning.next_step} ({detail})" if detail else meaning.next_step,
    )
    status.details.add().Pack(info)
    status.details.add().Pack(LocalizedMessage(locale=LOCALE, message=_shortened(refusal.sentence, _MAX_TEXT)))
    return status


def _held(held: Held | None) -> dict[str, str]:
    """Return where to wait for people."""
    if held is None:
        return {}
    return {
        "approval_id": held.approval,
        "approval_kinds": ",".join(held.waits_for),
        "approval_until": held.until.isoformat(timespec="seconds").removesuffix("+00:00") + "Z",
    }


def _joined(policy_ids: Iterable[str]) -> str:
    """Join ids with commas, as many whole ones as fit."""
    taken: list[str] = []
    size = 0
    for policy_id in policy_ids:
        size += len(policy_id.encode()) + 1
        if size > _MAX_POLICY_IDS:
            break
        taken.append(policy_id)
    return ",".join(taken)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
