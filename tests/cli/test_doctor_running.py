"""The doctor beside a broker that runs."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from tests.cli.setups import ROOT, House, clean_environment, start, wait_for

NOBODY = 65534


def odd(found: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {name: each for name, each in found.items() if each["level"] != "ok"}


def child_with(process: "subprocess.Popen[str]", role: str) -> int:
    """Return the process of a half."""
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if f"\0_{role}\0" in Path(f"/proc/{pid}/cmdline").read_text():
            return int(pid)
    raise AssertionError(role)


def test_two_halves_are_well_but_for_their_one_user(house: House) -> None:
    process = start(house)
    status, found = house.doctor()
    assert (status, set(odd(found))) == (0, {"separation"})
    assert found["separation"]["level"] == "warning"
    issuer, door = child_with(process, "issuer"), child_with(process, "door")
    assert f"{issuer} and {door}, both of user {os.geteuid()}" in found["separation"]["what"]
    assert "[issuer] user and [door] user" in found["separation"]["fix"]
    assert found["store-lock"]["what"] == f"held by process {issuer}, of the broker that runs"
    assert "listens on" in found["port"]["what"]
    assert "is in force" in found["running-policy"]["what"]


def test_halves_that_are_one_process(house: House) -> None:
    start(house, "--embedded")
    status, found = house.doctor()
    assert (status, set(odd(found))) == (1, {"separation"})
    assert "without --embedded" in found["separation"]["fix"]
    assert house.doctor("--accept", "separation")[0] == 0


def test_an_issuer_that_is_stopped(house: House) -> None:
    house.edit('# call_deadline = "PT10S"', 'call_deadline = "PT1S"')
    process = start(house)
    issuer = child_with(process, "issuer")
    os.kill(issuer, signal.SIGSTOP)
    try:
        status, found = house.doctor()
    finally:
        os.kill(issuer, signal.SIGCONT)
    assert (status, found["running"]["level"], found["running-issuer"]["level"]) == (1, "ok", "problem")
    assert "restart the broker" in found["running-issuer"]["fix"]
    assert found["running-policy"]["level"] == "not run"


def test_a_policy_that_was_broken_later(house: House) -> None:
    start(house, "--embedded")
    house.edit("permit (", "permitt (", file=house.policy / "policies.cedar")

    def told() -> bool:
        return house.doctor()[1]["running-policy"]["level"] == "problem"

    wait_for(told)
    status, found = house.doctor("--accept", "separation")
    of_the_bundle = {f"policy-{name}" for name in ("loads", "owners", "domains", "stoppers", "spending")}
    of_the_bundle |= {"persons", "customers", "groups", "federation"}
    assert (status, set(odd(found)) - {"separation"}) == (1, of_the_bundle | {"running-policy"})
    assert "An older bundle decides" in found["running-policy"]["why"]
    assert "broker policy check" in found["running-policy"]["fix"]


def test_a_broker_that_never_had_a_policy(house: House) -> None:
    house.edit("permit (", "permitt (", file=house.policy / "policies.cedar")
    start(house, "--embedded")
    _, found = house.doctor()
    assert "no policy is in force" in found["running-policy"]["what"]


def test_a_broker_that_was_started_with_another_configuration(house: House) -> None:
    start(house, "--embedded")
    house.edit(f"127.0.0.1:{house.port}", f"127.0.0.2:{house.port}")
    house.edit('spiffe_id = "spiffe://example.org/broker"', 'spiffe_id = "spiffe://example.org/broker-2"')
    house.spire.give_svid(house.domain.svid("/broker-2"), house.domain)
    status, found = house.doctor("--accept", "separation")
    assert status == 1
    assert {"port", "running-identity"} <= set(odd(found))
    assert "nobody listens" in found["port"]["what"]
    assert "restart the broker: broker serve --config" in found["running-identity"]["fix"]
    assert "restart the broker: broker serve --config" in found["port"]["fix"]


def test_a_broker_on_another_store(house: House) -> None:
    start(house)
    house.edit("/data/issuer/broker.sqlite3", "/data/issuer/other.sqlite3")
    status, found = house.doctor()
    assert (status, found["separation"]["level"]) == (1, "problem")
    assert "holds the configured store" in found["separation"]["what"]


def test_a_rotation_that_failed(house: House) -> None:
    start(house, "--embedded")
    house.spire.refuse()  # what was taken back cannot be handed to gRPC; whoever connects next makes the door try

    def failed() -> bool:
        channel = grpc.secure_channel(f"127.0.0.1:{house.port}", grpc.ssl_channel_credentials())
        try:
            grpc.channel_ready_future(channel).result(timeout=0.3)
        except grpc.FutureTimeoutError:
            pass
        finally:
            channel.close()
        return house.doctor()[1]["running-rotation"]["level"] == "problem"

    wait_for(failed)
    _, found = house.doctor()
    assert "spire-agent healthcheck" in found["running-rotation"]["fix"]


def test_a_socket_that_an_earlier_broker_left(house: House) -> None:
    process = start(house, "--embedded")
    process.kill()
    process.wait(30)
    assert (house.door / "admin.sock").is_socket()
    status, found = house.doctor()
    assert (status, odd(found)) == (0, {})
    assert "an earlier one left" in found["running"]["what"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_halves_of_two_users_are_all_green(house: House) -> None:
    """A listener of another user stands in for the door; the lock is held by a process of this one."""
    door = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.door", str(house.door / "admin.sock"), str(house.port), str(NOBODY)],
        cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    house.kept.append(door)
    assert door.stdout is not None
    assert door.stdout.readline() == "ready\n"
    from tests.cli.setups import open_store  # noqa: PLC0415

    house.kept.append(open_store(house))
    status, found = house.doctor()
    assert found["separation"]["what"] == f"the issuer runs as user 0, the door as user {NOBODY}"
    # What stands in for the door knows no bundle.
    assert (status, set(odd(found))) == (1, {"running-policy"})


def test_an_svid_that_ends_while_the_broker_runs(house: House) -> None:
    start(house, "--embedded")
    house.spire.give_svid(house.domain.svid("/broker", start=timedelta(hours=-2), ttl=timedelta(minutes=-1)),
                          house.domain)  # fmt: skip
    status, found = house.doctor("--accept", "separation")
    assert (status, found["svid-time"]["level"], found["running"]["level"]) == (1, "problem", "ok")
