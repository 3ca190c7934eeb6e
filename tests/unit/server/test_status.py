"""The table from refusals to statuses."""

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, LocalizedMessage

from broker.errors import Category, Reason, Refusal
from broker.server.status import CODES, code_of, status_of


def test_every_category_has_a_code_that_is_an_error() -> None:
    assert CODES.keys() == set(Category)
    assert grpc.StatusCode.OK not in CODES.values()


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_every_reason_has_a_whole_status(reason: Reason) -> None:
    status = status_of(Refusal(reason), request="req_1")
    info, localized = ErrorInfo(), LocalizedMessage()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(localized)
    assert status.code == code_of(reason).value[0]
    assert status.message == info.metadata["next_step"] == reason.meaning.next_step
    assert (info.reason, info.domain, info.metadata["request"]) == (reason.name, "broker.v1", "req_1")
    assert (localized.locale, localized.message) == ("en", reason.meaning.sentence)


def test_a_defect_is_no_reason_to_ask_again() -> None:
    assert code_of(Reason.INTERNAL) is grpc.StatusCode.INTERNAL
    assert code_of(Reason.AUDIT_UNAVAILABLE) is grpc.StatusCode.UNAVAILABLE


def test_a_status_fits_the_metadata_that_clients_take() -> None:
    """GRPC clients refuse more than 8 KiB of trailing metadata by default, and details go in base64."""
    refusal = Refusal(
        Reason.POLICY_FORBIDDEN,
        "d" * 10_000,
        policy_ids=tuple(f"policy-{number}" for number in range(5000)),
        sentence="é" * 10_000,
        decision_id="dec_1",
    )
    status = status_of(refusal, request="req_1")
    assert status.ByteSize() * 4 / 3 + len(status.message.encode()) * 3 < 8192
    info = ErrorInfo()
    status.details[0].Unpack(info)
    ids = info.metadata["policy_ids"].split(",")
    assert ids == [f"policy-{number}" for number in range(len(ids))]  # whole ones
    assert len(ids) > 100
