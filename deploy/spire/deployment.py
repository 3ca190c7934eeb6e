"""SPIRE on one host for tests and demonstrations: trust domains that federate, started and stopped whole.

``python3 deploy/spire/deployment.py up|down|status [--dir DIR] [--json]``
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

if __package__ in {None, ""}:  # run as a file: the repository's root is where imports begin
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from deploy.progress import step
from deploy.spire.build import Binaries, find_binaries
from deploy.spire.errors import DeployError
from deploy.spire.interrupts import Interrupts
from deploy.spire.process import Process
from deploy.spire.server_api import Entry, unix_selectors
from deploy.spire.starting import Startup, await_agent, await_ready, end_all, federate, records
from deploy.spire.state import State, exclusive, forget
from deploy.spire.trust_domain import TrustDomain
from deploy.spire.workload import workload_interpreter

__all__ = [
    "DeployError",
    "Deployment",
    "TrustDomain",
    "default_directory",
    "find",
    "start",
    "stop",
    "workload_interpreter",
]

TRUST_DOMAINS = ("example.org", "partner.example")


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A running deployment. As a context manager it stops at the end of the block."""

    directory: Path
    svid_ttl: str
    detached: bool
    trust_domains: tuple[TrustDomain, ...]

    def trust_domain(self, name: str) -> TrustDomain:
        """Return one trust domain. Raises KeyError for one that is not part of this."""
        return {here.name: here for here in self.trust_domains}[name]

    def entry(  # noqa: PLR0913  each is a part of the entry that a test may want to set
        self,
        spiffe_id: str,
        *,
        path: Path | None = None,
        uid: int | None = None,
        ttl: int | None = None,
        federates_with: Sequence[str] = (),
        dns: Sequence[str] = (),
        hint: str | None = None,
    ) -> str:
        """Give the SPIFFE ID to processes that run the program ``path`` and/or as the user ``uid``.

        Asked again for the same ID and selectors, it changes what differs and returns the same entry
        id. ``ttl`` is in seconds. A workload sees a new entry about a second later.
        Raises ValueError without a selector, DeployError when the server refuses.
        """
        here = self.trust_domain(spiffe_id.removeprefix("spiffe://").partition("/")[0])
        entry = Entry(
            parent_id=here.node_id,
            spiffe_id=spiffe_id,
            selectors=unix_selectors(path, uid),
            ttl_seconds=ttl or 0,
            federates_with=tuple(federates_with),
            dns=tuple(dns),
            hint=hint or "",
        )
        return here.api.put_entry(entry)

    def delete_entry(self, entry_id: str) -> None:
        """End an entry made by ``entry``. Raises DeployError when there is none."""
        self.trust_domain(Entry.trust_domain_of(entry_id)).api.delete_entry(entry_id)

    def bundle(self, trust_domain: str) -> str:
        """Return a trust domain's current bundle as SPIFFE JSON."""
        return self.trust_domain(trust_domain).api.bundle()

    def workload_socket(self, trust_domain: str) -> str:
        """Return the Workload API's address, as SPIFFE_ENDPOINT_SOCKET takes it."""
        return f"unix:{self.trust_domain(trust_domain).workload_socket}"

    def stop_agent(self, trust_domain: str, *, kill: bool = False) -> bool:
        """End the agent, politely or not; say whether it was running."""
        return self.trust_domain(trust_domain).agent.end(kill=kill)

    def start_agent(self, trust_domain: str) -> None:
        """Start the agent if it does not run, and wait until it answers."""
        here = self.trust_domain(trust_domain)
        if not here.agent_process:
            here.begin_agent(detached=self.detached)
        await_agent(here)

    def restart_agent(self, trust_domain: str, *, kill: bool = False) -> None:
        """End the agent and start it again."""
        self.stop_agent(trust_domain, kill=kill)
        self.start_agent(trust_domain)

    def stop_server(self, trust_domain: str, *, kill: bool = False) -> bool:
        """End the server, politely or not; say whether it was running. Its keys and entries stay."""
        return self.trust_domain(trust_domain).server.end(kill=kill)

    def start_server(self, trust_domain: str) -> None:
        """Start the server if it does not run, on the port it had, and wait until it is healthy."""
        here = self.trust_domain(trust_domain)
        if not here.server_process:
            here.server_socket.unlink(missing_ok=True)
            here.server.begin(detached=self.detached)
        await_ready(here.server, here.api.healthy)
        if all(each.server_process for each in self.trust_domains):
            federate(self.trust_domains)

    def restart_server(self, trust_domain: str, *, kill: bool = False) -> None:
        """End the server and start it again."""
        self.stop_server(trust_domain, kill=kill)
        self.start_server(trust_domain)

    def running(self) -> bool:
        """Whether every server and every agent runs."""
        return all(here.server_process and here.agent_process for here in self.trust_domains)

    def stop(self) -> None:
        """End all of it; logs and configuration files stay in the directory."""
        stop(self.directory)

    def __enter__(self) -> Self:
        """Return the deployment itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()


def default_directory() -> Path:
    """Where ``make spire-up`` keeps its deployment."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "spiffe-credential-broker" / "spire"


