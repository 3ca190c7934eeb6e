"""The broker on SPIRE in containers: started as the README says, attesting processes of the host."""

import asyncio

import pytest

from deploy.spire.build import VERSION
from tests.containers.composed import ComposedSpire
from tests.spire.stage import BOTH, READ, Stage

pytestmark = [pytest.mark.containers, pytest.mark.spire]

SUPPORT = "spiffe://example.org/agent/support-assistant"
WHOLESALE = "spiffe://example.org/agent/wholesale-assistant"
COURIER = "spiffe://partner.example/agent/courier"
STRANGER = "spiffe://example.org/agent/stranger"


def test_the_file_names_the_official_images(spire: ComposedSpire) -> None:
    project = spire.projects["example.org"]
    named = project.run("unset SPIRE_IMAGES; export SPIRE_DIR=/spire; cd deploy/spire; docker compose config")
    for program in ("spire-server", "spire-agent"):
        assert f"image: ghcr.io/spiffe/{program}:{VERSION}\n" in named


async def test_an_agent_exchanges_by_an_svid_from_a_container_and_a_stranger_does_not(stage: Stage) -> None:
    granted = await stage.as_(SUPPORT, READ)
    assert granted["policies"] == ["order-readers-may-look-up-orders"]
    assert (await stage.as_(STRANGER, READ))["refused"] == "PRINCIPAL_UNKNOWN"


async def test_an_agent_of_a_federated_container_exchanges(stage: Stage, spire: ComposedSpire) -> None:
    for here, other in (BOTH, BOTH[::-1]):  # the first bundle came by hand, the next come from the endpoint
        assert "Bundle refreshed" in spire.projects[here].spire("federation", "refresh", "-id", other)
    granted = await stage.as_(COURIER, READ | {"purpose": "delivery"})
    assert granted["policies"] == ["courier-may-look-up-an-order"]


async def test_everything_goes_on_while_the_agents_container_is_killed_and_made_again(
    stage: Stage, spire: ComposedSpire
) -> None:
    project = spire.projects["example.org"]
    assert "credential" in await stage.as_(SUPPORT, READ)
    calls = asyncio.create_task(stage.as_(SUPPORT, READ | {"do": "exchange_for", "seconds": 8}, within=60))
    await asyncio.to_thread(project.compose, "kill", "agent")
    assert "agent" not in await asyncio.to_thread(running, spire)
    await asyncio.to_thread(project.compose, "rm", "--force", "agent")
    await asyncio.to_thread(project.compose, "up", "--detach", "agent")
    counted = await calls
    assert (counted["failed"], counted["done"] > 0) == ([], True)
    assert "credential" in await stage.as_(WHOLESALE, READ)  # attested for the first time, by the agent that came back


def running(spire: ComposedSpire) -> list[str]:
    """Return which containers of the first trust domain run."""
    return spire.projects["example.org"].compose("ps", "--services", "--filter", "status=running").split()
