"""What the clients ask for."""

import json
from typing import Final

from broker.intent import Json, Resource, call_digest
from broker.v1 import outcome_pb2, types_pb2
from tests.operations.world import ORDERS

READ: Final = "order.read"
REFUND: Final = "order.refund"
LARGE: Final = "order.refund_large"
_AMOUNT: Final[dict[str, Json]] = {"amount": 4200, "currency": "EUR"}
REFUND_PARAMETERS: Final = json.dumps(_AMOUNT)
LARGE_PARAMETERS: Final = json.dumps({"amount": 6000, "currency": "EUR"})
# What a refund is spent on.
REFUND_CALL: Final = call_digest(
    action=REFUND, resource=Resource(type="order", id="1234"), tenant="retail", parameters=_AMOUNT
)


def intent_of(action: str, *, task: str, parameters: str) -> types_pb2.Intent:
    """Return the intent to do something with an order."""
    return types_pb2.Intent(
        action=action,
        resource=types_pb2.Resource(type="order", id="1234"),
        parameters=parameters,
        purpose="customer-support",
        audience=ORDERS,
        task_id=task,
    )


def use_of(credential: str, report: str) -> outcome_pb2.Report:
    """Say that a credential was accepted; asked again, it must be the same to the last bit."""
    said = outcome_pb2.Report(report_id=report, credential_id=credential, accepted=outcome_pb2.Accepted())
    said.at.GetCurrentTime()
    return said


def failure_of(credential: str, use: str, report: str) -> outcome_pb2.Report:
    """Say that a use came to nothing."""
    outcome = outcome_pb2.Outcome(use_id=use, kind=outcome_pb2.OUTCOME_KIND_FAILED)
    said = outcome_pb2.Report(report_id=report, credential_id=credential, outcome=outcome)
    said.at.GetCurrentTime()
    return said
