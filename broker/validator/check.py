"""Check: one token, one call, at one moment: what the token says, or a refusal."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from broker.credential.claims import VerifiedToken
from broker.credential.strict import require_plain
from broker.credential.verify import LEEWAY, check_time, verify
from broker.errors import Reason, Refusal
from broker.intent import Resource
from broker.scope import Scope
from broker.validator.bounds import Bounds, Impact, Within, named
from broker.validator.call import Call, Prepared
from broker.validator.view import RevocationView

_KEY_LENGTH: Final = 40
_READ, _WRITE, _HIGH = Impact.READ, Impact.WRITE, Impact.HIGH
_Until: TypeAlias = tuple[datetime, float] | None

Membership: TypeAlias = Callable[[str, Resource], bool]
"""Whether a concrete resource belongs to a declared set, by the set's name. The service knows; nobody else does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """How many verified tokens are remembered.

    Attributes:
        tokens: how many at most.
        characters: how long their texts are together at most; what a token says takes a few times its text.

    """

    tokens: int = 4096
    characters: int = 8 * 1024 * 1024


class _Remembered:
    """A verified token, with what each check needs of it, in easy reach. What can change is not in it."""

    __slots__ = ("begins", "covers", "ends", "many", "status_index", "tenant", "text", "thumbprint", "verified")

    def __init__(self, text: str, verified: VerifiedToken) -> None:
        self.text = text
        self.verified = verified
        self.begins = max(verified.not_before, verified.issued_at) - LEEWAY
        self.ends = verified.expires_at
        self.thumbprint = verified.thumbprint
        self.status_index = verified.status_index
        self.many = verified.use == "many"
        self.tenant = verified.tenant
        self.covers = Prepared(verified.scope).covers


class Validator:
    """Checks credentials for one service.

    A verified token is remembered by its text, so that its signature is checked once; everything that can change is
    looked at on every call. A call whose token is remembered and that is certainly good passes at once (`_passes`); any
    other one goes through the numbered steps, and only they refuse. What is good once never passes at once. For one
    event loop or thread.

    Args:
        issuer: the broker's `iss`.
        audience: own SPIFFE ID as the policy bundle registers it.
        view: kept current by a Feed.
        bounds: how old the view may be; beyond that everything is refused.
        membership: without it, tokens for declared sets are refused.
        memory: how many verified tokens are remembered at most.

    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        view: RevocationView,
        bounds: Bounds | None = None,
        membership: Membership | None = None,
        memory: Memory | None = None,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._view = view
        self._bounds = bounds or Bounds()
        self._membership = membership
        self._memory = memory or Memory()
        self._tokens: OrderedDict[str, _Remembered] = OrderedDict()
        self._characters = 0
        self._key_epoch = view.key_epoch
        self._version = -1
        self._until: tuple[_Until, _Until, _Until] = (None, None, None)

    def check(
        self,
        token: str,
        call: Call,
        *,
        caller_thumbprint: str,
        now: datetime,
        within: Within = Impact.WRITE,
        redeems: bool = False,
    ) -> VerifiedToken:
        """Return what a token says, when it covers this call by this caller at this moment.

        Args:
            token: as the caller sent it.
            call: what would be done.
            caller_thumbprint: x5t#S256 of the leaf that the caller's connection proved to hold.
            now: UTC.
            within: the class of the call, or a bound of its own on the age of the view.
            redeems: whether the caller spends what is good once before it acts; without, such a token is refused.

        Raises:
            Refusal: VIEW_STALE or TOKEN_*, the first of the numbered steps here and in `admit` that fails.

        """
        verified = self._passes(token, call, caller_thumbprint, now, within)
        if verified is not None:
            return verified
        verified = self.admit(token, caller_thumbprint=caller_thumbprint, now=now, within=within, redeems=redeems)
        # 7. The resource belongs to the tenant that the token is pinned to.
        if call.tenant != verified.tenant:
            raise Refusal(Reason.TOKEN_TENANT_MISMATCH)
        # 8. The token covers action, resource and every parameter.
        if not self._covers(verified.scope, call):
            raise Refusal(Reason.TOKEN_SCOPE_EXCEEDED)
        return verified

    def known(self, token: str) -> VerifiedToken | None:
        """Return what a token says whose signature and claims have been verified here lately; no more is said of it."""
        remembered = self._find(token)
        return remembered.verified if remembered else None

    def admit(
        self,
        token: str,
        *,
        caller_thumbprint: str,
        now: datetime,
        within: Within = Impact.WRITE,
        redeems: bool = False,
    ) -> VerifiedToken:
        """Return what a token says, when it is this caller's and counts at this moment; what for is still open.

        Raises:
            Refusal: as `check`.

        """
        # 1. The view of revocations and keys is fresh enough to judge at all.
        bound = self._bounds.of(within)
        if not self._view.is_fresh(now, bound):
            raise Refusal(Reason.VIEW_STALE, named(within, bound))
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
        # 6. It need not be redeemed, or will be: nothing here could remember that it was.
        if verified.use != "many" and not redeems:
            raise Refusal(Reason.TOKEN_USE_REFUSED)
        return verified

    def _passes(
        self, token: str, call: Call, caller_thumbprint: str, now: datetime, within: Within
    ) -> VerifiedToken | None:
        """Return what a remembered token says when every step is certain to pass; None: the steps decide."""
        view = self._view
        if self._version != view.version:
            self._renew()
        read, write, high = self._until
        until = read if within is _READ else write if within is _WRITE else high if within is _HIGH else None
        remembered = self._find(token)
        if (
            until is None
            or now > until[0]
            or view.tick() > until[1]
            or remembered is None
            or not remembered.begins <= now < remembered.ends
            or remembered.thumbprint != caller_thumbprint
            or view.is_revoked(remembered.status_index)
            or not remembered.many
            or remembered.tenant != call.tenant
            or not remembered.covers(call)
        ):
            return None
        return remembered.verified

    def _renew(self) -> None:
        """Work out anew what hangs on the view."""
        view, bounds = self._view, self._bounds
        if self._key_epoch != view.key_epoch:
            self._tokens.clear()
            self._characters = 0
            self._key_epoch = view.key_epoch
        read, write, high = (view.fresh_until(bound) for bound in (bounds.read, bounds.write, bounds.high))
        self._until = (read, write, high)
        self._version = view.version

    def _find(self, token: str) -> _Remembered | None:
        """Return a token that was verified, by the end of its text, which is in its signature, and then all of it."""
        if type(token) is not str:
            return None
        key = token[-_KEY_LENGTH:]
        remembered = self._tokens.get(key)
        if remembered is None or remembered.text != token:
            return None
        self._tokens.move_to_end(key)
        return remembered

    def _verify(self, token: str, now: datetime) -> VerifiedToken:
        if self._version != self._view.version:
            self._renew()
        remembered = self._find(token)
        if remembered is not None:
            return remembered.verified
        if type(token) is not str:
            raise Refusal(Reason.TOKEN_MALFORMED)
        verified = verify(token, keys=self._view.keys, issuer=self._issuer, audience=self._audience, now=now)
        self._remember(_Remembered(token, verified))
        return verified

    def _remember(self, remembered: _Remembered) -> None:
        self._forget(remembered.text[-_KEY_LENGTH:])
        self._tokens[remembered.text[-_KEY_LENGTH:]] = remembered
        self._characters += len(remembered.text)
        while len(self._tokens) > self._memory.tokens or self._characters > self._memory.characters:
            self._forget(next(iter(self._tokens)))

    def _forget(self, key: str) -> None:
        forgotten = self._tokens.pop(key, None)
        self._characters -= 0 if forgotten is None else len(forgotten.text)

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
