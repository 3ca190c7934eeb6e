"""The agent's side: a session with the broker, exchanges, and channels to the services that the credentials are for.

    async with broker.client.connect("broker.example.org:8443", broker_id="spiffe://example.org/broker") as session:
        channel = session.channel(
            "spiffe://example.org/orders",
            "orders.example.org:8443",
            intents={
                "/orders.v1.Orders/Get": lambda request: Ask(
                    action="order.read", resource=("order", request.order_id), purpose="support"
                )
            },
        )
        order = await OrdersStub(channel).Get(GetRequest(order_id="1234"))

Each call declares its intent, gets a credential for it, and is made with it. `session.exchange` gives a credential by
itself.

What the broker refuses is a RefusedError, in classes by category, with its stable reason and a sentence for an end
user.
"""

from broker.client.approval import Answered, Approval, ApprovalDetails, Requirement
from broker.client.ask import Ask
from broker.client.bookmark import BookmarkInvalid
from broker.client.credential import Continued, Credential, Ending, Key, KeySet, Override, Rotation, Task
from broker.client.cursors import CursorFile, Cursors, CursorUnusable
from broker.client.drifted import DriftedTask
from broker.client.errors import (
    BrokerError,
    Conflict,
    Denied,
    Exhausted,
    InvalidRequest,
    OutOfRange,
    RefusedError,
    StepUpRequired,
    TokenRefused,
    Unauthenticated,
    Unavailable,
    Undeclared,
    Unknown,
    Unmet,
    Unreachable,
)
from broker.client.session import Session, connect
from broker.client.streams import Gap
from broker.client.subscriber import Fork, Received, Subscriber, follow_audit, follow_revocations
from broker.client.trail import Trail, led_by, trail_of
from broker.credential.revocation import RuleKind
from broker.intent import Level, Resource

__all__ = [
    "Answered",
    "Approval",
    "ApprovalDetails",
    "Ask",
    "BookmarkInvalid",
    "BrokerError",
    "Conflict",
    "Continued",
    "Credential",
    "CursorFile",
    "CursorUnusable",
    "Cursors",
    "Denied",
    "DriftedTask",
    "Ending",
    "Exhausted",
    "Fork",
    "Gap",
    "InvalidRequest",
    "Key",
    "KeySet",
    "Level",
    "OutOfRange",
    "Override",
    "Received",
    "RefusedError",
    "Requirement",
    "Resource",
    "Rotation",
    "RuleKind",
    "Session",
    "StepUpRequired",
    "Subscriber",
    "Task",
    "TokenRefused",
    "Trail",
    "Unauthenticated",
    "Unavailable",
    "Undeclared",
    "Unknown",
    "Unmet",
    "Unreachable",
    "connect",
    "follow_audit",
    "follow_revocations",
    "led_by",
    "trail_of",
]
