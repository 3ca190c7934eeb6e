"""Everything is renewed or restarted under an agent that goes on calling a guarded service, on a real SPIRE."""

import asyncio
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.spire.deployment import Deployment, start
from tests.faults.spawned import free_port
from tests.polling import eventually
from tests.spire.stage import BOTH, ORDERS, READ, Stage
from tests.spire.stage import stage as set_stage
from tests.spire.test_broker_on_spire import SECURITY, SUPPORT, leaf_of

pytestmark = [pytest.mark.spire, pytest.mark.timeout(420)]

HOME = BOTH[0]
ROTATIONS = 3
CALLS = 5_000
AT_ONCE = 6


@pytest.fixture(scope="module")
async def own() -> AsyncIterator[Stage]:
    """A SPIRE of this module's own: its authority is taken away."""
    with tempfile.TemporaryDirectory(prefix="spire-own-") as folder:
        spire = await asyncio.to_thread(start, Path(folder) / "spire", svid_ttl="60s", detached=False)
        try:
            async with set_stage(spire, Path(folder)) as stage:
                yield stage
        finally:
            await asyncio.to_thread(spire.stop)


@pytest.fixture
async def called(own: Stage) -> AsyncIterator[int]:
    """The port of a service that an agent calls without end."""
    port = free_port()
    await own.service(port)
    request = {"do": "begin_calls", "service": ORDERS, "address": f"127.0.0.1:{port}", "at_once": AT_ONCE}
    await own.as_(SUPPORT, request)
    yield port
    await own.as_(SUPPORT, {"do": "end_calls"})
    await own.kill_service()


async def calls(stage: Stage) -> dict[str, Any]:
    return await stage.as_(SUPPORT, {"do": "calls"})


async def more_calls(stage: Stage, count: int = 100) -> list[str]:
    """Wait for so many more good calls; return how others failed meanwhile."""
    before = (await calls(stage))["done"]
    failures: list[str] = []

    async def enough() -> bool:
        now = await calls(stage)
        failures.extend(now["failed"])
        return bool(now["done"] >= before + count)

    assert await eventually(enough, within=60), failures
    return failures


class Leaves:
    """The different leaves that the broker, the service and the agent were seen with."""

    def __init__(self, stage: Stage, port: int) -> None:
        self.seen: dict[str, set[object]] = {"broker": set(), "service": set(), "agent": set()}
        self._look: dict[str, Callable[[], Awaitable[object]]] = {
            "broker": lambda: asyncio.to_thread(leaf_of, stage.port),
            "service": lambda: asyncio.to_thread(leaf_of, port),
            "agent": lambda: self._agent(stage),
        }

    async def _agent(self, stage: Stage) -> object:
        return (await stage.as_(SUPPORT, READ))["thumbprint"]

    async def look(self) -> int:
        """Look again; return how often the one that was renewed least has been renewed."""
        for who, look in self._look.items():
            self.seen[who].add(await look())
        return min(map(len, self.seen.values())) - 1


def authority(spire: Deployment, *command: str) -> list[dict[str, str]]:
    """Run one of SPIRE's own commands about its X.509 authorities; return those it names."""
    here = spire.trust_domain(HOME)
    program = [str(here.binaries.server), "localauthority", "x509", *command, "-output", "json"]
    done = subprocess.run(
        [*program, "-socketPath", str(here.server_socket)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    return [each for name, each in sorted(said.items()) if isinstance(each, dict) and "authority_id" in each]


async def authorities(stage: Stage) -> list[str]:
    return [each["authority_id"] for each in await asyncio.to_thread(authority, stage.spire, "show")]


def trusted(stage: Stage) -> int:
    """Return how many authorities the trust bundle has."""
    return stage.spire.bundle(HOME).count('"x509-svid"')


async def prepare_authority(stage: Stage) -> tuple[str, str]:
    """Have a new authority trusted, which does not issue yet; return the ids of the old one and the new one."""
    (old,) = await authorities(stage)
    await asyncio.to_thread(authority, stage.spire, "prepare")
    (new,) = [each for each in await authorities(stage) if each != old]
    assert trusted(stage) == 2
    return old, new


async def activate_authority(stage: Stage, old: str, new: str) -> None:
    """Have the new authority issue; what the old one issued is renewed before its time."""
    await asyncio.to_thread(authority, stage.spire, "activate", "-authorityID", new)
    await asyncio.to_thread(authority, stage.spire, "taint", "-authorityID", old)


async def remove_authority(stage: Stage, old: str) -> None:
    """Trust the old authority no more."""
    await asyncio.to_thread(authority, stage.spire, "revoke", "-authorityID", old)
    assert trusted(stage) == 1


async def test_no_call_fails_while_everything_is_renewed(own: Stage, called: int) -> None:
    leaves = Leaves(own, called)

    async def renewed(times: int) -> None:
        async def enough() -> bool:
            return await leaves.look() >= times

        assert await eventually(enough, within=120), leaves.seen

    old, new = await prepare_authority(own)
    await renewed(1)
    await activate_authority(own, old, new)
    await renewed(2)
    await remove_authority(own, old)
    await renewed(ROTATIONS)

    async def enough() -> bool:
        return bool((await own.as_(SUPPORT, {"do": "count"}))["done"] >= CALLS)

    assert await eventually(enough, within=120)
    counted = await own.as_(SUPPORT, {"do": "calls"})
    assert counted["failed"] == []
    assert counted["ended"] == []


@pytest.mark.parametrize("what", ["agent", "server", "both"])
async def test_no_call_fails_while_spire_restarts(own: Stage, called: int, what: str) -> None:
    assert called
    await more_calls(own)
    if what in ("server", "both"):
        await asyncio.to_thread(own.spire.restart_server, HOME, kill=True)
    if what in ("agent", "both"):
        await asyncio.to_thread(own.spire.restart_agent, HOME, kill=True)
    assert await more_calls(own) == []


async def test_calls_go_on_by_themselves_after_the_broker_was_killed(own: Stage, called: int) -> None:
    assert called
    await more_calls(own)
    assert own.broker is not None
    own.broker.kill()
    await own.broker.wait()
    await own.start_broker()
    failures = await more_calls(own)
    said = ("Unreachable", "ISSUER_UNAVAILABLE", "VIEW_STALE")  # the last by the service, which heard nothing either
    assert [each for each in failures if not any(reason in each for reason in said)] == []
    assert await more_calls(own) == []


async def test_a_revocation_made_while_the_service_was_away_is_known_when_it_is_back(own: Stage, called: int) -> None:
    credential = await own.as_(SUPPORT, READ | {"do": "hold", "address": f"127.0.0.1:{called}"})
    assert await own.as_(SUPPORT, {"do": "use"}) == {"article": "order 1234"}
    await own.kill_service()
    await own.as_(SECURITY, {"do": "revoke", "kind": "credential", "name": credential["credential"]})
    await own.service(called)

    async def refused() -> str | None:
        return (await own.as_(SUPPORT, {"do": "use"})).get("refused")  # nobody answers at first

    assert await eventually(refused) == "TOKEN_REVOKED"
    assert await more_calls(own) is not None
