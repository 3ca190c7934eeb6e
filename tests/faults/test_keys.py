"""SIGKILL while keys change: after it exactly one key of each use signs, and no token is by a key that nobody knows."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from broker.v1 import keys_pb2, keys_pb2_grpc
from tests.faults.ledger import Held, differences
from tests.faults.points import KeyPoint, Orders
from tests.faults.spawned import Spawned, spawn
from tests.polling import eventually

KEYS = "keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """The keys by the store, and the key files there are."""

    states: dict[str, tuple[str, str]]
    files: set[str]

    def of(self, use: str, *states: str) -> list[str]:
        return [kid for kid, (its_use, state) in self.states.items() if its_use == use and state in states]

    @property
    def sound(self) -> bool:
        """Whether of each use one key signs and one is next, and their files are there, and of no key that is over."""
        pairs = [(use, state) for use in ("token", "checkpoint") for state in ("current", "next")]
        over = {*self.of("token", "retired", "removed"), *self.of("checkpoint", "retired", "removed")}
        living = {kid for pair in pairs for kid in self.of(*pair)}
        return all(len(self.of(*pair)) == 1 for pair in pairs) and living <= self.files and not over & self.files


def ring(broker: Spawned) -> Ring:
    with closing(sqlite3.connect(f"file:{broker.database}?mode=ro", uri=True)) as rows:
        states = {kid: (use, state) for kid, use, state in rows.execute("SELECT kid, use, state FROM key_ring")}
    files = {path.stem.removeprefix("checkpoint-") for path in (broker.folder / "keys").glob("[!.]*.pem")}
    return Ring(states=states, files=files)


def stub(broker: Spawned) -> Any:
    return keys_pb2_grpc.KeyServiceStub(broker.security.channel)


async def emergency(broker: Spawned, kid: str, request_id: str) -> str:
    """Let a key count no more; empty when it was acknowledged, else why not."""
    asked = keys_pb2.RotateKeysRequest(emergency_kid=kid, reason="a fault", request_id=request_id)
    try:
        await stub(broker).RotateKeys(asked, timeout=60)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return ""


async def published(broker: Spawned) -> set[str]:
    found = await stub(broker).ListKeys(keys_pb2.ListKeysRequest(), timeout=60)
    return {key.kid for key in found.keys}


async def settled(broker: Spawned) -> Ring:
    """Wait until the broker serves and has cleared away what the crash left."""
    await broker.serves()

    async def sound() -> Ring | None:
        found = ring(broker)
        return found if found.sound else None

    return await eventually(sound)


async def check(broker: Spawned, point: KeyPoint, use: str) -> None:
    before = await settled(broker)
    (stolen,), (following,) = before.of(use, "current"), before.of(use, "next")
    broker.orders.give(point, KEYS, passes=1)
    request = broker.name("rotation")
    assert await emergency(broker, stolen, request) in ("UNAVAILABLE", "CANCELLED", "UNKNOWN")
    assert broker.orders.carried_out
    after = await settled(broker)
    signing = following if point.committed else stolen
    assert after.of(use, "current") == [signing]
    assert (stolen in after.of(use, "removed")) is point.committed
    assert await published(broker) == {kid for kid, (_, state) in after.states.items() if state != "removed"}
    assert differences(broker.ledger, broker.facts()) == []
    # The lost answer is asked for again, and says so or does it now; a key is taken away once.
    assert await emergency(broker, stolen, request) == ""
    done = await settled(broker)
    assert done.of(use, "current") == [following]
    rotated = [event for event in broker.facts().of("keys.rotated") if event["replaced"] == stolen]
    assert len(rotated) == 1


CRASHES = [*(("token", point) for point in KeyPoint)]
CRASHES += [("checkpoint", point) for point in (KeyPoint.FILE_WRITTEN, KeyPoint.AFTER_COMMIT, KeyPoint.OVERWRITTEN)]


@pytest.mark.parametrize(("use", "point"), CRASHES, ids=[f"{use}-{point.name}" for use, point in CRASHES])
async def test_a_crash_while_a_stolen_key_is_taken_away(halves: Spawned, use: str, point: KeyPoint) -> None:
    await check(halves, point, use)


async def test_no_key_signs_that_was_not_published_before(halves: Spawned) -> None:
    """By the log, whose order is that of the commits: each key was next before it was current, and current alone."""
    await settled(halves)
    states: dict[str, list[str]] = {}
    signing: dict[str, list[str]] = {"token": [], "checkpoint": []}
    for event in halves.facts().of("key.changed"):
        kid, use = event["kid"], event["use"]
        states.setdefault(kid, []).append(event["state"])
        if event["state"] == "current":
            assert states[kid] in (["next", "current"], ["current"])
            assert all(states[other][-1] in ("retired", "removed") for other in signing[use])
            signing[use].append(kid)
    for kids in signing.values():
        assert len(kids) > 3
        assert [states[kid][0] for kid in kids] == ["current", *["next"] * (len(kids) - 1)]
    granted = halves.facts().of("credential.granted")
    assert granted


@pytest.mark.parametrize("passes", [1, 4])
async def test_a_crash_while_the_first_keys_of_all_are_made(
    tmp_path_factory: pytest.TempPathFactory, passes: int
) -> None:
    folder = tmp_path_factory.mktemp("b")
    orders = Orders(folder=folder)
    orders.give(KeyPoint.FILE_WRITTEN, KEYS, passes=passes)
    async with spawn(folder) as broker:
        assert orders.carried_out
        found = await settled(broker)
        assert len(found.states) == 4
        assert len(found.files) == 4 + passes, (
            "what was made before is known to nobody, signs nothing, and is left alone"
        )
        assert isinstance(await broker.agent.exchange(broker.name("request")), Held)
