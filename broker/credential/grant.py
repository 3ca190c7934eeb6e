"""Grant: the record of what was given."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from broker.errors import Reason, Refusal
from broker.scope import Scope

MINIMUM_LIFETIME = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one credential carries.

    Attributes:
        credential_id: cred_ and a UUIDv7; the token's jti.
        agent: SPIFFE ID of the agent.
        tenant: the tenant it is pinned to.
        task: id of its task, or empty.
        transaction_id: txn_ and a UUIDv7; one an exchange, kept when reissued.
        scope: what it covers, with its one audience.
        intent_digest: of the intent that was decided.
        thumbprint: x5t#S256 of the leaf that asked (RFC 8705 section 3.1).
        status_index: dense index in the audience's list.
        policy_ids: the policies that permitted it.
        issued_at: UTC, whole seconds.
        expires_at: UTC, whole seconds.
        use: how often it may be used; "once": a service redeems it at the broker before it acts.

    """

    credential_id: str
    agent: str
    tenant: str
    task: str
    transaction_id: str
    scope: Scope
    intent_digest: str
    thumbprint: str
    status_index: int
    policy_ids: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime
    use: Literal["many", "once"] = "many"


def expiry(
    *,
    now: datetime,
    policy: timedelta,
    requested: timedelta | None,
    svid_end: datetime,
    task_deadline: datetime | None,
) -> datetime:
    """Return when a credential issued now ends: the earliest of every bound, in whole seconds.

    Raises:
        Refusal: LIFETIME_EXHAUSTED when less than a second is left.

    """
    bounds = [now + policy, svid_end]
    if requested is not None:
        bounds.append(now + requested)
    if task_deadline is not None:
        bounds.append(task_deadline)
    end = min(bounds).replace(microsecond=0)
    if end - now.replace(microsecond=0) < MINIMUM_LIFETIME:
        raise Refusal(Reason.LIFETIME_EXHAUSTED)
    return end
