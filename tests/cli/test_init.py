"""`broker init`: what it writes loads, is what the options say, and never takes another's place."""

import json
import stat
import tomllib
from pathlib import Path

import pytest

from broker.policy.bundle import read_bundle
from broker.policy.source import read_directory
from broker.settings import load
from tests.cli.setups import invoke


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)


def test_what_it_writes_loads_and_answers_its_golden_cases(tmp_path: Path) -> None:
    home = tmp_path / "new" / "broker"
    made = invoke("init", home)
    assert (made.exit_code, made.output.splitlines()[-1]) == (0, f"next: broker doctor --config {home}/broker.toml")
    settings = load(home / "broker.toml")
    assert settings.broker.issuer == "https://broker.example.org"
    assert settings.policy.dir == home / "policy"
    assert invoke("policy", "check", home / "policy").exit_code == 0
    assert invoke("policy", "test", home / "policy").exit_code == 0
    assert [stat.S_IMODE((home / "data" / half).stat().st_mode) for half in ("issuer", "door")] == [0o700, 0o700]


def test_the_first_bundle_is_small_owned_and_says_no_as_well(tmp_path: Path) -> None:
    invoke("init", tmp_path / "b", "--trust-domain", "acme.internal")
    draft = read_bundle(read_directory(tmp_path / "b" / "policy"))
    register = draft.policy.register
    assert (len(register.agents), len(register.services)) == (1, 1)
    assert all(agent.owned for agent in register.agents.values())
    assert {case.expected.answer for case in draft.cases} == {"permit", "hold", "deny"}
    assert "@trust-domain@" not in "".join(path.read_text() for path in (tmp_path / "b" / "policy").iterdir())


def test_every_commented_line_of_the_configuration_loads_too(tmp_path: Path) -> None:
    invoke("init", tmp_path / "b")
    config = tmp_path / "b" / "broker.toml"
    before, config_lines = load(config), config.read_text().splitlines()
    lines = [line.removeprefix("# ") if " = " in line and line.startswith("# ") else line
             for line in config_lines]  # fmt: skip
    config.write_text("\n".join(lines))
    assert sum(line not in config_lines for line in lines) >= 8
    assert load(config).model_dump() == before.model_dump(), "what is commented out is the default"


def test_options(tmp_path: Path) -> None:
    home = tmp_path / 'a "quoted" \\ place'
    made = invoke("init", home, "--json", "--trust-domain", "acme.internal", "--issuer", "https://tokens.acme.internal",
                  "--listen", "[::1]:9443", "--workload-api", "/run/spire/agent.sock")  # fmt: skip
    assert made.exit_code == 0, made.output
    written = [json.loads(line)["written"] for line in made.output.splitlines()]
    assert written[-1] == str(home / "broker.toml")
    settings = load(home / "broker.toml")
    assert (settings.broker.issuer, settings.broker.spiffe_id, settings.listen.address) == (
        "https://tokens.acme.internal", "spiffe://acme.internal/broker", "[::1]:9443",
    )  # fmt: skip
    assert settings.workload_api.socket == "unix:/run/spire/agent.sock"
    assert settings.store.path == home / "data" / "issuer" / "broker.sqlite3"


REFUSED = {
    "trust-domain-with-scheme": ("--trust-domain", "spiffe://acme.internal"),
    "trust-domain-with-path": ("--trust-domain", "acme.internal/x"),
    "trust-domain-in-capitals": ("--trust-domain", "Acme"),
    "trust-domain-that-breaks-out": ("--trust-domain", 'x"\n[keys]\ndir="/tmp'),
    "issuer-without-tls": ("--issuer", "http://broker.example.org"),
    "issuer-with-slash": ("--issuer", "https://broker.example.org/"),
    "listen-without-port": ("--listen", "127.0.0.1"),
    "socket-over-tcp": ("--workload-api", "tcp://127.0.0.1:1"),
}


@pytest.mark.parametrize("option", REFUSED.values(), ids=REFUSED)
def test_what_would_not_load_is_refused_before_anything_is_written(tmp_path: Path, option: tuple[str, str]) -> None:
    made = invoke("init", tmp_path / "b", *option)
    assert (made.exit_code, option[0] in made.output) == (2, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["broker.toml", "policy", "data"])
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    made = invoke("init", tmp_path)
    assert (made.exit_code, "nothing was written" in made.output) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_beside_other_files_there_is_room(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("mine")
    assert invoke("init", tmp_path).exit_code == 0
    assert (tmp_path / "README").read_text() == "mine"
    assert invoke("init", tmp_path).exit_code == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = invoke("init", tmp_path / "file" / "b")
    assert (made.exit_code, "file" in made.output) == (1, True)
    assert made.exception is None or isinstance(made.exception, SystemExit)


def test_toml_is_what_the_paths_say(tmp_path: Path) -> None:
    home = tmp_path / "tab\tand\x7f"
    invoke("init", home)
    assert tomllib.loads((home / "broker.toml").read_text())["keys"]["dir"] == str(home / "data" / "issuer" / "keys")
