"""This process's SVID and trust bundles from the SPIFFE Workload API, always current.

Built on the streaming call of py-spiffe's client rather than on its X509Source: a source retries PERMISSION_DENIED
without saying so (and goes on handing out what was taken back), closes for good on CANCELLED, INVALID_ARGUMENT or a
message it cannot read, and keeps one gRPC channel whose own back-off grows to minutes while an agent is down. Here
every end of a stream is seen, the last good snapshot stays, and each attempt starts on a channel of its own.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from types import MappingProxyType
from typing import Self

from spiffe import WorkloadApiClient, X509Bundle
from spiffe._proto import workload_pb2
from spiffe.errors import ArgumentError
from spiffe.workloadapi.x509_context import X509Context

from broker.link.identity import (
    Identity,
    IdentityAmbiguous,
    IdentityUnavailable,
    Offer,
    Snapshot,
    choose,
    identity_of,
)
from broker.svid.principal import TrustBundles

__all__ = ["Identity", "IdentityAmbiguous", "IdentitySource", "IdentityUnavailable", "Snapshot"]

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 5.0
# An agent that has just restarted may deny once before it has its entries; three times in a row is an answer.
DENIALS_THAT_COUNT = 3

_log = logging.getLogger(__name__)


class _HintedContext(X509Context):
    """A Workload API message with the hint of each SVID, which py-spiffe leaves out."""

    hints: tuple[str, ...] = ()


class _HintingClient(WorkloadApiClient):
    def _process_x509_context(self, x509_svid_response: workload_pb2.X509SVIDResponse) -> X509Context:
        plain = super()._process_x509_context(x509_svid_response)
        hinted = _HintedContext(plain.x509_svids, plain.x509_bundle_set)
        hinted.hints = tuple(svid.hint for svid in x509_svid_response.svids)
        return hinted


class IdentitySource:
    """The live supply of this process's identity. Make one with `open`; threads may share it."""

    def __init__(self, *, socket: str | None, spiffe_id: str | None, hint: str | None) -> None:
        # A bare path is what people write; py-spiffe wants the scheme.
        self._socket = f"unix:{socket}" if socket and socket.startswith("/") else socket
        self._spiffe_id = spiffe_id
        self._hint = hint
        self._snapshot: Snapshot | None = None
        self._bundles = TrustBundles(authorities=MappingProxyType({}), epoch=0)
        self._failure: IdentityUnavailable | None = None
        self._denials = 0
        self._fed = 0
        self._changed = threading.Condition()
        self._callbacks: list[Callable[[], None]] = []
        self._closing = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="identity-source", daemon=True)

    @classmethod
    async def open(cls, *, socket: str | None, spiffe_id: str | None, hint: str | None, timeout: float) -> Self:  # noqa: ASYNC109 - a thread waits, which asyncio.timeout could not end
        """Connect to the Workload API and wait for the first SVID.

        Args:
            socket: of the Workload API; None takes SPIFFE_ENDPOINT_SOCKET, as every SPIFFE library does.
            spiffe_id: the SVID that is wanted, when the workload may have several.
            hint: the same, by the operator's hint.
            timeout: seconds to wait.

        Raises:
            IdentityUnavailable: no SVID in that time; the message says why, `fix` what to do.

        """
        source = cls(socket=socket, spiffe_id=spiffe_id, hint=hint)
        try:
            await asyncio.to_thread(source._start, timeout)
        except BaseException:
            await asyncio.to_thread(source.close)
            raise
        return source

    def snapshot(self) -> Snapshot:
        """Return identity and bundles that belong together.

        Raises:
            IdentityUnavailable: there is none, or it was taken back.

        """
        snapshot, failure = self._snapshot, self._failure
        if snapshot is None:
            # One exception raised again and again would gather tracebacks.
            raise failure.with_traceback(None) if failure else _no_answer()
        return snapshot

    def identity(self) -> Identity:
        """Return the current identity.

        Raises:
            IdentityUnavailable: there is none, or it was taken back.

        """
        return self.snapshot().identity

    def bundles(self) -> TrustBundles:
        """Return the current trust bundles; without authorities when there are none."""
        return self._bundles

    @property
    def last_error(self) -> IdentityUnavailable | None:
        """Why the Workload API does not feed this source at the moment; None while it does."""
        return self._failure

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have a callback called, on the source's thread, after each change; returns what ends that."""
        with self._changed:
            self._callbacks.append(callback)

        def unsubscribe() -> None:
            with self._changed:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return unsubscribe

    def close(self) -> None:
        """End the stream and its thread; what was read stays readable."""
        self._closing.set()
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=LONGEST_BACKOFF)

    def _start(self, timeout: float) -> None:
        self._thread.start()

        def settled() -> bool:
            return self._snapshot is not None or isinstance(self._failure, IdentityAmbiguous)

        with self._changed:
            self._changed.wait_for(settled, timeout)
            if self._snapshot is None:
                raise self._failure or _no_answer()

    def _follow(self) -> None:
        backoff = FIRST_BACKOFF
        while not self._closing.is_set():
            fed = self._fed
            self._stream_once()
            backoff = FIRST_BACKOFF if self._fed > fed else min(backoff * 2, LONGEST_BACKOFF)
            self._closing.wait(backoff)

    def _stream_once(self) -> None:
        """Follow one stream to its end, on a client and channel of its own."""
        self._ended = ended = threading.Event()

        def on_error(error: Exception) -> None:
            self._failed(_explain(error))
            ended.set()

        try:
            client = _HintingClient(self._socket)
        except ArgumentError as error:
            self._failed(_explain(error))
            return
        try:
            # Without py-spiffe's own retries, which would hide why a stream ended.
            handler = client.stream_x509_contexts(self._received, on_error, retry_connect=False)
            while not self._closing.is_set() and not ended.wait(LONGEST_BACKOFF):
                pass
            handler.cancel()
        finally:
            client.close()

    def _received(self, context: X509Context) -> None:
        hints = context.hints if isinstance(context, _HintedContext) else ()
        offers = [Offer(svid=svid, hint=hint) for svid, hint in zip(context.x509_svids, hints, strict=True)]
        self._fed += 1
        self._denials = 0
        try:
            identity = identity_of(choose(offers, spiffe_id=self._spiffe_id, hint=self._hint))
        except IdentityUnavailable as unavailable:
            # Workload API 4.4: what a message no longer holds was taken back.
            self._replace(None, self._trust({}), unavailable)
            return
        bundles = self._trust({bundle.trust_domain.name: bundle for bundle in context.x509_bundle_set.bundles})
        self._replace(Snapshot(identity=identity, bundles=bundles), bundles, None)

    def _trust(self, found: dict[str, X509Bundle]) -> TrustBundles:
        authorities = {
            name: tuple(sorted(bundle.x509_authorities, key=lambda authority: authority.serial_number))
            for name, bundle in found.items()
        }
        if authorities == self._bundles.authorities:
            return self._bundles
        return TrustBundles(authorities=MappingProxyType(authorities), epoch=self._bundles.epoch + 1)

    def _failed(self, failure: IdentityUnavailable) -> None:
        if self._closing.is_set():
            return
        self._denials = self._denials + 1 if isinstance(failure, _Denied) else 0
        if self._denials >= DENIALS_THAT_COUNT and self._snapshot is not None:
            # Workload API 5.2.1: PERMISSION_DENIED redacts all SVIDs; cease to use them.
            self._replace(None, self._trust({}), failure)
            return
        with self._changed:
            self._failure = failure

    def _replace(self, snapshot: Snapshot | None, bundles: TrustBundles, failure: IdentityUnavailable | None) -> None:
        with self._changed:
            self._snapshot, self._bundles, self._failure = snapshot, bundles, failure
            callbacks = list(self._callbacks)
            self._changed.notify_all()
        for callback in callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001 - one subscriber must not keep the change from the others
                _log.exception("a subscriber of the identity source failed")


