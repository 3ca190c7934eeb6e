"""The verbs on a real SPIRE: server, agents, federation, attestation by path; broker as two processes."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from broker.audit.checkpoint import VerifierKey
from broker.audit.checkpoint import verify as verify_note
from broker.audit.verify import LoggedEntry, verify_log
from tests.polling import eventually
from tests.spire.stage import READ, Stage

pytestmark = pytest.mark.spire

SUPPORT = "spiffe://example.org/agent/support-assistant"
WHOLESALE = "spiffe://example.org/agent/wholesale-assistant"
COURIER = "spiffe://partner.example/agent/courier"
STRANGER = "spiffe://example.org/agent/stranger"
SECURITY = "spiffe://example.org/operator/security"


async def test_an_attested_agent_exchanges_and_a_stranger_does_not(stage: Stage) -> None:
    granted = await stage.as_(SUPPORT, READ)
    assert granted["policies"] == ["order-readers-may-look-up-orders"]
    assert granted["tenant"] == "retail"
    assert (await stage.as_(STRANGER, READ))["refused"] == "PRINCIPAL_UNKNOWN"


async def test_a_federated_agent_exchanges_by_its_own_bundle(stage: Stage) -> None:
    granted = await stage.as_(COURIER, READ | {"purpose": "delivery"})
    assert granted["policies"] == ["courier-may-look-up-an-order"]


async def test_ending_a_task_is_heard_by_its_agent(stage: Stage) -> None:
    task = (await stage.as_(SUPPORT, {"do": "begin_task", "purpose": "customer-support"}))["task"]
    cancel = READ | {"action": "order.cancel", "task": task}
    granted = await stage.as_(SUPPORT, cancel)
    assert await stage.as_(SUPPORT, {"do": "end_task", "task": task}) == {"revoked": 1}
    assert (await stage.as_(SUPPORT, cancel))["refused"] == "TASK_ENDED"
    ended = await stage.as_(SUPPORT, {"do": "begin_task", "purpose": "customer-support"})
    assert granted["credential"] != ended["task"]


async def test_a_revoked_agent_gets_nothing_until_it_is_lifted(stage: Stage) -> None:
    assert "credential" in await stage.as_(WHOLESALE, READ)
    made = await stage.as_(SECURITY, {"do": "revoke", "kind": "agent", "name": WHOLESALE})
    assert made["revoked"] == 1
    assert (await stage.as_(WHOLESALE, READ))["refused"] == "AGENT_REVOKED"
    await stage.as_(SECURITY, {"do": "lift", "revocation": made["revocation"]})
    assert "credential" in await stage.as_(WHOLESALE, READ)


async def test_the_log_read_from_the_stream_verifies_and_a_changed_one_does_not(stage: Stage) -> None:
    await stage.as_(SUPPORT, READ)
    read = await stage.as_(SECURITY, {"do": "audit"})
    checkpoint = verify_note(read["note"], VerifierKey.parse(read["key"]))
    entries = [LoggedEntry(position=each["position"], content=each["event"].encode()) for each in read["events"]]
    entries = entries[: checkpoint.size]
    assert verify_log(entries, pinned=[checkpoint]).fault is None
    position = next(entry.position for entry in entries if b"credential.granted" in entry.content)
    content = entries[position].content.replace(b"retail", b"wholes")
    entries[position] = LoggedEntry(position=position, content=content)
    assert verify_log(entries, pinned=[checkpoint]).fault is not None


@pytest.mark.parametrize("half", ["_issuer", "_door"])
async def test_a_half_that_dies_is_started_again(stage: Stage, half: str) -> None:
    assert stage.broker is not None
    assert "credential" in await stage.as_(SUPPORT, READ)
    os.kill(child_of(stage.broker.pid, half), signal.SIGKILL)

    async def again() -> bool:
        return "credential" in await stage.as_(SUPPORT, READ)

    assert await eventually(again, within=60)


def child_of(parent: int, half: str) -> int:
    """Return the process id of a half of the broker."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            status = (process / "status").read_text()
        except OSError:
            continue
        if half.encode() in command and f"PPid:\t{parent}\n" in status:
            return int(process.name)
    raise AssertionError(f"no {half}")


async def test_the_broker_goes_on_while_its_spire_agent_restarts(stage: Stage) -> None:
    await asyncio.to_thread(stage.spire.restart_agent, "example.org", kill=True)
    assert "credential" in await stage.as_(SUPPORT, READ)


def leaf_of(port: int) -> int:
    """Return the serial number of the certificate that the broker shows to a new connection."""
    # Without a certificate of our own the handshake fails in the end; the broker's is seen before that.
    found = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3"],
        input=b"", capture_output=True, check=False, timeout=20,
    ).stdout.decode()  # fmt: skip
    begin, end = found.index("-----BEGIN CERTIFICATE"), found.index("-----END CERTIFICATE-----")
    return x509.load_pem_x509_certificate(f"{found[begin:end]}-----END CERTIFICATE-----\n".encode()).serial_number


async def test_svids_rotate_with_no_failed_call(stage: Stage) -> None:
    """SVIDs live a minute here: within it, agent and broker both get new ones while calls go on."""
    before = await asyncio.to_thread(leaf_of, stage.port)
    request: dict[str, Any] = READ | {"do": "exchange_for", "seconds": 45}
    counted = await stage.as_(SUPPORT, request, within=90)
    assert counted["failed"] == []
    assert counted["done"] > 100
    assert len(counted["thumbprints"]) >= 2
    assert await asyncio.to_thread(leaf_of, stage.port) != before
