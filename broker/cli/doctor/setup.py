"""Setup: everything that the checks look at, each read once, when it is first asked for. Nothing is changed."""

from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from pathlib import Path

from broker.cli.doctor.running import Absent, Alive, Silent, find_broker
from broker.cli.doctor.stored import Stored, read_store
from broker.cli.doctor.workload import Given, NotGiven, fetch
from broker.policy.bundle import BundleProblem, compile_bundle
from broker.policy.compiled import CompiledPolicy
from broker.policy.source import read_directory
from broker.settings import Settings
from broker.svid.spiffe_id import SpiffeId

WAIT_SECONDS = 3.0


class Setup:
    """A broker's set-up, as it is found.

    Args:
        config: the configuration's file.
        settings: what it says.
        socket: SPIFFE_ENDPOINT_SOCKET; empty when it is not set.
        uid: the user who looks.
        clock: the time, UTC.

    """

    def __init__(
        self, *, config: Path, settings: Settings, socket: str, uid: int, clock: Callable[[], datetime]
    ) -> None:
        self.config = config
        self.settings = settings
        self.uid = uid
        self._socket = socket
        self._clock = clock

    @property
    def own_id(self) -> SpiffeId:
        """Who the broker is to be."""
        return SpiffeId.parse(self.settings.broker.spiffe_id)

    @property
    def now(self) -> datetime:
        """The time, UTC."""
        return self._clock()

    @property
    def workload_socket(self) -> str:
        """Where the SPIRE agent is to answer; empty when nothing says so."""
        return self.settings.workload_api.socket or self._socket

    @cached_property
    def broker(self) -> Alive | Silent | Absent:
        """The broker that runs on this configuration, as far as its admin socket tells."""
        # The door waits for the issuer as long as for any call, and then says that it does not answer.
        longest = self.settings.limits.call_deadline.total_seconds() + WAIT_SECONDS
        return find_broker(self.settings.admin.socket, longest)

    @cached_property
    def stored(self) -> Stored | None:
        """What the store holds; None before there is one. Raises StoreUnavailable."""
        return read_store(self.settings.store.path)

    @cached_property
    def policy(self) -> CompiledPolicy | BundleProblem:
        """The bundle, compiled and put to its golden cases, or what keeps it from loading."""
        try:
            return compile_bundle(read_directory(self.settings.policy.dir))
        except BundleProblem as found:
            return found

    @cached_property
    def workload(self) -> Given | NotGiven:
        """What the SPIRE agent gives to this process."""
        return fetch(self.workload_socket, WAIT_SECONDS)
