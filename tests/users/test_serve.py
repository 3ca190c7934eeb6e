"""A broker whose halves run as two users, for real: what the kernel says of them, and what each can do."""

import os
import signal
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.polling import eventually
from tests.users.place import DOOR, ISSUER, TwoUsers, as_user, ended, status_of

UIDS = {"issuer": ISSUER, "door": DOOR}


def assert_confined(pid: int, uid: int) -> None:
    """Real, effective, saved and file system ids are the user's, no privilege is left, and none can come back."""
    found = status_of(pid)
    assert (found["Uid"], found["Gid"]) == (f"{uid} {uid} {uid} {uid}",) * 2
    assert found["Groups"] == str(uid)
    assert {found[name].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {""}
    assert found["NoNewPrivs"] == "1"
    # What an undumpable process has in /proc belongs to root, whoever it runs as (proc(5)).
    assert Path(f"/proc/{pid}/environ").stat().st_uid == 0
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    assert next(line for line in limits if "core file" in line).split()[4:6] == ["1", "1"]


async def test_each_half_runs_as_its_own_user_and_an_exchange_works(two: TwoUsers) -> None:
    line = two.start()
    assert line.rstrip().endswith(f"the issuer runs as user {ISSUER}, the door as user {DOOR}")
    assert two.process is not None
    assert status_of(two.process.pid)["Uid"].split()[0] == "0"
    for role, uid in UIDS.items():
        assert_confined(two.pid(role), uid)
        # A session of its own: no terminal of root's to type into.
        assert os.getsid(two.pid(role)) == two.pid(role)
    assert await two.exchange("one")
    made = [two.house.store, two.house.keys, *two.house.keys.iterdir()]
    assert {(path.stat().st_uid, stat.S_IMODE(path.stat().st_mode) & 0o077) for path in made} == {(ISSUER, 0)}
    assert (two.house.door / "admin.sock").stat().st_uid == DOOR
    assert "/broker.v1.ExchangeService/Exchange' status='OK'" in two.said(), "its log goes where root's goes"
    two.process.send_signal(signal.SIGTERM)
    assert two.process.wait(30) == 0
    assert not (two.house.door / "admin.sock").exists()


READ = "import sys; open(sys.argv[1], 'rb').read(1)"
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
SIGNAL = "import os, sys; os.kill(int(sys.argv[1]), 0)"


async def test_neither_user_gets_at_what_is_the_others(two: TwoUsers) -> None:
    two.start()
    assert await two.exchange("one")
    issuer, door = two.pid("issuer"), two.pid("door")
    of_issuer: list[tuple[str, str | Path]] = [(READ, path) for path in two.house.keys.iterdir()]
    of_issuer += [(READ, two.house.store.with_name(two.house.store.name + end)) for end in ("", "-wal", ".lock")]
    of_issuer += [(SIGNAL, str(issuer))]
    of_door: list[tuple[str, str | Path]] = [(CONNECT, two.house.door / "admin.sock"), (SIGNAL, str(door))]
    assert len(of_issuer) >= 6
    for owner, other, things in ((ISSUER, DOOR, of_issuer), (DOOR, ISSUER, of_door)):
        for code, thing in things:
            argv: list[str | Path] = [two.place.python, "-c", code, thing]
            assert as_user(owner, argv, env=two.place.environment).stderr == "", (code, thing)
            assert "PermissionError" in as_user(other, argv, env=two.place.environment).stderr, (code, thing)


@pytest.mark.parametrize("role", UIDS)
def test_not_even_its_own_user_reads_the_memory_of_a_half(two: TwoUsers, role: str) -> None:
    two.start()
    for file in ("environ", "maps", "mem"):
        argv: list[str | Path] = [two.place.python, "-c", READ, f"/proc/{two.pid(role)}/{file}"]
        assert "PermissionError" in as_user(UIDS[role], argv, env=two.place.environment).stderr


@pytest.mark.parametrize("role", UIDS)
async def test_a_half_that_is_killed_comes_back_as_its_user(two: TwoUsers, role: str) -> None:
    two.start()
    before = two.pid(role)
    os.kill(before, signal.SIGKILL)

    async def back() -> bool:
        return two.pid(role) not in (0, before) and await two.exchange("after")

    assert await eventually(back, within=60)
    assert_confined(two.pid(role), UIDS[role])
    assert f"the {role} was ended by SIGKILL" in two.said()


async def test_a_supervisor_that_is_killed_leaves_neither_behind(two: TwoUsers) -> None:
    """The signal of the parent's death is taken back when a process changes its user: it is asked for after that."""
    two.start()
    assert two.process is not None
    halves = [two.pid(role) for role in UIDS]
    for pid in halves:
        os.kill(pid, signal.SIGSTOP)  # so that it is not by themselves that they end
    two.process.kill()
    try:
        for pid in halves:
            assert await eventually(partial(ended, pid))
    finally:
        for pid in halves:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def test_what_lies_where_it_is_started_is_not_taken_for_its_code(two: TwoUsers) -> None:
    planted = two.house.folder / "anywhere" / "broker"
    planted.mkdir(parents=True)
    (planted / "__init__.py").write_text("raise SystemExit('planted')")
    two.start(cwd=planted.parent)
    assert await two.exchange("one")
    assert "planted" not in two.said()


async def test_a_configuration_that_is_closed_to_a_half_later_ends_it_with_a_word(two: TwoUsers) -> None:
    two.start()
    two.house.config.chmod(0o600)
    os.kill(two.pid("door"), signal.SIGKILL)
    assert two.process is not None
    assert two.process.wait(30) == 78
    assert "the door cannot start: " in two.said()
    assert "Permission denied" in two.said()
    assert "Traceback" not in two.said()
