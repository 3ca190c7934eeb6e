"""Configuration: whatever cannot be used is refused before anything opens, and named."""

from datetime import timedelta
from pathlib import Path

import pytest

from broker.settings import ConfigurationProblem, config_path, load

GOOD = """
[broker]
issuer = "https://broker.example.org"
spiffe_id = "spiffe://example.org/broker"
[admin]
socket = "/run/broker/admin.sock"
[store]
url = "sqlite:////var/lib/broker/broker.sqlite3"
[keys]
dir = "/var/lib/broker/keys"
[policy]
dir = "/etc/broker/policy"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "broker.toml"
    path.write_text(text)
    return path


def test_a_good_file_loads_with_defaults(tmp_path: Path) -> None:
    settings = load(written(tmp_path, GOOD))
    assert settings.listen.address == "127.0.0.1:8443"
    assert settings.store.path == Path("/var/lib/broker/broker.sqlite3")


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_LISTEN__ADDRESS", "[::1]:9443")
    assert load(written(tmp_path, GOOD)).listen.address == "[::1]:9443"


OIDC = '[[oidc]]\nissuer = "https://login.example.org/realms/staff"\naudience = "approvals"\n'


def test_issuers_of_identity_tokens_stand_in_the_file(tmp_path: Path) -> None:
    (found,) = load(written(tmp_path, GOOD + OIDC)).oidc
    assert (found.audience, found.subject_claim, found.ca_file, found.keys_max_age) == (
        ("approvals", "sub", None, timedelta(hours=1))
    )
    assert len(load(written(tmp_path, GOOD + OIDC + OIDC.replace("staff", "partners"))).oidc) == 2
    assert load(written(tmp_path, GOOD)).oidc == ()


@pytest.mark.parametrize("name", ["BROKER_OIDC", "BROKER_OIDC__0__AUDIENCE", "BROKER_OIDC__AUDIENCE"])
def test_and_not_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigurationProblem, match=name):
        load(written(tmp_path, GOOD + OIDC))


BAD = [
    pytest.param(OIDC + "colour = 1\n", "oidc.0.colour: unknown key", id="oidc-key"),
    pytest.param(OIDC.replace("https", "http"), "oidc.0.issuer: an https URL", id="oidc-http"),
    pytest.param(OIDC.replace("staff", "staff?a=b"), "oidc.0.issuer: an https URL", id="oidc-query"),
    pytest.param(OIDC.replace('"approvals"', '""'), "oidc.0.audience: 1 to 255", id="oidc-audience"),
    pytest.param(OIDC.replace("issuer", "#"), "oidc.0.issuer: missing", id="oidc-no-issuer"),
    pytest.param(OIDC + 'keys_max_age = "PT1S"\n', "oidc.0.keys_max_age", id="oidc-age"),
    pytest.param(OIDC + 'keys_max_age = "P2D"\n', "oidc.0.keys_max_age", id="oidc-age-long"),
    pytest.param(OIDC + OIDC, "stands there twice", id="oidc-twice"),
    pytest.param(
        OIDC.replace("https://login.example.org/realms/staff", "https://broker.example.org/"),
        "is the broker itself",
        id="oidc-broker",
    ),
    pytest.param('[oidc]\nissuer = "https://login.example.org"\n', "oidc", id="oidc-one"),
    pytest.param('[listen]\naddres = "x:1"\n', "listen.addres: unknown key", id="misspelt-key"),
    pytest.param('[lisen]\naddress = "x:1"\n', "lisen: unknown key", id="misspelt-section"),
    pytest.param('[listen]\naddress = "8443"\n', "listen.address: host:port", id="address"),
    pytest.param('[listen]\naddress = "x:70000"\n', "listen.address: host:port", id="port"),
    pytest.param("[limits]\ncall_deadline = -1\n", "limits.call_deadline", id="duration"),
    pytest.param("[workload_api]\nsocket = '/run/agent.sock'\n", "workload_api.socket: unix:", id="socket"),
    pytest.param("[broker\n", "not valid TOML", id="syntax"),
    pytest.param(
        '[tasks]\ndefault_lifetime = "P2D"\n', "tasks: default_lifetime must not be above", id="lifetimes-crossed"
    ),
]


@pytest.mark.parametrize(("more", "said"), BAD)
def test_what_cannot_be_used_is_named(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(ConfigurationProblem, match=said.replace("[", r"\[")):
        load(written(tmp_path, GOOD + more))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("https://broker.example.org", "http://broker.example.org", "broker.issuer: an https URL"),
        ("https://broker.example.org", "https://broker.example.org/", "broker.issuer: an https URL"),
        ("spiffe://example.org/broker", "spiffe://example.org", "broker.spiffe_id: a bare trust domain"),
        ("spiffe://example.org/broker", "example.org/broker", "broker.spiffe_id: not a SPIFFE ID"),
        ("sqlite:////var/lib/broker/broker.sqlite3", "postgres://x", "store.url: sqlite:///"),
        ('[keys]\ndir = "/var/lib/broker/keys"\n', "", "keys: missing"),
        ("[keys]\n", '[keys]\nrotate_every = "PT1M"\n', "keys: publish_ahead must not be above rotate_every"),
    ],
)
def test_a_wrong_value_is_named_with_its_fix(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigurationProblem, match=said):
        load(written(tmp_path, GOOD.replace(old, new)))


def test_a_misspelt_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_LISTEN__ADRESS", "x:1")
    with pytest.raises(ConfigurationProblem, match=r"BROKER_LISTEN__ADRESS"):
        load(written(tmp_path, GOOD))


def test_a_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationProblem, match="--config"):
        config_path(tmp_path / "none.toml")
