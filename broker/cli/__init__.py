"""The `broker` command: one file a group, loaded when it is called for.

Exit codes: 0 done; 1 refused, or checked and found wrong; 2 wrong usage; 69 the broker or the Workload API cannot be
reached; 78 the configuration cannot be used; 130 interrupted.
"""

import importlib
import os
from typing import Final

import click

_COMMANDS: Final = {
    "approvals": "broker.cli.approvals:approvals",
    "approve": "broker.cli.approvals:approve",
    "audit": "broker.cli.audit:audit",
    "deny": "broker.cli.approvals:deny",
    "doctor": "broker.cli.doctor.command:doctor",
    "exchange": "broker.cli.exchange:exchange",
    "init": "broker.cli.init:init",
    "keys": "broker.cli.keys:keys",
    "lift": "broker.cli.lift:lift",
    "paths": "broker.cli.paths:paths",
    "policy": "broker.cli.policy:policy",
    "revocations": "broker.cli.revocations:revocations",
    "revoke": "broker.cli.revoke:revoke",
    "serve": "broker.cli.serve:serve",
    "stop": "broker.cli.stop:stop",
    "task": "broker.cli.task:task",
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
            return _Missing(cmd_name, missing.name or "more")
        return command if isinstance(command, click.Command) else None


class _Missing(click.Command):
    """Stands in for a command whose packages are not installed: listed and completed, and says so when it is run."""

    def __init__(self, name: str, package: str) -> None:
        super().__init__(name, short_help="(needs the [server] extra)")
        self._message = f"`broker {name}` needs {package}: pip install 'spiffe-credential-broker[server]'"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:  # noqa: ARG002
        """End with what is missing, whatever the arguments; completion asks on behalf of nobody, and goes on."""
        if ctx.resilient_parsing:
            return []
        raise click.ClickException(self._message)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="spiffe-credential-broker")
@click.pass_context
def broker(context: click.Context) -> None:
    """Give AI agents credentials for one action at a time, proven by SPIFFE, decided by policy, and revocable."""
    if os.environ.get("NO_COLOR"):  # no-color.org; without it, colour stands on a terminal only
        context.color = False
