"""The order in which trust domains come up, and how a start that fails is undone."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from deploy.progress import Step
from deploy.spire.errors import DeployError
from deploy.spire.interrupts import Interrupts
from deploy.spire.process import Daemon
from deploy.spire.server_api import run
from deploy.spire.state import State, claim_short_directory, short_directory
from deploy.spire.trust_domain import TrustDomain

_READY_SECONDS = 60
_POLL_SECONDS = 0.1
_ATTEMPTS = 3


class PortTakenError(DeployError):
    """Somebody else listens on a port that was free when it was chosen."""


class Startup:
    """One start, from the first server to the last agent. What already runs well is left alone."""

    def __init__(self, directory: Path, state: State, interrupts: Interrupts) -> None:
        """Nothing is begun yet."""
        self.directory = directory
        self.state = state
        self._interrupts = interrupts
        self._begun: list[Daemon] = []

    def bring_up(self, progress: Step) -> None:
        """Start what does not run, and wait until all of it is ready.

        Raises DeployError, with the end of the log, when something does not become ready.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            self.state.write(self.directory)
            try:
                self._servers(progress)
                break
            except PortTakenError:
                if attempt == _ATTEMPTS:
                    raise
                end_all(self.directory)
                self.state = self.state.with_new_ports()
        self._agents(progress)

    def undo(self) -> None:
        """End what this start began, and nothing else."""
        for daemon in reversed(self._begun):
            daemon.end()

    def _servers(self, progress: Step) -> None:
        layout = self.state.layout(self.directory)
        if short_directory(self.directory) in layout[0].sockets.parents:
            claim_short_directory(self.directory)
        down = [here for here in layout if not here.server_process]
        for here in down:
            progress.update(0, 0, f"server of {here.name}")
            here.prepare([other for other in layout if other is not here], self.state.svid_ttl)
            here.server_socket.unlink(missing_ok=True)
            self._begin(here.server)
        for here in layout:
            await_ready(here.server, here.api.healthy)
        if down:
            federate(layout)

    def _agents(self, progress: Step) -> None:
        layout = self.state.layout(self.directory)
        for here in layout:
            if not here.agent_process:
                progress.update(0, 0, f"agent of {here.name}")
                with self._interrupts.held():
                    self._begun.append(here.agent)
                    here.begin_agent(detached=self.state.detached)
        for here in layout:
            await_agent(here)

    def _begin(self, daemon: Daemon) -> None:
        with self._interrupts.held():
            self._begun.append(daemon)
            daemon.begin(detached=self.state.detached)


def federate(layout: tuple[TrustDomain, ...]) -> None:
    """Give every server the current bundle of every other; afterwards they keep each other current."""
    for here in layout:
        bundle = here.api.bundle() if len(layout) > 1 else ""
        for other in layout:
            if other is not here:
                other.api.set_bundle(here.name, bundle)


def await_agent(here: TrustDomain) -> None:
    """Wait until the agent answers workloads."""

    def healthy() -> bool:
        with suppress(DeployError):
            return bool(run(here.binaries.agent, ["healthcheck", "-socketPath", str(here.workload_socket)]))
        return False

    await_ready(here.agent, healthy)


def await_ready(daemon: Daemon, healthy: Callable[[], bool]) -> None:
    """Wait until a program is healthy. Raises DeployError with the end of its log if it ends or is not in time."""
    deadline = time.monotonic() + _READY_SECONDS
    while not healthy():
        running = daemon.process()
        if running and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            continue
        tail = daemon.tail()
        what = f"is not ready after {_READY_SECONDS} s" if running else "has ended"
        problem = PortTakenError if not running and "address already in use" in tail else DeployError
        raise problem(f"{Path(daemon.command[0]).name} {what}. The end of {daemon.log}:\n{tail}")


def records(directory: Path) -> list[Path]:
    """Return the records of all processes in a run directory, agents before the servers they need."""
    return [*sorted(directory.glob("*/agent.pid")), *sorted(directory.glob("*/server.pid"))]


def end_all(directory: Path) -> int:
    """End every process on record in a run directory; say how many were running."""
    daemons = [Daemon(command=(), log=path.with_suffix(".log"), record=path) for path in records(directory)]
    return sum(daemon.end() for daemon in daemons)
