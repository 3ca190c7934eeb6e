"""The `broker` command: one file a group, loaded when it is called for.

Exit codes: 0 done; 1 refused, or checked and found wrong; 2 wrong usage; 69 the broker or the Workload API cannot be
reached; 78 the configuration cannot be used; 130 interrupted.
"""

import importlib
from typing import Final

import click

_COMMANDS: Final = {
    "audit": "broker.cli.audit:audit",
    "exchange": "broker.cli.exchange:exchange",
    "policy": "broker.cli.policy:policy",
    "revoke": "broker.cli.revoke:revoke",
    "serve": "broker.cli.serve:serve",
}
_HIDDEN: Final = {"_issuer": "broker.cli.serve:issuer", "_door": "broker.cli.serve:door"}


class _Lazy(click.Group):
    """Imports a command's module when the command is run: `broker exchange` must not pay for the server."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        path = (_COMMANDS | _HIDDEN).get(cmd_name)
        if path is None:
            return None
        module, _, name = path.partition(":")
        try:
            command = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as missing:
            raise click.ClickException(
                f"`broker {cmd_name}` needs {missing.name}: pip install 'spiffe-credential-broker[server]'"
            ) from missing
        return command if isinstance(command, click.Command) else None


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="spiffe-credential-broker")
def broker() -> None:
    """Give AI agents credentials for one action at a time, proven by SPIFFE, decided by policy, and revocable."""
