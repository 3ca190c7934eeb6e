"""A SPIFFE Workload API on a unix socket: pushes what it is told to, at once."""

import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
from spiffe._proto import workload_pb2, workload_pb2_grpc

from tests.fakes.trust_domain import Svid, TrustDomain, der

_HEADER = ("workload.spiffe.io", "true")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One SVID for the workload, with its domain (for the bundle) and hint."""

    svid: Svid
    domain: TrustDomain
    hint: str = ""

    def message(self) -> workload_pb2.X509SVID:
        return workload_pb2.X509SVID(
            spiffe_id=self.svid.id,
            x509_svid=der([self.svid.leaf, *self.svid.sent]),
            x509_svid_key=self.svid.private_key_der,
            bundle=der(self.domain.bundle),
            hint=self.hint,
        )


class WorkloadApi(workload_pb2_grpc.SpiffeWorkloadAPIServicer):
    """A fake SPIRE agent. Start and stop it as often as needed: what it gives survives, as an agent's entries do."""

    def __init__(self, path: Path) -> None:
        self.socket = f"unix:{path}"
        self.requests = 0
        self.streams = 0
        self._path = path
        self._state = threading.Condition()
        self._version = 0
        self._answer: workload_pb2.X509SVIDResponse | grpc.StatusCode = grpc.StatusCode.PERMISSION_DENIED
        self._server: grpc.Server | None = None

    def give(self, *given: Given, federated: tuple[TrustDomain, ...] = ()) -> None:
        """Give these SVIDs from now on, and push them to every open stream."""
        self._set(
            workload_pb2.X509SVIDResponse(
                svids=[one.message() for one in given],
                federated_bundles={f"spiffe://{domain.name}": der(domain.bundle) for domain in federated},
            )
        )

    def give_svid(self, svid: Svid, domain: TrustDomain, *federated: TrustDomain) -> None:
        """Give one SVID."""
        self.give(Given(svid=svid, domain=domain), federated=federated)

    def give_garbage(self) -> None:
        """Push a message that nothing can be made of."""
        self._set(workload_pb2.X509SVIDResponse(svids=[workload_pb2.X509SVID(spiffe_id="x", x509_svid=b"garbage")]))

    def refuse(self, code: grpc.StatusCode = grpc.StatusCode.PERMISSION_DENIED) -> None:
        """End every open stream, and answer each new one, with this code."""
        self._set(code)

    def start(self) -> Self:
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self._server.add_insecure_port(self.socket)
        self._server.start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None
            self._path.unlink(missing_ok=True)

    def FetchX509SVID(  # noqa: N802 - the service's own word
        self,
        request: workload_pb2.X509SVIDRequest,  # noqa: ARG002
        context: grpc.ServicerContext,
    ) -> Iterator[workload_pb2.X509SVIDResponse]:
        self.requests += 1
        if _HEADER not in {(key, value) for key, value in context.invocation_metadata()}:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
        context.add_callback(self._wake)
        self.streams += 1
        try:
            yield from self._answers(context)
        finally:
            self.streams -= 1

    def _answers(self, context: grpc.ServicerContext) -> Iterator[workload_pb2.X509SVIDResponse]:
        seen = -1
        while True:
            with self._state:
                while self._version == seen and context.is_active():
                    self._state.wait()
                seen, answer = self._version, self._answer
            if not context.is_active():
                return
            if isinstance(answer, grpc.StatusCode):
                context.abort(answer, "no identity issued")
            else:
                yield answer

    def _set(self, answer: "workload_pb2.X509SVIDResponse | grpc.StatusCode") -> None:
        with self._state:
            self._answer = answer
            self._version += 1
            self._state.notify_all()

    def _wake(self) -> None:
        with self._state:
            self._state.notify_all()
