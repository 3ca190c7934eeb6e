"""The event of a redemption."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from broker.audit.entry import Caller, Decided


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRedeemed:
    """A service spent a credential that is good once; it acts only after this was durable.

    The caller is the service, `agent` whose credential it is, `call_digest` what it was spent on. Asked again with the
    same key, the service is answered from what was recorded here, without another event.
    """

    TYPE: ClassVar = "credential.redeemed"
    at: datetime
    caller: Caller
    decided: Decided
    tenant: str
    task: str
    transaction: str
    credential: str
    agent: str
    call_digest: str
