"""Guard: one call's whole judgement, whatever door it came through."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from broker.credential.claims import VerifiedToken
from broker.errors import Reason, Refusal
from broker.svid.authenticate import Authenticator
from broker.svid.principal import Evidence, Principal, TrustBundles
from broker.validator.bounds import Impact, Mapped, Within
from broker.validator.call import Call
from broker.validator.check import Validator
from broker.validator.redeem import Redeemer
from broker.validator.reports import Reports, Use, begin

_LOG: Final = logging.getLogger(__name__)
_SCHEME: Final = "bearer "

judged: Final[ContextVar[VerifiedToken]] = ContextVar("verified_token")


class MappingError(Exception):
    """The methods of the guarded services and the mapping do not fit together; the message names them."""


def require_none(what: str, names: set[str]) -> None:
    """Refuse to start with any of these.

    Raises:
        MappingError: there is one.

    """
    if names:
        raise MappingError(f"{what}: {', '.join(sorted(names))}")


def verified_token() -> VerifiedToken:
    """Return the credential of the call that is being handled.

    Raises:
        LookupError: outside a guarded handler.

    """
    return judged.get()


def bearer(values: Sequence[object]) -> str:
    """Return the one bearer token of a call's authorization headers (RFC 6750 section 2.1).

    Raises:
        Refusal: TOKEN_MISSING, TOKEN_MALFORMED.

    """
    if not values:
        raise Refusal(Reason.TOKEN_MISSING)
    value = values[0]
    if len(values) > 1 or not isinstance(value, str) or value[: len(_SCHEME)].lower() != _SCHEME:
        raise Refusal(Reason.TOKEN_MALFORMED, "not exactly one `authorization: Bearer`")
    return value[len(_SCHEME) :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What a call is judged with.

    Attributes:
        validator: checks the credential.
        authenticator: proves the caller.
        bundles: what is trusted now.
        clock: UTC.
        redeemer: spends what is good once; without, such a credential is refused.
        reports: where uses and refusals are reported; without, nowhere.

    """

    validator: Validator
    authenticator: Authenticator
    bundles: Callable[[], TrustBundles]
    clock: Callable[[], datetime]
    redeemer: Redeemer | None = None
    reports: Reports | None = None

    def check(self, token: str, call: Call, *, evidence: Evidence, within: Within = Impact.WRITE) -> VerifiedToken:
        """Judge one call, here alone; nothing is reported, and what is good once is refused: see `accept`.

        Args:
            token: as the caller sent it, without "Bearer".
            call: what would be done.
            evidence: what the caller's TLS connection presented.
            within: the class of the call, or a bound of its own.

        Raises:
            Refusal: SVID_*, TLS_VERSION_REFUSED, TRUST_UNAVAILABLE, VIEW_STALE or TOKEN_*.

        """
        caller = self.authenticator.authenticate(evidence, self.bundles(), self.clock())
        thumbprint = caller.thumbprint
        verified = self.validator.check(token, call, caller_thumbprint=thumbprint, now=self.clock(), within=within)
        return _held_by(caller, verified)

    async def accept(
        self, token: str, call: Call, *, evidence: Evidence, within: Within = Impact.WRITE
    ) -> VerifiedToken:
        """Judge one call, for a door that has neither interceptor nor middleware here, and spend what is good once.

        From its return on the call has to be done, or given up: for another attempt the credential is spent. What comes
        of it is for the caller to say (see `outcome`).

        Args:
            token: as `check`.
            call: as `check`.
            evidence: as `check`.
            within: as `check`.

        Raises:
            Refusal: as `check`; of a credential that is good once also what the broker says of it, and
                REDEMPTION_UNAVAILABLE.

        """
        caller = self.authenticator.authenticate(evidence, self.bundles(), self.clock())
        with self._reporting(caller, token):
            return await self._accept(caller, token, call, within)

    @contextmanager
    def _reporting(self, caller: Principal, token: str) -> Iterator[None]:
        """Report that a credential was not accepted, when it is one: what does not verify names nobody."""
        try:
            yield
        except Refusal as refusal:
            verified = self.validator.known(token) if self.reports else None
            if self.reports and verified:
                self.reports.refused(verified, refusal, str(caller.spiffe_id))
            raise

    async def _accept(self, caller: Principal, token: str, call: Call, within: Within) -> VerifiedToken:
        redeemer = self.redeemer
        verified = self.validator.check(
            token,
            call,
            caller_thumbprint=caller.thumbprint,
            now=self.clock(),
            within=within,
            redeems=redeemer is not None,
        )
        _held_by(caller, verified)
        if redeemer is not None and verified.use != "many":
            verified = await redeemer.redeem(verified, call)
        use = Use(None, id="", credential=verified.credential_id)
        if self.reports:  # of a read it is not waited for that this is durable
            use = await self.reports.accepted(verified, call, durable=within is not Impact.READ)
        begin(use)
        return verified

    async def judge(
        self, mapped: Mapped, evidence: Evidence, *, token: Callable[[], str], read: Callable[[], Any]
    ) -> tuple[Any, VerifiedToken]:
        """Return the request and the credential that covers it, once its use is on its way to be reported.

        Args:
            mapped: the mapping of the method.
            evidence: what the caller's connection presented.
            token: finds the credential; called once the caller is proven.
            read: decodes the request; called once the credential is the caller's own and counts.

        Raises:
            Refusal: the first of these steps that fails.

        """
        # 1. Who calls: the SVID behind the connection, verified anew (an old connection outlives an SVID).
        caller = self.authenticator.authenticate(evidence, self.bundles(), self.clock())
        # 2. With what: one credential, good, the caller's own, not revoked.
        text, within, redeems = token(), mapped.within, self.redeemer is not None
        with self._reporting(caller, text):
            self.validator.admit(
                text, caller_thumbprint=caller.thumbprint, now=self.clock(), within=within, redeems=redeems
            )
            # 3. What for: only now are the request's bytes looked at, and what it touches looked up.
            request = read()
            call = await _map(mapped, request)
            # 4. Everything again with the call: time has passed, a revocation may have come.
            # 5. What is good once is spent at the broker, last of all; its use is reported: from here the handler runs.
            return request, await self._accept(caller, text, call, within)


def _held_by(caller: Principal, verified: VerifiedToken) -> VerifiedToken:
    """Refuse a credential that names another agent than the caller; no honest issuer binds one to this certificate."""
    if verified.agent != str(caller.spiffe_id):
        raise Refusal(Reason.TOKEN_HOLDER_MISMATCH, "its agent is not the caller")
    return verified


async def _map(mapped: Mapped, request: object) -> Call:
    try:
        call = mapped.mapper(request)
        if not isinstance(call, Call):
            call = await call
    except Refusal:
        raise
    except Exception as defect:
        _LOG.exception("a mapping failed; the call is refused")
        raise Refusal(Reason.CALL_UNMAPPED) from defect
    return call
