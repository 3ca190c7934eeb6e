"""What approvals need, composed: who sees which, and how a held intent opens one."""

import secrets

from broker.app.ids import new_id
from broker.operations.approval_views import Views
from broker.operations.approver import Approvers, VerifyIdentity
from broker.operations.attempt import Attempt
from broker.operations.history import RecentActs
from broker.operations.holding import Holding
from broker.store.interface import Store


def holding(store: Store) -> Holding:
    """Return what takes held intents."""
    return Holding(store=store, nonce=lambda: secrets.token_urlsafe(16), new_id=new_id)


def views(attempt: Attempt, acts: RecentActs, verify: VerifyIdentity) -> Views:
    """Return who sees which approvals."""
    return Views(attempt=attempt, approver=Approvers(policy=attempt.policy, verify=verify), acts=acts)
