"""SPIRE in containers, started as deploy/spire/README.md says, on images made here from scratch."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from testcontainers.core.image import DockerImage

from deploy.spire.build import VERSION, find_binaries
from deploy.spire.server_api import Entry, unix_selectors
from deploy.spire.state import free_ports
from deploy.spire.trust_domain import render

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "deploy/spire/README.md").read_text()
STEPS = README.partition("## In containers\n")[2].partition("```sh\n")[2].partition("```")[0]
# What the official images promise: where the program is, whose it is, and that its directories are its own.
RECIPE = """
FROM scratch
COPY --chown={user} files /
USER {user}
ENTRYPOINT ["/opt/spire/bin/{program}", "run"]
"""
PROGRAMS = {
    "spire-server": ("1000:1000", ("tmp/spire-server/private", "var/lib/spire/server")),
    "spire-agent": ("0:0", ("var/lib/spire/agent",)),
}
ORDINARY_USER = 1000


@contextmanager
def images(folder: Path, registry: str) -> Iterator[None]:
    """Make images of the two programs that the tests beside this run, under the names of the official ones."""
    binaries = find_binaries()
    with ExitStack() as stack:
        for program, (user, directories) in PROGRAMS.items():
            files = folder / program / "files"
            for directory in ("opt/spire/bin", *directories):
                (files / directory).mkdir(parents=True)
            shutil.copy2(binaries.server.with_name(program), files / "opt/spire/bin")
            (folder / program / "Dockerfile").write_text(RECIPE.format(program=program, user=user))
            stack.enter_context(DockerImage(folder / program, tag=f"{registry}/{program}:{VERSION}"))
        yield


@dataclass(frozen=True, kw_only=True)
class Project:
    """One trust domain: one project of compose."""

    trust_domain: str
    environment: Mapping[str, str]

    @property
    def workload_socket(self) -> Path:
        return Path(self.environment["HOME"]) / "spire-in-containers/sockets/workload.sock"

    def run(self, script: str, *words: str, text: str = "") -> str:
        """Run a script in this project's environment, from the repository's root, and return what it prints."""
        told = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script, "bash", *words],
            cwd=ROOT, env=os.environ | self.environment, input=text, capture_output=True, text=True, timeout=90,
            check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout

    def compose(self, *words: str, text: str = "") -> str:
        exported = f'export SPIRE_DIR="{self.workload_socket.parents[1]}"; cd deploy/spire; docker compose "$@"'
        return self.run(exported, *words, text=text)

    def spire(self, *words: str, text: str = "") -> str:
        """Run a command of the server, as the README does."""
        return self.compose("exec", "-T", "server", "/opt/spire/bin/spire-server", *words, text=text)


@dataclass(frozen=True, kw_only=True)
class ComposedSpire:
    """What a stage asks of SPIRE: entries and sockets."""

    projects: Mapping[str, Project]

    def entry(self, spiffe_id: str, *, path: Path, federates_with: Sequence[str]) -> str:
        project = self.projects[spiffe_id.removeprefix("spiffe://").partition("/")[0]]
        entry = Entry(
            parent_id=f"spiffe://{project.trust_domain}/node",
            spiffe_id=spiffe_id,
            selectors=unix_selectors(path, None),
            federates_with=tuple(federates_with),
        )
        project.spire("entry", "create", *entry.arguments())
        return entry.id

    def workload_socket(self, trust_domain: str) -> str:
        return f"unix:{self.projects[trust_domain].workload_socket}"


@contextmanager
def composed(folder: Path, registry: str, trust_domains: Sequence[str]) -> Iterator[ComposedSpire]:
    """Follow the README once for each trust domain, and federate them."""
    projects = {each.trust_domain: each for each in plan(folder, registry, trust_domains)}
    with ExitStack() as stack:
        for project in projects.values():
            stack.callback(project.compose, "down", "--volumes", "--timeout", "5")
            project.run(STEPS)
        for here in projects.values():
            bundle = here.spire("bundle", "show", "-format", "spiffe")
            for other in projects.values():
                if other is not here:
                    foreign = f"spiffe://{here.trust_domain}"
                    other.spire("bundle", "set", "-format", "spiffe", "-id", foreign, text=bundle)
        yield ComposedSpire(projects=projects)


def plan(folder: Path, registry: str, trust_domains: Sequence[str]) -> list[Project]:
    """Give every trust domain its ports and its place, and say where the others are."""
    ports = free_ports(2 * len(trust_domains))
    bundle_ports = dict(zip(trust_domains, ports[1::2], strict=True))
    projects = []
    for trust_domain, server_port in zip(trust_domains, ports[::2], strict=True):
        home = folder / trust_domain
        for place in ("sockets", "join"):
            made = home / "spire-in-containers" / place
            made.mkdir(parents=True)
            if os.geteuid() == 0:  # whoever runs this, they are an ordinary user's, as a reader's are
                os.chown(made, ORDINARY_USER, -1)
        foreign = (
            render("federates_with.conf", FOREIGN_TRUST_DOMAIN=other, FOREIGN_BUNDLE_PORT=str(port))
            for other, port in bundle_ports.items()
            if other != trust_domain
        )
        environment = {
            "HOME": str(home),
            "COMPOSE_PROJECT_NAME": f"{registry}-{re.sub('[^a-z]', '-', trust_domain)}",
            "SPIRE_IMAGES": registry,
            "TRUST_DOMAIN": trust_domain,
            "SERVER_PORT": str(server_port),
            "BUNDLE_PORT": str(bundle_ports[trust_domain]),
            "SVID_TTL": "60s",
            "FEDERATES_WITH": "\n".join(foreign),
        }
        projects.append(Project(trust_domain=trust_domain, environment=environment))
    return projects
