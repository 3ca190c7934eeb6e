"""Check: one token, one call, at one moment: what the token says, or a refusal."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from broker.credential.claims import VerifiedToken
from broker.credential.strict import require_plain
from broker.credential.verify import MAX_TOKEN_LENGTH, check_time, verify
from broker.errors import Reason, Refusal
from broker.intent import Json, Resource
from broker.scope import Scope
from broker.validator.view import RevocationView

MAX_STALENESS: Final = timedelta(seconds=10)
REMEMBERED: Final = 4096

Membership: TypeAlias = Callable[[str, Resource], bool]
"""Whether a concrete resource belongs to a declared set, by the set's name. The service knows; nobody else does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one call touches, as the service sees it.

    Attributes:
        action: the action's name in the policy bundle.
        resource: the one resource that is touched.
        tenant: the tenant that owns the resource.
        parameters: those of the intent, with the values that this call has; personal, so not shown.

    """

    action: str
    resource: Resource
    tenant: str
    parameters: Mapping[str, Json] = field(default_factory=dict, repr=False)


class Validator:
    """Checks credentials for one service.

    A verified token is remembered by the digest of its text, so that its signature is checked once; everything that can
    change is looked at on every call. For one event loop or thread.

    Args:
        issuer: the broker's `iss`.
        audience: own SPIFFE ID as the policy bundle registers it.
        view: kept current by a Feed.
        max_staleness: how old the view may be; beyond it everything is refused.
        membership: without it, tokens for declared sets are refused.
        remembered: how many verified tokens are remembered at most.

    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        view: RevocationView,
        max_staleness: timedelta = MAX_STALENESS,
        membership: Membership | None = None,
        remembered: int = REMEMBERED,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._view = view
        self._max_staleness = max_staleness
        self._membership = membership
        self._remembered = remembered
        self._verified: OrderedDict[bytes, VerifiedToken] = OrderedDict()
        self._key_epoch = view.key_epoch

    def check(self, token: str, call: Call, *, caller_thumbprint: str, now: datetime) -> VerifiedToken:
        """Return what a token says, when it covers this call by this caller at this moment.

        Args:
            token: as the caller sent it.
            call: what would be done.
            caller_thumbprint: x5t#S256 of the leaf that the caller's connection proved to hold.
            now: UTC.

        Raises:
            Refusal: VIEW_STALE or TOKEN_*, the first of the numbered steps here and in `admit` that fails.

        """
        verified = self.admit(token, caller_thumbprint=caller_thumbprint, now=now)
        # 7. The resource belongs to the tenant that the token is pinned to.
        if call.tenant != verified.tenant:
            raise Refusal(Reason.TOKEN_TENANT_MISMATCH)
        # 8. The token covers action, resource and every parameter.
        if not self._covers(verified.scope, call):
            raise Refusal(Reason.TOKEN_SCOPE_EXCEEDED)
        return verified

    def admit(self, token: str, *, caller_thumbprint: str, now: datetime) -> VerifiedToken:
        """Return what a token says, when it is this caller's and counts at this moment; what for is still open.

        Raises:
            Refusal: as `check`.

        """
        # 1. The view of revocations and keys is fresh enough to judge at all.
        self._view.require_fresh(now, self._max_staleness)
        # 2. Form, key, signature, claims, issuer, audience: once a token, until the keys change.
        verified = self._verify(token, now)
        # 3. Time.
        check_time(verified, now)
        # 4. The caller holds the key that the token is bound to (RFC 8705 section 3).
        if verified.thumbprint != caller_thumbprint:
            raise Refusal(Reason.TOKEN_HOLDER_MISMATCH)
        # 5. It was not revoked.
        if self._view.is_revoked(verified.status_index):
            raise Refusal(Reason.TOKEN_REVOKED)
        # 6. It need not be redeemed: nothing here could remember that it was.
        if verified.use != "many":
            raise Refusal(Reason.TOKEN_USE_REFUSED)
        return verified

    def _verify(self, token: str, now: datetime) -> VerifiedToken:
        if self._key_epoch != self._view.key_epoch:
            self._verified.clear()
            self._key_epoch = self._view.key_epoch
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():  # before it is hashed
            raise Refusal(Reason.TOKEN_MALFORMED)
        digest = hashlib.sha256(token.encode("ascii")).digest()  # not the text: it is a secret
        verified = self._verified.get(digest)
        if verified is not None:
            self._verified.move_to_end(digest)
            return verified
        verified = verify(token, keys=self._view.keys, issuer=self._issuer, audience=self._audience, now=now)
        self._verified[digest] = verified
        if len(self._verified) > self._remembered:
            self._verified.popitem(last=False)
        return verified

    def _covers(self, scope: Scope, call: Call) -> bool:
        try:
            require_plain(call.parameters)
        except (ValueError, RecursionError):  # nothing that a token could name
            return False
        if not scope.resource.set:
            return scope.covers(call.action, call.resource, call.parameters)
        return self._is_member(scope.resource, call.resource) and scope.covers(
            call.action, scope.resource, call.parameters
        )

    def _is_member(self, declared: Resource, resource: Resource) -> bool:
        if self._membership is None or declared.type != resource.type:
            return False
        return resource == declared or self._membership(declared.set, resource) is True
