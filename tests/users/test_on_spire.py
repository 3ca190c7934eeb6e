"""Two users on a real SPIRE: each half is attested by its own uid, undumpable as it is."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.spire.deployment import Deployment, start
from tests.cli.setups import AGENT, BROKER, SERVICE
from tests.polling import eventually
from tests.users.place import DOOR, ISSUER, Place, TwoUsers, as_user

pytestmark = pytest.mark.spire

ASSISTANT = 61003


@pytest.fixture
def spire(place: Place) -> Iterator[Deployment]:
    with start(place.folder / "spire", trust_domains=["example.org"], detached=False) as deployment:
        yield deployment


def exchange(two: TwoUsers, socket: str) -> "subprocess.CompletedProcess[str]":
    """Exchange as an agent that is a user of its own."""
    environment = two.place.environment | {
        "SPIFFE_ENDPOINT_SOCKET": socket, "BROKER_ADDRESS": f"127.0.0.1:{two.house.port}", "BROKER_ID": BROKER,
    }  # fmt: skip
    argv: list[str | Path] = [*two.place.broker("exchange", "--action", "order.read", "--resource", "order/1234",
                              "--purpose", "customer-support", "--audience", SERVICE, "--json")]  # fmt: skip
    return as_user(ASSISTANT, argv, env=environment)


@pytest.mark.timeout(300)
async def test_each_half_has_an_entry_of_its_own(two: TwoUsers, spire: Deployment) -> None:
    socket = spire.workload_socket("example.org")
    two.house.edit(two.house.spire.socket, socket)
    spire.entry(AGENT, uid=ASSISTANT)
    spire.entry(BROKER, uid=ISSUER)

    async def found(what: str) -> dict[str, str] | None:
        _, seen = await asyncio.to_thread(two.doctor)
        return seen["workload-entry"] if what in seen["workload-entry"]["what"] else None

    missing = await eventually(lambda: found(f"no entry for the door, user {DOOR}"), within=100)
    assert (missing["level"], f"-selector unix:uid:{DOOR}: one entry" in missing["fix"]) == ("problem", True)
    spire.entry(BROKER, uid=DOOR)
    assert await eventually(lambda: found("SPIRE gives the issuer 1 SVID and the door 1 SVID"), within=100)
    await asyncio.to_thread(two.start)

    async def given() -> "subprocess.CompletedProcess[str] | None":
        run = await asyncio.to_thread(exchange, two, socket)
        return run if run.returncode == 0 else None

    run = await eventually(given, within=100)
    assert json.loads(run.stdout)["credential"].startswith("cred_")
