"""Source: the keys of identity issuers, fetched over TLS on threads of their own, refreshed, and forgotten in time.

Each issuer has a thread, so that one that is slow or away holds up nobody: not the one worker of the process, which
only ever reads what is known, nor another issuer. `http.client` is enough for a few GETs an hour: it follows no
redirect, unpacks nothing, and takes no proxy from the environment.
"""

import asyncio
import contextlib
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog

from broker.credential.token import Token
from broker.errors import Reason, Refusal
from broker.person.identity_token import Provider, VerifiedIdentity, named_key, verify_identity
from broker.person.issuer_keys import IssuerKey, read_discovery, read_issuer_keys

MAX_DOCUMENT: Final = 256 * 1024
# For one document, from the connection to its last byte.
FETCH_SECONDS: Final = 5.0
# What a caller waits for at most, when a token names a key that is not known.
PATIENCE_SECONDS: Final = 4.0
# However many unknown keys are named, an issuer is asked again no sooner.
LEAST_SPACING: Final = 10.0
FIRST_RETRY: Final = 1.0
LONGEST_RETRY: Final = 60.0
WELL_KNOWN: Final = "/.well-known/openid-configuration"

_OK: Final = 200
_REDIRECTS: Final = range(300, 400)
_log = structlog.get_logger(__name__)


