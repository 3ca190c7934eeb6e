"""`broker init`: a commented configuration and a first policy bundle, both of which load."""

import json
import os
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import click
from pydantic import BaseModel, ValidationError

from broker.cli.connection import REFUSED, fail
from broker.errors import Refusal
from broker.settings import Broker, Listen, WorkloadApi
from broker.svid.spiffe_id import SpiffeId

CONFIGURATION: Final = "broker.toml"
POLICY: Final = "policy"
DATA: Final = "data"
# A directory for each half, so that each can be given to a user of its own.
ISSUER: Final = "issuer"
DOOR: Final = "door"
_PLACE: Final = "@trust-domain@"


@click.command
@click.option("--trust-domain", default="example.org", show_default=True, help="The trust domain of your SPIRE server.")
@click.option(
    "--issuer", help="The https URL that tokens name as their issuer.  [default: https://broker.TRUST-DOMAIN]"
)
@click.option("--listen", default="127.0.0.1:8443", show_default=True, help="Where agents and services connect.")
@click.option(
    "--workload-api",
    envvar="SPIFFE_ENDPOINT_SOCKET",
    default="unix:/tmp/spire-agent/public/api.sock",
    show_default=True,
    help="Where the SPIRE agent answers.  [env: SPIFFE_ENDPOINT_SOCKET]",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object a file written, a line each.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def init(
    *, trust_domain: str, issuer: str | None, listen: str, workload_api: str, as_json: bool, directory: Path
) -> None:
    """Write DIRECTORY/broker.toml and a first policy bundle, to be made your own.

    Asks nothing, and overwrites nothing. Exit status: 0 written; 1 something is there already, or cannot be written.
    """
    values = _values(trust_domain, issuer, listen, workload_api)
    root = directory.absolute()
    files = {CONFIGURATION: _configuration(values, root), **_bundle(trust_domain)}
    taken = [name for name in (CONFIGURATION, POLICY, DATA) if (root / name).exists() or (root / name).is_symlink()]
    if taken:
        there = " and ".join(str(root / name) for name in taken)
        fail(f"{there}: there already; nothing was written", "Name another directory, or move it away.", REFUSED)
    try:
        written = _write(root, files)
    except OSError as failure:
        fail(f"{failure.filename}: {failure.strerror}", "Name a directory that you may write.", REFUSED)
    _show(written, root / CONFIGURATION, as_json=as_json)


def _values(trust_domain: str, issuer: str | None, listen: str, workload_api: str) -> dict[str, str]:
    """Return what goes into the configuration, judged as the broker will judge it."""
    try:
        domain = SpiffeId.parse(f"spiffe://{trust_domain}")
    except Refusal as refusal:
        raise click.BadParameter(refusal.detail, param_hint="--trust-domain") from refusal
    if domain.path:
        raise click.BadParameter("a name alone, such as example.org", param_hint="--trust-domain")
    spiffe_id = f"{domain}/broker"
    chosen = issuer or f"https://broker.{domain.trust_domain}"
    socket = f"unix:{workload_api}" if workload_api.startswith("/") else workload_api
    _judge(Broker, "--issuer", issuer=chosen, spiffe_id=spiffe_id)
    _judge(Listen, "--listen", address=listen)
    _judge(WorkloadApi, "--workload-api", socket=socket)
    return {"issuer": chosen, "spiffe_id": spiffe_id, "address": listen, "workload_api": socket}


def _judge(section: type[BaseModel], option: str, **values: str) -> None:
    try:
        section.model_validate(values)
    except ValidationError as failure:
        said = failure.errors()[0]["msg"].removeprefix("Value error, ")
        raise click.BadParameter(said, param_hint=option) from failure


def _configuration(values: dict[str, str], root: Path) -> str:
    places = {
        "admin_socket": str(root / DATA / DOOR / "admin.sock"),
        "store_url": f"sqlite:///{root / DATA / ISSUER / 'broker.sqlite3'}",
        "keys_dir": str(root / DATA / ISSUER / "keys"),
        "policy_dir": str(root / POLICY),
    }
    quoted = {name: _toml(value) for name, value in (values | places).items()}
    return _templates().joinpath(CONFIGURATION).read_text().format(**quoted, bare_spiffe_id=values["spiffe_id"])


def _toml(text: str) -> str:
    """Return a TOML basic string; JSON's escapes are among TOML's, and DEL is the one that JSON leaves out."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _bundle(trust_domain: str) -> dict[str, str]:
    files = sorted(_templates().joinpath(POLICY).iterdir(), key=lambda file: file.name)
    return {f"{POLICY}/{file.name}": file.read_text().replace(_PLACE, trust_domain) for file in files}


def _templates() -> Traversable:
    return resources.files("broker.cli") / "templates"


def _write(root: Path, files: dict[str, str]) -> list[Path]:
    """Write each file anew, the configuration last: where it stands, everything that it points at stands too."""
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    (root / DATA).mkdir(mode=0o755)
    (root / DATA / ISSUER).mkdir(mode=0o700)
    (root / DATA / DOOR).mkdir(mode=0o700)
    (root / POLICY).mkdir(mode=0o755)
    written = []
    for name in sorted(files, key=lambda name: name == CONFIGURATION):
        path = root / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(files[name])
        written.append(path)
    return written


def _show(written: list[Path], config: Path, *, as_json: bool) -> None:
    for path in written:
        click.echo(json.dumps({"written": str(path)}) if as_json else f"wrote {path}")
    if not as_json:
        click.echo(f"next: broker doctor --config {config}")
