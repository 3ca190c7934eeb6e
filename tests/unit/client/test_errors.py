"""Statuses as errors, whatever a server sends."""

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc.aio import AioRpcError, Metadata

from broker.client import errors
from broker.errors import Category, Reason, Refusal
from broker.server.status import status_of


def failed(
    status: Status | bytes | None, code: grpc.StatusCode = grpc.StatusCode.PERMISSION_DENIED, details: str = "d"
) -> AioRpcError:
    raw = status.SerializeToString() if isinstance(status, Status) else status
    trailing = Metadata() if raw is None else Metadata(("grpc-status-details-bin", raw))
    return AioRpcError(code, Metadata(), trailing, details)


def test_every_category_has_a_class_of_its_own() -> None:
    assert errors.CLASSES.keys() == set(Category)
    assert len(set(errors.CLASSES.values())) == len(Category)


def test_a_reason_that_is_younger_than_the_sdk_keeps_its_name() -> None:
    status = status_of(Refusal(Reason.POLICY_FORBIDDEN), request="r")
    info = ErrorInfo(reason="FROM_THE_FUTURE", domain="broker.v1", metadata={"policy_ids": "a,b"})
    status.details[0].Pack(info)
    error = errors.from_rpc(failed(status), connection=None)
    assert isinstance(error, errors.Denied)
    assert (error.reason, error.policy_ids) == ("FROM_THE_FUTURE", ("a", "b"))


def other_domain() -> Status:
    status = Status(code=7, message="m")
    status.details.add().Pack(ErrorInfo(reason="POLICY_FORBIDDEN", domain="googleapis.com"))
    return status


def broken_detail() -> Status:
    return Status(code=7, details=[AnyMessage(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")])


def contradicting() -> Status:
    return status_of(Refusal(Reason.SVID_EXPIRED), request="r")


NOT_OURS = {
    "no details": None,
    "not a status": b"\xff\xff\xff",
    "another domain": other_domain(),
    "a detail that is broken": broken_detail(),
    "another code than the call's": contradicting(),
    "empty": b"",
}


@pytest.mark.parametrize("sent", NOT_OURS.values(), ids=NOT_OURS.keys())
def test_what_is_not_the_brokers_is_judged_by_its_code_alone(sent: Status | bytes | None) -> None:
    error = errors.from_rpc(failed(sent), connection=None)
    assert isinstance(error, errors.Denied)
    assert error.reason == "PERMISSION_DENIED"


NO_ANSWER = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED]


@pytest.mark.parametrize("code", NO_ANSWER, ids=lambda code: code.name)
def test_no_answer_tells_what_the_connection_knows(code: grpc.StatusCode) -> None:
    why = RuntimeError("the server is somebody else")
    error = errors.from_rpc(failed(None, code, "Socket closed"), connection=why)
    assert isinstance(error, errors.Unreachable)
    assert "somebody else" in str(error)
    assert error.__cause__ is why
    plain = errors.from_rpc(failed(None, code, "Socket closed"), connection=None)
    assert "Socket closed" in str(plain)


def test_an_answer_of_the_brokers_is_one_even_when_it_is_unavailable() -> None:
    status = status_of(Refusal(Reason.AUDIT_UNAVAILABLE), request="r")
    error = errors.from_rpc(failed(status, grpc.StatusCode.UNAVAILABLE), connection=RuntimeError("old"))
    assert isinstance(error, errors.Unavailable)
    assert error.reason is Reason.AUDIT_UNAVAILABLE


def test_a_refusal_found_here_is_the_same_class() -> None:
    error = errors.refused(Refusal(Reason.INTENT_PARAMETERS_NULL, "x"))
    assert isinstance(error, errors.InvalidRequest)
    assert (error.reason, error.detail) == (Reason.INTENT_PARAMETERS_NULL, "x")
    assert error.next_step == Reason.INTENT_PARAMETERS_NULL.meaning.next_step
