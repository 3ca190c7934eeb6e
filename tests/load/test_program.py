"""The compiled load: its own tests, its open loop against the real broker, and the reference that is none."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.attacks.entrances import exchange, request
from tests.attacks.house import NAME, House, open_house
from tests.fakes.trust_domain import pem
from tests.interop.build import environment
from tests.load.running import said, started, write_identity
from tests.operations.world import BROKER, ORDERS, SUPPORT

# A build with cold caches is part of the first test.
pytestmark = pytest.mark.timeout(900)

GRANTED = "credential.granted"


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as opened:
        yield opened


@pytest.mark.parametrize(
    "command", [["go", "vet", "./..."], ["go", "test", "-timeout=60s", "./..."]], ids=["vet", "test"]
)
def test_the_go_code_is_good(load_program: Path, command: list[str]) -> None:
    folder = load_program.parents[1] / "tests" / "load"
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_go_code_is_formatted(load_program: Path) -> None:
    folder = load_program.parents[1] / "tests" / "load"
    found = subprocess.run(["gofmt", "-l", "."], cwd=folder, env=environment(), capture_output=True, check=True)
    assert found.stdout == b""


def as_agent(house: House) -> Path:
    return write_identity(house.folder, "agent", house.svid(SUPPORT, ttl=timedelta(hours=1)), house.home)


def channel_to(house: House, port: int) -> grpc.aio.Channel:
    svid = house.svid(SUPPORT)
    credentials = grpc.ssl_channel_credentials(pem(house.home.bundle), svid.private_key, svid.certificate_chain)
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=[("grpc.ssl_target_name_override", NAME)])


async def loaded(program: Path, identity: Path, port: int, *flags: str, server: str = BROKER) -> dict[str, Any]:
    arguments = ["-address", f"127.0.0.1:{port}", "-server", server, "-identity", str(identity), "-audience", ORDERS]
    async with started(program, "exchange", *arguments, *flags) as process:
        return await said(process, within=120)


async def test_the_open_loop_counts_every_call_that_was_due(house: House, load_program: Path) -> None:
    found = await loaded(
        load_program, as_agent(house), house.door.port, "-rate", "50", "-seconds", "2", "-warmup", "0.5",
    )  # fmt: skip
    assert (found["scheduled"], found["granted"], found["refused"], found["failed"]) == (100, 100, {}, {})
    assert found["latency_ms"].keys() == {"p50", "p90", "p99", "p99.9", "p100"}
    assert sum(1 for event in await house.log() if event["type"] == GRANTED) == 125  # the warm-up as well


async def test_a_refusal_is_counted_by_its_reason_and_a_dead_broker_by_a_code(house: House, load_program: Path) -> None:
    agent = as_agent(house)
    flags = ("-rate", "20", "-seconds", "0.5", "-deadline", "1s")
    refused = await loaded(load_program, agent, house.door.port, *flags, "-deadline", "60s", "-purpose", "curiosity")
    assert refused["refused"] == {"PURPOSE_REFUSED": 10}
    await house.stop()
    failed = await loaded(load_program, agent, house.door.port, *flags)
    assert failed["failed"] == {"DeadlineExceeded": 10}


async def test_the_open_loop_speaks_to_the_broker_alone(house: House, load_program: Path) -> None:
    flags = ("-rate", "10", "-seconds", "0.5", "-deadline", "500ms")
    found = await loaded(load_program, as_agent(house), house.door.port, *flags, server=ORDERS)
    assert (found["granted"], found["failed"]) == (0, {"DeadlineExceeded": 5})


async def test_the_reference_answers_as_long_as_the_broker_and_keeps_a_record_of_each_call(
    house: House, load_program: Path
) -> None:
    server = write_identity(house.folder, "server", house.broker, house.home)
    journal = house.folder / "journal"
    agent = as_agent(house)
    real = (await exchange(house.good(SUPPORT), request())).ByteSize()
    async with started(load_program, "serve", "-identity", str(server), "-journal", str(journal)) as process:
        port = (await said(process, within=120))["ready"]
        channel = channel_to(house, port)
        bare = (await exchange(channel, request())).ByteSize()
        await channel.close()
        assert abs(bare - real) < real / 4
        found = await loaded(load_program, agent, port, "-rate", "100", "-seconds", "1")
        assert (found["granted"], found["failed"]) == (100, {})
        assert journal.read_bytes() == b"".join([b"x" * 899 + b"\n"] * 101)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_the_reference_without_a_journal_is_an_echo_and_refuses_strangers(
    house: House, load_program: Path
) -> None:
    server = write_identity(house.folder, "server", house.broker, house.home)
    stranger = write_identity(house.folder, "stranger", house.partner.svid("/agent/courier"), house.home)
    async with started(load_program, "serve", "-identity", str(server)) as process:
        port = (await said(process, within=120))["ready"]
        assert (await loaded(load_program, as_agent(house), port, "-rate", "50", "-seconds", "1"))["granted"] == 50
        flags = ("-rate", "10", "-seconds", "0.5", "-deadline", "500ms")
        assert (await loaded(load_program, stranger, port, *flags))["granted"] == 0


@pytest.mark.parametrize("arguments", [[], ["fly"], ["follow"], ["exchange", "-rate", "0"], ["serve", "-listen", "x"]])
def test_what_it_cannot_do_it_says(load_program: Path, arguments: list[str]) -> None:
    done = subprocess.run([load_program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode in {1, 2}
    assert done.stderr.startswith(("usage:", "load:"))
    assert "goroutine" not in done.stderr
