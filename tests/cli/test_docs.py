"""docs/cli.md names every command, option, check and status; its commands are run as printed."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import click
import pytest

from broker.cli import broker
from broker.cli.doctor.command import CHECKS
from tests.cli.callers import Callers
from tests.cli.setups import BROKER, ROOT, House, clean_environment
from tests.fakes.trust_domain import TrustDomain
from tests.fakes.workload_api import WorkloadApi
from tests.faults.spawned import free_port

TEXT = (ROOT / "docs" / "cli.md").read_text()
BLOCK = re.compile(r"<!-- run as: ([^\n]+) -->\n```sh\n(.*?)```", re.DOTALL)
SHARED = {"--broker", "--broker-id", "--workload-api", "--spiffe-id"}


def commands(group: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(group, click.Group):
        yield path, group
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from commands(command, f"{path} {name}")


COMMANDS = dict(commands(broker, "broker"))


@pytest.mark.parametrize(("path", "command"), COMMANDS.items(), ids=COMMANDS)
def test_every_command_and_option_is_there(path: str, command: click.Command) -> None:
    assert f"`{path}" in TEXT, f"docs/cli.md says nothing about `{path}`"
    heading = "### `" + " ".join(path.split()[:2]) + "`"
    assert heading in TEXT
    section = TEXT.partition(heading)[2].partition("\n### ")[0]
    found = {name for param in command.params if isinstance(param, click.Option) for name in param.opts}
    missing = [name for name in found - SHARED if f"`{name}" not in section]  # with what it takes, or without
    assert not missing, f"docs/cli.md says nothing about {missing} of `{path}`"


def test_every_shared_option_is_there() -> None:
    assert [name for name in SHARED if f"`{name} " not in TEXT] == []


def test_every_check_is_there_and_no_other() -> None:
    table = TEXT.partition("| check | finds |")[2].partition("### ")[0]
    names = re.findall(r"`([a-z-]+)`", "\n".join(row.split("|")[1] for row in table.splitlines() if row.count("|") > 2))
    assert sorted(names) == sorted(check.id for check in CHECKS)


@dataclass(kw_only=True)
class Reader:
    """Somebody who follows the page, command by command, in a folder of their own."""

    callers: Callers
    environment: dict[str, str]

    def read(self, who: str, script: str) -> "subprocess.Popen[str]":
        environment = self.environment if who in ("platform", "serve") else self.callers.environment(who)
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.callers.house.folder, text=True,
            env={**environment, "PATH": f"{sys.prefix}/bin:/usr/bin:/bin"}, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("r")
    domain = TrustDomain()
    spire = WorkloadApi(folder / "agent.sock")
    spire.give_svid(domain.svid(BROKER), domain)
    (folder / "work").mkdir()
    house = House(folder=folder / "work", domain=domain, spire=spire.start(), port=free_port())
    callers = Callers(house=house)
    environment = clean_environment(
        SPIFFE_ENDPOINT_SOCKET=spire.socket, BROKER_LISTEN__ADDRESS=f"127.0.0.1:{house.port}"
    )
    yield Reader(callers=callers, environment=environment)
    callers.stop()
    spire.stop()


def test_the_page_can_be_followed(reader: Reader) -> None:
    """Every marked block, in the order of the page; what serves or follows runs until the end."""
    running = []
    seen = []
    try:
        for reads, script in BLOCK.findall(TEXT):
            who, _, until = reads.partition(", ")
            process = reader.read(who, script)
            seen.append(who)
            if who == "serve" or until:
                running.append(process)
                assert process.stdout is not None
                assert process.stdout.readline(), process.communicate(timeout=30)[1]
                continue
            shown, said = process.communicate(timeout=90)
            assert process.returncode == 0, (script, shown, said)
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGTERM if process is running[0] else signal.SIGINT)
            process.communicate(timeout=30)
    readers = "platform serve platform agent operator operator duty agent duty service"
    assert seen == readers.split()
    assert (reader.callers.house.folder / "token").stat().st_mode & 0o777 == 0o600
