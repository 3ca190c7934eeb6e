"""Reports: what a service says became of the credentials that it was shown.

Each acceptance is written before the handler runs, each outcome before its answer goes out; that of a read is written
within milliseconds, and not waited for. A handler that says nothing itself is reported by itself: it came to its end,
"done"; it did not, "unknown", because an exception does not prove that nothing happened.

    refund = await ledger.refund(order)
    await outcome().done(reference=refund.id)
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextvars import ContextVar
from datetime import datetime
from typing import Final

from broker.credential.claims import VerifiedToken
from broker.errors import Refusal
from broker.intent import call_digest
from broker.outcome import Report, ReportKind
from broker.validator.call import Call
from broker.validator.spool import Spool

_LOG: Final = logging.getLogger(__name__)
# Refusals that are reported each, of one caller and of all; more of them are counted. Whoever shows one good token
# again and again must not fill the spool with it, and must not hide what others do meanwhile.
REFUSALS_A_SECOND: Final = 10
ALL_REFUSALS_A_SECOND: Final = 100


class Written:
    """Something that is being written: `await` it, or `wait` for it on a thread, or do neither."""

    def __init__(self, done: "Future[bool] | None") -> None:
        self._done = done

    def __await__(self) -> Generator[object, None, bool]:
        return self._awaited().__await__()

    async def _awaited(self) -> bool:
        return await asyncio.wrap_future(self._done) if self._done is not None else False

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether it is durable; False: it was dropped, and counted."""
        return self._done.result(timeout) if self._done is not None else False


class Use:
    """One call for which a credential was accepted. Each of its methods returns what may be awaited (see Written).

    Args:
        reports: where what came of it is reported; None: nowhere.
        id: of the use; empty when it could not be kept.
        credential: its id.
        digest: of the call.

    """

    def __init__(self, reports: "Reports | None", *, id: str, credential: str, digest: str = "") -> None:  # noqa: A002 - what it is called
        self._reports = reports
        self.id = id
        self.credential = credential
        self._digest = digest
        self._said = False

    def done(self, *, reference: str = "") -> Written:
        """Say that it was done.

        Args:
            reference: your own name for what was done, opaque, at most 256 bytes.

        """
        return self._say(ReportKind.DONE, reference)

    def failed(self, *, reference: str = "") -> Written:
        """Say that nothing happened, and that you know it: what limits were charged is given back.

        The credential ends with it. When you do not know, say `unknown`.
        """
        return self._say(ReportKind.FAILED, reference)

    def rolled_back(self, *, reference: str = "", by: str = "") -> Written:
        """Say that it was done, and undone.

        Args:
            reference: as `done`.
            by: who undid it, opaque, at most 256 bytes.

        """
        return self._say(ReportKind.ROLLED_BACK, reference, by)

    def unknown(self, *, reference: str = "") -> Written:
        """Say that it may have happened or not; what is known later may be said then."""
        return self._say(ReportKind.UNKNOWN, reference)

    def later(self) -> None:
        """Say nothing when the handler ends: somebody will, with `Reports.use` of this id and this credential."""
        self._said = True

    def _say(self, kind: ReportKind, reference: str, by: str = "") -> Written:
        self._said = True
        if self._reports is None or not self.id:
            return Written(None)
        return self._reports.outcome(self, kind, reference=reference, by=by, digest=self._digest)

    async def ended(self, *, well: bool) -> None:
        """Say how the handler ended, unless it has said something itself."""
        if not self._said:
            await (self.done() if well else self.unknown())

    def broke_off(self) -> None:
        """Say that the handler did not come to its end, unless it has said something itself; nobody waits for it."""
        if not self._said:
            _ = self.unknown()  # it may have happened all the same


_using: Final[ContextVar[Use]] = ContextVar("use")


def outcome() -> Use:
    """Return the use of a credential that is being handled, to say what comes of it.

    Without a spool what is said goes nowhere.

    Raises:
        LookupError: outside a guarded handler.

    """
    return _using.get()


class Reports:
    """What one service reports.

    Args:
        spool: where reports wait to be sent.
        clock: UTC.
        new_id: makes a UUID.

    """

    def __init__(self, *, spool: Spool, clock: Callable[[], datetime], new_id: Callable[[], str]) -> None:
        self._spool = spool
        self._clock = clock
        self._new_id = new_id
        self._second = 0
        self._in_second: Counter[str] = Counter()

    async def accepted(self, verified: VerifiedToken, call: Call, *, durable: bool) -> Use:
        """Report a use, and return it.

        Args:
            verified: the credential.
            call: what it was accepted for.
            durable: wait until the report is.

        """
        digest = call_digest(action=call.action, resource=call.resource, tenant=call.tenant, parameters=call.parameters)
        report = Report(
            id=self._new_id(),
            kind=ReportKind.ACCEPTED,
            at=self._clock(),
            credential=verified.credential_id,
            call_digest=digest,
        )
        use = Use(self, id=report.id, credential=report.credential, digest=digest)
        writing = self._spool.add(report)
        try:
            kept = await asyncio.wrap_future(writing) if durable or writing.done() else True
        except (
            asyncio.CancelledError
        ):  # the caller went away before its handler ran; the acceptance is kept all the same
            use.broke_off()
            raise
        return use if kept else Use(None, id="", credential=report.credential)

    def refused(self, verified: VerifiedToken, refusal: Refusal, presented_by: str) -> None:
        """Report that a credential was not accepted; nobody waits for it."""
        now = self._clock()
        second = int(now.timestamp())
        if second != self._second:
            self._second, self._in_second = second, Counter()
        if self._in_second[presented_by] >= REFUSALS_A_SECOND or self._in_second.total() >= ALL_REFUSALS_A_SECOND:
            self._spool.drop()
            return
        self._in_second[presented_by] += 1
        report = Report(
            id=self._new_id(),
            kind=ReportKind.REFUSED,
            at=now,
            credential=verified.credential_id,
            reason=refusal.reason.name,
            presented_by=presented_by,
        )
        self._spool.add(report)

    def use(self, use_id: str, credential_id: str) -> Use:
        """Return a use that was left open (`Use.later`), or that is to be undone; after a restart too."""
        return Use(self, id=use_id, credential=credential_id)

    def outcome(self, use: Use, kind: ReportKind, *, reference: str, by: str, digest: str) -> Written:
        """Report what came of a use.

        Raises:
            Refusal: REQUEST_INVALID, a reference is longer than 256 bytes or does not show as what it is.

        """
        report = Report(
            id=self._new_id(),
            kind=kind,
            at=self._clock(),
            credential=use.credential,
            use=use.id,
            call_digest=digest,
            reference=reference,
            rolled_back_by=by,
        )
        return Written(self._spool.add(report))


def begin(use: Use) -> None:
    """Let `outcome` find this use, in whatever this task goes on to do."""
    _using.set(use)
