"""Refusal to gRPC status, as a guarded service answers it."""

from typing import Final

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from broker.errors import Category, Reason, Refusal

DOMAIN: Final = "broker.v1"
LOCALE: Final = "en"

# The caller is known and the credential is good, but not for this.
FORBIDDEN: Final = frozenset(
    {Reason.TOKEN_SCOPE_EXCEEDED, Reason.TOKEN_TENANT_MISMATCH, Reason.TOKEN_USE_REFUSED, Reason.CALL_UNMAPPED}
)
# Nothing is wrong with the call; later it may pass.
LATER: Final = frozenset({Reason.VIEW_STALE, Reason.KEY_SET_INVALID})

_CODES: Final = {
    Category.UNAUTHENTICATED: code_pb2.UNAUTHENTICATED,
    Category.INVALID: code_pb2.INVALID_ARGUMENT,
    Category.DENIED: code_pb2.PERMISSION_DENIED,
    Category.UNMET: code_pb2.FAILED_PRECONDITION,
    Category.UNKNOWN: code_pb2.NOT_FOUND,
    Category.CONFLICT: code_pb2.ALREADY_EXISTS,
    Category.OUT_OF_RANGE: code_pb2.OUT_OF_RANGE,
    Category.EXHAUSTED: code_pb2.RESOURCE_EXHAUSTED,
    Category.UNAVAILABLE: code_pb2.UNAVAILABLE,
    Category.TOKEN: code_pb2.UNAUTHENTICATED,
}


def to_status(refusal: Refusal) -> grpc.Status:
    """Return the status of a refusal, with ErrorInfo (stable reason) and a sentence for an end user."""
    code = _CODES[refusal.reason.category]
    if refusal.reason in FORBIDDEN:
        code = code_pb2.PERMISSION_DENIED
    elif refusal.reason in LATER:
        code = code_pb2.UNAVAILABLE
    # A refusal's detail may be a mapping's own words; the bound is ours, and says nothing of the call.
    metadata = {"bound": refusal.detail} if refusal.reason is Reason.VIEW_STALE and refusal.detail else {}
    details = (
        error_details_pb2.ErrorInfo(reason=refusal.reason.name, domain=DOMAIN, metadata=metadata),
        error_details_pb2.LocalizedMessage(locale=LOCALE, message=refusal.sentence),
    )
    status = status_pb2.Status(code=code, message=refusal.reason.meaning.next_step)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return rpc_status.to_status(status)