class FetchProblem(Exception):
    """An issuer's keys cannot be fetched or read; says why, with nothing of what was answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSource:
    """An issuer, and how its keys are fetched.

    Attributes:
        provider: the issuer.
        ca_file: PEM of the authorities that may vouch for its hosts; None: those of the system.
        keys_max_age: how old its keys may be; they are fetched four times as often.

    """

    provider: Provider
    ca_file: Path | None = None
    keys_max_age: timedelta = timedelta(hours=1)


def fetch_keys(source: ProviderSource) -> Mapping[str, IssuerKey]:
    """Fetch an issuer's keys: first the document that says where they are, then the keys.

    Raises:
        FetchProblem: they cannot be had.

    """
    issuer = source.provider.issuer
    try:
        context = ssl.create_default_context(cafile=source.ca_file)
    except OSError as problem:
        raise FetchProblem(f"{source.ca_file} cannot be read as authorities: {problem.strerror}") from problem
    try:
        where = read_discovery(_get(issuer.removesuffix("/") + WELL_KNOWN, context), issuer)
        return read_issuer_keys(_get(where, context))
    except ssl.SSLCertVerificationError as problem:
        raise FetchProblem(f"its certificate does not hold: {problem.verify_message}") from problem
    except TimeoutError as problem:
        raise FetchProblem(f"it did not answer within {FETCH_SECONDS:.0f} s") from problem
    except OSError as problem:
        raise FetchProblem(f"it cannot be reached: {problem.strerror or type(problem).__name__}") from problem
    except HTTPException as problem:  # its text could quote the answer
        raise FetchProblem(f"it does not answer in HTTP: {type(problem).__name__}") from problem
    except ValueError as problem:
        raise FetchProblem(str(problem)) from problem


def _get(url: str, context: ssl.SSLContext) -> bytes:
    """Return the body of an https URL: of 200 only, bounded in size, and in time as a whole."""
    parts, end = urlsplit(url), time.monotonic() + FETCH_SECONDS
    connection = HTTPSConnection(parts.hostname or "", parts.port, timeout=FETCH_SECONDS, context=context)
    watchdog = None
    try:
        connection.connect()
        # A socket's timeout is one of each read: who sends a byte a second would never be given up.
        watchdog = threading.Timer(max(0.0, end - time.monotonic()), _abort, (connection.sock,))
        watchdog.daemon = True
        watchdog.start()
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection.request("GET", target, headers={"Accept": "application/json"})
        with connection.getresponse() as response:
            content = _body(response)
    except (OSError, HTTPException, ValueError):
        if time.monotonic() >= end:  # what the watchdog's end of it looks like
            raise TimeoutError from None
        raise
    finally:
        if watchdog is not None:
            watchdog.cancel()
        connection.close()
    if time.monotonic() >= end:
        raise TimeoutError
    return content


def _abort(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it was closed a moment ago
        sock.shutdown(socket.SHUT_RDWR)


def _body(response: HTTPResponse) -> bytes:
    if response.status in _REDIRECTS:
        raise ValueError(f"it answers {response.status}: redirects are not followed")
    if response.status != _OK:
        raise ValueError(f"it answers {response.status}")
    if response.getheader("Content-Encoding", "identity") != "identity":
        raise ValueError("its answer is packed, which nobody asked for")
    content = response.read(MAX_DOCUMENT + 1)
    if len(content) > MAX_DOCUMENT:
        raise ValueError(f"its answer is longer than {MAX_DOCUMENT} bytes")
    if response.length:
        raise ValueError("its answer ends early")
    return content


class _Follower:
    """Keeps the keys of one issuer, on a thread."""

    def __init__(self, source: ProviderSource, spacing: float) -> None:
        self._source = source
        self._spacing = spacing
        self._max_age = source.keys_max_age.total_seconds()
        self._changed = threading.Condition()
        self._keys: Mapping[str, IssuerKey] = {}
        self._fetched = -math.inf  # when the fetch began that brought them
        self._begun = -math.inf  # when the last one began
        self._fetching = self._asked = self._closing = False
        self._waiting: list[Future[None]] = []
        self._thread = threading.Thread(target=self._run, name="identity issuer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ask the thread to end; it may be in the middle of a fetch, which nobody waits for."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._tell_waiting()

    def keys(self) -> Mapping[str, IssuerKey]:
        """Return the keys; raises Refusal IDENTITY_UNAVAILABLE when there are none, or none that are fresh enough."""
        with self._changed:
            if time.monotonic() - self._fetched > self._max_age:
                raise Refusal(Reason.IDENTITY_UNAVAILABLE)
            return self._keys

    def round_for(self, kid: str) -> "Future[None] | None":
        """Return what is done once a fetch is over that may bring this key; None when there is nothing to wait for."""
        with self._changed:
            now = time.monotonic()
            if kid in self._keys and now - self._fetched <= self._max_age:
                return None
            if not self._fetching:
                if self._closing or now - self._begun < self._spacing:
                    return None
                self._asked = True
                self._changed.notify_all()
            future: Future[None] = Future()
            future.set_running_or_notify_cancel()  # so that who gives up waiting cancels nothing
            self._waiting.append(future)
            return future

    def _run(self) -> None:
        retry = FIRST_RETRY
        while self._begin():
            good = self._fetch()
            self._tell_waiting()
            pause = self._max_age / 4 if good else retry
            retry = FIRST_RETRY if good else min(retry * 2, self._max_age / 4, LONGEST_RETRY)
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._asked, pause)

    def _begin(self) -> bool:
        with self._changed:
            self._asked, self._fetching, self._begun = False, True, time.monotonic()
            return not self._closing

    def _fetch(self) -> bool:
        issuer = self._source.provider.issuer
        try:
            found = fetch_keys(self._source)
        except FetchProblem as problem:
            _log.warning("identity issuer", issuer=issuer, problem=str(problem))
            return False
        except Exception:  # noqa: BLE001  # no defect may end the thread: nobody would fetch any more
            _log.exception("defect", issuer=issuer)
            return False
        with self._changed:
            self._keys, self._fetched = found, self._begun
        return True

    def _tell_waiting(self) -> None:
        with self._changed:
            self._fetching = False
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(None)


class IdentityIssuers:
    """Verifies identity tokens of the configured issuers, with their keys as they are now.

    Args:
        sources: the issuers.
        spacing: seconds within which an issuer is not asked again for a key that is not known.

    """

    def __init__(self, sources: Sequence[ProviderSource], *, spacing: float = LEAST_SPACING) -> None:
        self._providers = {source.provider.issuer: source.provider for source in sources}
        self._followers = {source.provider.issuer: _Follower(source, spacing) for source in sources}

    @contextlib.contextmanager
    def following(self) -> Iterator["IdentityIssuers"]:
        """Fetch the keys, and go on fetching them, until the end."""
        for follower in self._followers.values():
            follower.start()
        try:
            yield self
        finally:
            for follower in self._followers.values():
                follower.close()

    def verify(self, token: Token, now: datetime, customers: Mapping[str, frozenset[str]]) -> VerifiedIdentity:
        """Return whom an issuer has authenticated, `customers` among them; waits for nothing.

        Raises:
            Refusal: IDENTITY_TOKEN_REFUSED, IDENTITY_UNAVAILABLE.

        """
        return verify_identity(
            token.reveal(),
            providers=self._providers,
            keys=lambda issuer: self._followers[issuer].keys(),
            now=now,
            customers=customers,
        )

    async def prepare(self, token: Token | None) -> None:
        """Have the key fetched that a token names, if it is not known and its issuer was not asked a moment ago.

        Called before `verify`, outside of the issuer process's worker. It waits a bounded time, and never refuses.
        """
        named = named_key(token.reveal()) if token else None
        follower = self._followers.get(named[0]) if named else None
        future = follower.round_for(named[1]) if follower and named else None
        if future is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(future), PATIENCE_SECONDS)
