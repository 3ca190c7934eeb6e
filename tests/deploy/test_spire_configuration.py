"""Configuration files, what a run directory remembers, entries, and interpreters for workloads."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.spire.deployment import workload_interpreter
from deploy.spire.errors import DeployError
from deploy.spire.server_api import Entry, unix_selectors
from deploy.spire.state import State, claim_short_directory, forget, free_ports, short_directory
from deploy.spire.trust_domain import render

STATE = State(
    trust_domains=("example.org", "partner.example"),
    ports=((20001, 20002), (20003, 20004)),
    svid_ttl="1h",
    detached=True,
    server="/spire/spire-server",
    agent="/spire/spire-agent",
)


def test_both_configuration_files_are_filled_in(tmp_path: Path) -> None:
    own, foreign = STATE.layout(tmp_path)
    own.prepare([foreign], "60s")
    server, agent = ((tmp_path / "example.org" / f"{role}.conf").read_text() for role in ("server", "agent"))
    assert "${" not in server + agent
    assert 'default_x509_svid_ttl = "60s"' in server
    assert 'bundle_endpoint_url = "https://127.0.0.1:20004"' in server
    assert 'endpoint_spiffe_id = "spiffe://partner.example/spire/server"' in server
    assert f'socket_path = "{own.workload_socket}"' in agent
    assert own.server_socket.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("value", ['a"b', "a\\b", "${HOME}", "a\nb"])
def test_a_value_that_would_change_the_file_is_refused(value: str) -> None:
    with pytest.raises(DeployError, match="cannot stand in"):
        render("federates_with.conf", FOREIGN_TRUST_DOMAIN=value, FOREIGN_BUNDLE_PORT="1")


def test_state_is_remembered_whole(tmp_path: Path) -> None:
    STATE.write(tmp_path)
    assert State.read(tmp_path) == STATE


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"trust_domains": []}', '{"trust_domains": [], "ports": [], "new": 1}']
)
def test_state_nobody_understands_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert State.read(tmp_path) is None


def test_sockets_move_where_their_paths_fit(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    for here in STATE.layout(deep):
        assert short_directory(deep) in here.sockets.parents
        assert len(str(here.server_socket)) < 108
    assert STATE.layout(Path("/run/x"))[0].workload_socket == Path("/run/x/example.org/sockets/workload.sock")


def test_somebody_elses_short_directory_is_not_used(tmp_path: Path) -> None:
    short = short_directory(tmp_path)
    try:
        claim_short_directory(tmp_path)
        claim_short_directory(tmp_path)
        short.chmod(0o777)
        with pytest.raises(DeployError, match="belongs to somebody else"):
            claim_short_directory(tmp_path)
    finally:
        forget(tmp_path)
    assert not short.exists()


def test_ports_are_free_and_different() -> None:
    ports = free_ports(4)
    assert len(set(ports)) == 4
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_an_entry_is_itself_by_identity_parent_and_selectors() -> None:
    entry = Entry(
        parent_id="spiffe://a.test/node", spiffe_id="spiffe://a.test/x", selectors=("unix:uid:1", "unix:path:/p")
    )
    other = Entry(
        parent_id=entry.parent_id, spiffe_id=entry.spiffe_id, selectors=entry.selectors[::-1], ttl_seconds=60, hint="h"
    )
    assert entry.id == other.id
    assert Entry.trust_domain_of(entry.id) == "a.test"
    assert entry.describes({})
    assert not other.describes({})
    assert other.describes({"x509_svid_ttl": 60, "hint": "h"})


def test_selectors_name_the_program_itself(tmp_path: Path) -> None:
    (tmp_path / "program").touch()
    (tmp_path / "link").symlink_to("program")
    assert unix_selectors(tmp_path / "link", 7) == (f"unix:path:{(tmp_path / 'program').resolve()}", "unix:uid:7")
    with pytest.raises(ValueError, match="every workload"):
        unix_selectors(None, None)


def test_each_workload_has_an_interpreter_of_its_own(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    site = next(venv.glob("lib/python*/site-packages"))
    (site / "of_the_venv.py").write_text("")
    made = [workload_interpreter(name, directory=tmp_path / "w", venv=venv) for name in ("a", "b")]
    program = "import of_the_venv, os, sys; print(os.readlink('/proc/self/exe'), sys.prefix)"
    told = [subprocess.run([each, "-c", program], capture_output=True, text=True, check=True).stdout for each in made]
    assert [line.split()[0] for line in told] == [str(each) for each in made]
    before = made[0].stat()
    assert workload_interpreter("a", directory=tmp_path / "w", venv=venv).stat() == before


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b"])
def test_a_workload_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        workload_interpreter(name, directory=tmp_path, venv=tmp_path)


def test_what_is_no_venv_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="not a Python virtual environment"):
        workload_interpreter("a", directory=tmp_path, venv=tmp_path)
