"""What a user installs: the wheel's contents, a base install without the server, and what an import costs."""

import json
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.packaging.built import build_wheel, environment

SERVER_ONLY = {"cedarpy", "click", "grpc-health-checking", "grpc-reflection", "httpx", "prometheus-client", "pydantic",
               "pydantic-settings", "rich", "starlette", "structlog"}  # fmt: skip
LOADED = "import json, sys; import {name}; print(json.dumps(sorted(sys.modules)))"
INSTALLED = """
import importlib.metadata, json
print(json.dumps([found.name.lower().replace("_", "-") for found in importlib.metadata.distributions()]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("base") / "venv", wheel)


def said(program: Path | str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_the_wheel_is_typed_and_holds_the_package_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "broker/py.typed" in names
    assert "broker/v1/exchange_pb2.pyi" in names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"broker"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_a_base_install_has_nothing_of_the_server(base: Path) -> None:
    answer = said(base / "python", "-c", INSTALLED)
    installed = set(json.loads(answer.stdout))
    assert {"spiffe-credential-broker", "grpcio", "spiffe"} <= installed
    assert installed & SERVER_ONLY == set()


@pytest.mark.parametrize("name", ["broker.client", "broker.client.sync", "broker.validator"])
def test_a_base_install_has_all_that_an_sdk_needs(base: Path, name: str) -> None:
    answer = said(base / "python", "-W", "error", "-c", LOADED.format(name=name))
    assert answer.returncode == 0, answer.stderr
    assert name in json.loads(answer.stdout)


@pytest.mark.parametrize(
    ("name", "needs"),
    # What a service has to report waits in a SQLite file: the one thing of the kind that an SDK needs.
    [("broker.client", set()), ("broker.validator", {"sqlite3"})],
)
def test_an_sdk_loads_nothing_heavy_where_it_is_installed(name: str, needs: set[str]) -> None:
    loaded = set(json.loads(said(sys.executable, "-c", LOADED.format(name=name)).stdout))
    assert name in loaded
    heavy = {"pydantic", "cedarpy", "click", "rich", "httpx", "sqlite3", "broker.settings", "broker.cli"}
    assert loaded & heavy == needs


def test_the_command_says_what_it_lacks(base: Path) -> None:
    answer = said(base / "broker", "doctor")
    assert answer.returncode == 1
    assert answer.stderr == "Error: the command needs click: pip install 'spiffe-credential-broker[cli]'\n"


def test_the_cli_alone_exchanges_and_names_what_the_rest_needs(wheel: Path, tmp_path: Path) -> None:
    programs = environment(tmp_path / "venv", wheel, "cli")
    assert "--audience" in said(programs / "broker", "exchange", "--help").stdout
    answer = said(programs / "broker", "doctor")
    assert answer.returncode == 1
    assert "pip install 'spiffe-credential-broker[server]'" in answer.stderr


def test_the_server_extra_runs_the_broker(wheel: Path, tmp_path: Path) -> None:
    programs = environment(tmp_path / "venv", wheel, "server")
    assert said(programs / "broker", "init", str(tmp_path / "made")).returncode == 0
    answer = said(programs / "broker", "policy", "test", str(tmp_path / "made" / "policy"))
    assert answer.returncode == 0, answer.stdout + answer.stderr


def processor_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("name", ["broker.client", "broker.validator"])
def test_importing_costs_at_most_twice_what_it_stands_on(name: str) -> None:
    """The least of some turns of each, in turn: what is left of a busy machine's noise is on both sides."""
    costs = [(processor_seconds("import grpc, spiffe"), processor_seconds(f"import {name}")) for _ in range(5)]
    assert min(sdk for _, sdk in costs) <= 2 * min(below for below, _ in costs), costs


def test_two_builds_are_the_same_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever builds this commit gets this wheel: at another time, in another folder, by another umask."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    wheels = []
    for name, mask in (("one", 0o022), ("other", 0o077)):
        before = os.umask(mask)
        try:
            wheels.append(build_wheel(tmp_path / name).read_bytes())
        finally:
            os.umask(before)
    assert wheels[0] == wheels[1]
