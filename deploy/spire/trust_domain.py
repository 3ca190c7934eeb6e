"""One trust domain on this host: its files, its server and its agent."""

import os
import shutil
import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.spire.build import Binaries
from deploy.spire.errors import DeployError
from deploy.spire.process import Daemon, Process
from deploy.spire.server_api import ServerApi

_TEMPLATES = Path(__file__).resolve().parent
_LONGEST_SOCKET_PATH = 107
_TROUBLESOME = '"\\$\n'


@dataclass(frozen=True, kw_only=True)
class TrustDomain:
    """Where everything of one trust domain is. Entries have ``node_id`` as their parent."""

    name: str
    directory: Path
    sockets: Path
    server_port: int
    bundle_port: int
    binaries: Binaries

    @property
    def server_socket(self) -> Path:
        """The server's API; whoever reaches it administers the trust domain."""
        return self.sockets / "private" / "server.sock"

    @property
    def workload_socket(self) -> Path:
        """The agent's Workload API, open to everybody who can reach the file."""
        return self.sockets / "workload.sock"

    @property
    def node_id(self) -> str:
        """The host, whichever join token its agent was attested by."""
        return f"spiffe://{self.name}/node"

    @property
    def server(self) -> Daemon:
        """The server's process."""
        return self._daemon("server", self.binaries.server)

    @property
    def agent(self) -> Daemon:
        """The agent's process."""
        return self._daemon("agent", self.binaries.agent)

    @property
    def server_process(self) -> Process | None:
        """The running server, if it runs."""
        return self.server.process()

    @property
    def agent_process(self) -> Process | None:
        """The running agent, if it runs."""
        return self.agent.process()

    @property
    def api(self) -> ServerApi:
        """Commands to the server."""
        return ServerApi(program=self.binaries.server, socket=self.server_socket)

    def _daemon(self, role: str, program: Path) -> Daemon:
        return Daemon(
            command=(str(program), "run", "-config", str(self.directory / f"{role}.conf")),
            log=self.directory / f"{role}.log",
            record=self.directory / f"{role}.pid",
        )

    def _data(self, role: str) -> Path:
        return self.directory / f"{role}-data"

    def prepare(self, federated: Iterable["TrustDomain"], svid_ttl: str) -> None:
        """Make the directories and write both configuration files."""
        for directory, mode in ((self.directory, 0o755), (self.sockets, 0o755), (self.server_socket.parent, 0o700)):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(mode)
        for role in ("server", "agent"):
            self._data(role).mkdir(mode=0o700, exist_ok=True)
        values = {
            "TRUST_DOMAIN": self.name,
            "SERVER_PORT": str(self.server_port),
            "BUNDLE_PORT": str(self.bundle_port),
            "SERVER_SOCKET": str(self.server_socket),
            "WORKLOAD_SOCKET": str(self.workload_socket),
            "SERVER_DATA": str(self._data("server")),
            "AGENT_DATA": str(self._data("agent")),
            "TRUST_BUNDLE": str(self._data("agent") / "bootstrap.pem"),
            "JOIN_TOKEN": str(self._data("agent") / "join-token"),
            "SVID_TTL": svid_ttl,
        }
        blocks = (
            render("federates_with.conf", FOREIGN_TRUST_DOMAIN=other.name, FOREIGN_BUNDLE_PORT=str(other.bundle_port))
            for other in federated
        )
        server = render("server.conf", **values, FEDERATES_WITH="\n".join(blocks))
        (self.directory / "server.conf").write_text(server, encoding="utf-8")
        (self.directory / "agent.conf").write_text(render("agent.conf", **values), encoding="utf-8")

    def begin_agent(self, *, detached: bool) -> None:
        """Start the agent as a newly joined one: state of an earlier agent may have expired.

        Entries keep working, because they hang on ``node_id``. The server must be running.
        """
        data = self._data("agent")
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        (data / "bootstrap.pem").write_text(self.api.bundle("pem"), encoding="ascii")
        token = os.open(data / "join-token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(token, "w", encoding="ascii") as file:
            file.write(self.api.join_token(self.node_id))
        self.workload_socket.unlink(missing_ok=True)
        self.agent.begin(detached=detached)

    def clear(self) -> None:
        """Forget keys, entries and sockets; logs and configuration stay to be read."""
        for directory in (self._data("server"), self._data("agent"), self.sockets):
            shutil.rmtree(directory, ignore_errors=True)


def render(name: str, **values: str) -> str:
    """Fill in one of the configuration files. Raises DeployError for a value it cannot hold."""
    for key, value in values.items():
        if key != "FEDERATES_WITH" and any(character in value for character in _TROUBLESOME):
            raise DeployError(f"{value!r} cannot stand in a SPIRE configuration file; choose another directory.")
    text = (_TEMPLATES / name).read_text(encoding="utf-8")
    return string.Template(text).substitute(values)


def too_long_for_a_socket(sockets: Path) -> bool:
    """Whether the kernel would refuse a socket's path in this directory of a trust domain."""
    return len(os.fsencode(sockets / "private" / "server.sock")) > _LONGEST_SOCKET_PATH
