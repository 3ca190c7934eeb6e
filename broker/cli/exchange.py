"""`broker exchange`: declare an intent, get a credential; the token goes into a file or nowhere."""

import json
import os
from datetime import timedelta
from pathlib import Path

import click

from broker.cli.connection import options, run, show
from broker.cli.duration import Duration
from broker.client import Credential, Session
from broker.errors import Refusal
from broker.intent import Json, parse_parameters


@click.command
@options
@click.option("--action", required=True, help="What will be done, such as order.read.")
@click.option("--resource", required=True, metavar="TYPE/ID", help="What is touched, such as order/1234.")
@click.option("--parameters", default="", help="The call's parameters, one JSON object.")
@click.option("--purpose", required=True, help="Why; registered for this agent.")
@click.option("--audience", required=True, help="The SPIFFE ID of the service that will be called.")
@click.option("--task", default="", help="The task this belongs to; writes need one.")
@click.option("--wait", type=Duration(), help="Wait so long for a person, where one has to approve it; such as 5m.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the token to this new file, mode 0600.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def exchange(  # noqa: PLR0913  # one parameter an option
    *,
    address: str,
    broker_id: str,
    socket: str | None,
    spiffe_id: str | None,
    action: str,
    resource: str,
    parameters: str,
    purpose: str,
    audience: str,
    task: str,
    wait: timedelta | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Exchange this workload's SVID and a declared intent for a credential.

    What was granted is shown; the token itself never is.
    """
    kind, slash, identifier = resource.partition("/")
    if not slash:
        raise click.BadParameter("give TYPE/ID, such as order/1234", param_hint="--resource")

    asked = _parameters(parameters)

    async def work(session: Session) -> Credential:
        return await session.exchange(
            action=action,
            resource=(kind, identifier),
            parameters=asked,
            purpose=purpose,
            audience=audience,
            task=task,
            wait=wait,
        )

    credential = run(address, broker_id, socket, spiffe_id, work)
    if output is not None:
        _write(output, credential)
    show(
        {
            "credential": credential.id,
            "expires": credential.expires_at.isoformat(),
            "tenant": credential.tenant,
            "granted": json.dumps(list(credential.authorization_details))
            if not as_json
            else list(credential.authorization_details),
            "permitted by": ", ".join(credential.policy_ids),
            "decision": credential.decision_id,
        },
        as_json=as_json,
    )


def _parameters(text: str) -> dict[str, Json]:
    try:
        return parse_parameters(text)
    except Refusal as refusal:
        raise click.BadParameter(refusal.reason.meaning.next_step, param_hint="--parameters") from refusal


def _write(path: Path, credential: Credential) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as problem:
        raise click.ClickException(f"{path}: {problem.strerror}; name a file that does not exist yet") from problem
    with os.fdopen(descriptor, "w") as file:
        file.write(credential.token.reveal())