class _Denied(IdentityUnavailable):
    """PERMISSION_DENIED: the agent runs, and knows no entry for this process."""


def _no_answer() -> IdentityUnavailable:
    return IdentityUnavailable(
        "The Workload API has not answered in time.",
        fix="Check that the SPIRE agent is healthy (spire-agent healthcheck).",
    )


def _explain(error: Exception) -> IdentityUnavailable:
    """Say what a Workload API error means, and what to do about it."""
    text = str(error)
    if "PERMISSION_DENIED" in text:
        return _Denied(
            "The SPIRE agent has no identity for this process (PERMISSION_DENIED).",
            fix="Create a registration entry whose selectors match it (spire-server entry create).",
        )
    if "does not exist" in text or "UNAVAILABLE" in text or "ended unexpectedly" in text:
        return IdentityUnavailable(
            f"The SPIRE agent does not answer: {text}.",
            fix="Start the agent, or set the socket (SPIFFE_ENDPOINT_SOCKET) to the one that it serves.",
        )
    if isinstance(error, ArgumentError):
        return IdentityUnavailable(
            f"The Workload API's socket is not usable: {text}.",
            fix="Set SPIFFE_ENDPOINT_SOCKET, or the socket in the configuration, to unix:/path/to/agent.sock.",
        )
    return IdentityUnavailable(
        f"The Workload API's answer cannot be used: {text}.",
        fix="Check the agent's log, and that it and this library speak the same Workload API.",
    )
