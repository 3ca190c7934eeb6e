"""The agent's side: a session with the broker, exchanges, and channels to the services that the credentials are for.

    async with broker.client.connect("broker.example.org:8443", broker_id="spiffe://example.org/broker") as session:
        credential = await session.exchange(
            action="order.read", resource=("order", "1234"), purpose="support", audience="spiffe://example.org/orders"
        )
        channel = session.channel("spiffe://example.org/orders", "orders.example.org:8443", credential=credential)
        await OrdersStub(channel).Get(request, metadata=credential.metadata())

What the broker refuses is a RefusedError, in classes by category, with its stable reason and a sentence for an end
user.
"""

from broker.client.credential import Credential, Ending, KeySet, Task
from broker.client.errors import (
    BrokerError,
    Conflict,
    Denied,
    Exhausted,
    InvalidRequest,
    OutOfRange,
    RefusedError,
    TokenRefused,
    Unauthenticated,
    Unavailable,
    Unknown,
    Unmet,
    Unreachable,
)
from broker.client.session import Session, connect

__all__ = [
    "BrokerError",
    "Conflict",
    "Credential",
    "Denied",
    "Ending",
    "Exhausted",
    "InvalidRequest",
    "KeySet",
    "OutOfRange",
    "RefusedError",
    "Session",
    "Task",
    "TokenRefused",
    "Unauthenticated",
    "Unavailable",
    "Unknown",
    "Unmet",
    "Unreachable",
    "connect",
]
