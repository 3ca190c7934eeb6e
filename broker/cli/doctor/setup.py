"""Setup: everything that the checks look at, each read once, when it is first asked for. Nothing is changed."""

from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from pathlib import Path

from broker.cli.doctor.running import Absent, Alive, Silent, find_broker
from broker.cli.doctor.stored import Stored, read_store
from broker.cli.doctor.workload import Given, NotGiven, fetch, fetch_as
from broker.policy.bundle import BundleProblem, compile_bundle
from broker.policy.compiled import CompiledPolicy
from broker.policy.source import read_directory
from broker.settings import Settings
from broker.supervisor import UserProblem, Users, find_users
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

    @property
    def environment_socket(self) -> str:
        """SPIFFE_ENDPOINT_SOCKET; empty when it is not set."""
        return self._socket

    @cached_property
    def users(self) -> Users | UserProblem | None:
        """Whom the halves run as, or why they cannot; None when they run as whoever starts them."""
        issuer, door = self.settings.issuer.user, self.settings.door.user
        if issuer is None or door is None:
            return None
        try:
            return find_users(issuer, door)
        except UserProblem as found:
            return found

    @property
    def issuer_uid(self) -> int:
        """The user whose keys and store are."""
        return self.users.issuer.uid if isinstance(self.users, Users) else self.uid

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

    @property
    def compiled(self) -> CompiledPolicy:
        """What the bundle says, for checks that stand above the one that it loads."""
        if isinstance(self.policy, BundleProblem):
            raise AssertionError("this check stands above policy-loads") from self.policy  # noqa: TRY004  # a defect of ours
        return self.policy

    @cached_property
    def workloads(self) -> tuple[tuple[str, int, Given | NotGiven], ...]:
        """What the SPIRE agent gives to whom: a name, the user, the answer. To both halves, where root asks as them."""
        socket, users = self.workload_socket, self.users
        if self.uid or not isinstance(users, Users):
            return (("this process", self.uid, fetch(socket, WAIT_SECONDS)),)
        halves = (("the issuer", users.issuer), ("the door", users.door))
        return tuple((name, user.uid, fetch_as(user, socket, WAIT_SECONDS)) for name, user in halves)

    @property
    def workload(self) -> Given | NotGiven:
        """What the SPIRE agent gives to whoever shows it to callers: the door."""
        return self.workloads[-1][2]