def start(
    directory: Path, *, trust_domains: Sequence[str] = TRUST_DOMAINS, svid_ttl: str = "1h", detached: bool
) -> Deployment:
    """Start SPIRE in a directory, or complete what already runs there, and wait until it is ready.

    Detached, it outlives this process and is found again by ``find`` and ``stop``. Otherwise it dies
    with this process, however that ends. Raises DeployError, and leaves nothing begun, on failure.
    """
    directory = directory.resolve()
    with Interrupts() as interrupts:
        binaries = find_binaries()
        with exclusive(directory):
            state = _settle(directory, tuple(trust_domains), svid_ttl, binaries, detached=detached)
            startup = Startup(directory, state, interrupts)
            _complete(startup, interrupts)
            return _deployment(directory, startup.state)


def _complete(startup: Startup, interrupts: Interrupts) -> None:
    with interrupts.held():
        try:
            with interrupts.allowed(), step("Starting SPIRE") as progress:
                startup.bring_up(progress)
        except BaseException:
            startup.undo()
            if not _alive(startup.directory):
                _clear(startup.directory)
            raise


def find(directory: Path) -> Deployment | None:
    """Return the deployment that was started in a directory, whether or not all of it still runs."""
    directory = directory.resolve()
    state = State.read(directory)
    return _deployment(directory, state) if state else None


def stop(directory: Path) -> int:
    """End every process begun in a directory, remove sockets, keys and entries; say how many ran.

    A process that merely has the number of one of ours is left alone.
    """
    directory = directory.resolve()
    if not directory.is_dir():
        return 0
    with Interrupts() as interrupts, exclusive(directory), interrupts.held():
        ended = end_all(directory)
        _clear(directory)
        return ended


def _deployment(directory: Path, state: State) -> Deployment:
    return Deployment(
        directory=directory,
        svid_ttl=state.svid_ttl,
        detached=state.detached,
        trust_domains=state.layout(directory),
    )


def _alive(directory: Path) -> bool:
    found = (Process.recorded(path) for path in records(directory))
    return any(process and process.alive() for process in found)


def _clear(directory: Path) -> None:
    state = State.read(directory)
    for here in state.layout(directory) if state else ():
        here.clear()
    forget(directory)


def _settle(directory: Path, names: tuple[str, ...], svid_ttl: str, binaries: Binaries, *, detached: bool) -> State:
    """Return the state to start from: what runs there if it fits, else a new one."""
    found = State.read(directory)
    if found and _alive(directory):
        if not (found.detached and detached):
            raise DeployError(f"SPIRE already runs in {directory}; stop it first, or choose another directory.")
        if (found.trust_domains, found.svid_ttl) != (names, svid_ttl):
            raise DeployError(
                f"SPIRE already runs in {directory} with trust domains {', '.join(found.trust_domains)} and SVIDs "
                f"of {found.svid_ttl}; stop it first to change that."
            )
        return found
    if found and found.trust_domains != names:
        _clear(directory)
    programs = (str(binaries.server), str(binaries.agent))
    new = State(
        trust_domains=names, ports=(), svid_ttl=svid_ttl, detached=detached, server=programs[0], agent=programs[1]
    )
    return new.with_new_ports()


if __name__ == "__main__":
    from deploy.spire.command import main

    sys.exit(main())
