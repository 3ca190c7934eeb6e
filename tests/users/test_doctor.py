"""The doctor of a broker of two users: each broken set-up is made for real, and the kernel is asked as that user."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.supervisor.reach import Want, blocked
from broker.supervisor.user import User
from tests.users.place import DOOR, ISSUER, Place, TwoUsers

Break = Callable[[TwoUsers], None]
GROUP = 61009


def odd(found: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {name: each for name, each in found.items() if each["level"] not in ("ok", "not run")}


def test_a_healthy_set_up_is_all_green(two: TwoUsers) -> None:
    status, found = two.doctor()
    assert (status, odd(found)) == (0, {})
    assert found["users"]["what"] == f"the issuer runs as user {ISSUER}, the door as user {DOOR}"
    assert found["workload-entry"]["what"] == "SPIRE gives the issuer 1 SVID and the door 1 SVID"


def test_a_broker_that_runs_is_all_green_and_one_of_other_users_is_not(two: TwoUsers) -> None:
    two.start()
    status, found = two.doctor()
    assert (status, odd(found)) == (0, {})
    assert found["separation"]["what"] == f"the issuer runs as user {ISSUER}, the door as user {DOOR}"
    two.house.edit(f'user = "{DOOR}"', f'user = "{DOOR + 10}"')
    _, found = two.doctor()
    assert found["separation"]["level"] == "problem"
    assert f"the configuration names {ISSUER} and {DOOR + 10}" in found["separation"]["what"]
    assert "restart the broker" in found["separation"]["fix"]


def user_is_missing(two: TwoUsers) -> None:
    two.house.edit(f"user = {ISSUER}", 'user = "broker-nobody-has"')


def one_user_twice(two: TwoUsers) -> None:
    two.house.edit(f"user = {ISSUER}", 'user = "daemon"')
    two.house.edit(f'user = "{DOOR}"', "user = 1")


def data_is_closed(two: TwoUsers) -> None:
    two.house.data.chmod(0o700)


def issuer_directory_is_roots(two: TwoUsers) -> None:
    os.chown(two.house.data / "issuer", 0, 0)


def store_is_roots(two: TwoUsers) -> None:
    two.house.store.touch(0o600)


def key_directory_is_roots(two: TwoUsers) -> None:
    two.house.keys.mkdir(0o700)


def policy_is_for_roots_group(two: TwoUsers) -> None:
    (two.house.policy / "policies.cedar").chmod(0o640)


def configuration_is_roots_alone(two: TwoUsers) -> None:
    two.house.config.chmod(0o600)


def agent_socket_is_roots_alone(two: TwoUsers) -> None:
    Path(two.house.spire.socket.removeprefix("unix:")).chmod(0o700)


def door_directory_is_roots(two: TwoUsers) -> None:
    os.chown(two.house.door, 0, 0)


def door_directory_is_open(two: TwoUsers) -> None:
    two.house.door.chmod(0o777)


def door_owns_the_configuration(two: TwoUsers) -> None:
    os.chown(two.house.config, DOOR, DOOR)


def door_writes_the_policy_by_its_group(two: TwoUsers) -> None:
    path = two.house.policy / "policies.cedar"
    os.chown(path, 0, DOOR)
    path.chmod(0o664)


def door_may_replace_the_store(two: TwoUsers) -> None:
    os.chown(two.house.data, DOOR, DOOR)


def door_reads_the_store_by_its_group(two: TwoUsers) -> None:
    two.house.store.touch(0o640)
    os.chown(two.house.store, ISSUER, DOOR)
    two.house.store.chmod(0o640)
    os.chown(two.house.data / "issuer", ISSUER, DOOR)
    (two.house.data / "issuer").chmod(0o710)


def port_is_roots(two: TwoUsers) -> None:
    two.house.edit(f"127.0.0.1:{two.house.port}", "127.0.0.1:443")


# The checks that find it, a part of what the first says, and of its fix.
BROKEN: list[tuple[set[str], Break, str, str]] = [
    ({"users"}, user_is_missing, "there is no user broker-nobody-has", "useradd --system "),
    ({"users"}, one_user_twice, "are one user", "name two users"),
    ({"issuer-reach", "door-reach"}, data_is_closed, f"user {ISSUER} cannot enter", f"setfacl -m u:{ISSUER}:x "),
    ({"issuer-reach"}, issuer_directory_is_roots, "the store's directory", f"install -d -m 700 -o {ISSUER} "),
    ({"issuer-reach", "store-file"}, store_is_roots, "cannot read or write the store", f"chown {ISSUER} "),
    ({"issuer-reach", "keys-directory"}, key_directory_is_roots, "the keys", f"chown -R {ISSUER} "),
    ({"issuer-reach"}, policy_is_for_roots_group, "cannot read the policy", "chmod -R go+rX "),
    ({"issuer-reach", "door-reach"}, configuration_is_roots_alone, "cannot read the configuration", "mode 0644"),
    ({"issuer-reach", "door-reach"}, agent_socket_is_roots_alone, "the SPIRE agent's socket", "socket_path"),
    ({"door-reach"}, door_directory_is_roots, f"user {DOOR} cannot write", f"install -d -m 700 -o {DOOR} "),
    ({"kept-apart", "admin-socket"}, door_directory_is_open, f"user {ISSUER} can write", "chmod go-w "),
    ({"kept-apart"}, door_owns_the_configuration, "write the configuration", "chown root "),
    ({"kept-apart"}, door_writes_the_policy_by_its_group, f"user {DOOR} can write the policy", "chown root "),
    ({"kept-apart"}, door_may_replace_the_store, "what stands above the ", "chown root "),
    ({"kept-apart", "store-file"}, door_reads_the_store_by_its_group, "can read the store", "chmod go-rwx "),
    ({"port"}, port_is_roots, "a port for root", "from 1024 on"),
]  # fmt: skip


@pytest.mark.parametrize(("checks", "broken", "what", "fix"), BROKEN, ids=[row[1].__name__ for row in BROKEN])
def test_a_broken_set_up(two: TwoUsers, checks: set[str], broken: Break, what: str, fix: str) -> None:
    broken(two)
    status, found = two.doctor()
    shown = odd(found)
    assert (status, set(shown)) == (1, checks), shown
    first = shown[min(checks, key=list(found).index)]
    assert (what in first["what"], fix in first["fix"], bool(first["why"])) == (True, True, True), first


def test_the_groups_that_count_are_the_users_not_roots(place: Place) -> None:
    path = place.folder / "of-a-group"
    path.touch(0o640)
    os.chown(path, 0, GROUP)
    path.chmod(0o640)
    want, before = Want(path=path, letters="r", what="it"), os.getgroups()
    os.setgroups([*before, GROUP])
    try:
        (obstacle,) = blocked(User(name="a", uid=ISSUER, gid=ISSUER, groups=(ISSUER,)), [want])
        assert blocked(User(name="b", uid=ISSUER, gid=ISSUER, groups=(ISSUER, GROUP)), [want]) == []
    finally:
        os.setgroups(before)
    assert (obstacle.at, obstacle.letters) == (path, "r")


REFUSED = {
    "data-is-closed": (data_is_closed, "the issuer cannot run: "),
    "configuration-is-closed": (configuration_is_roots_alone, "cannot read the configuration"),
    "door-directory": (door_directory_is_roots, "the door cannot run: "),
    "port": (port_is_roots, "127.0.0.1:443 is a port for root"),
    "user": (user_is_missing, "there is no user broker-nobody-has"),
}


@pytest.mark.parametrize(("broken", "said"), REFUSED.values(), ids=REFUSED)
def test_the_same_keeps_the_broker_from_starting(two: TwoUsers, broken: Break, said: str) -> None:
    broken(two)
    status, told = two.serve()
    assert (status, said in told, "Traceback" in told) == (78, True, False), told
    assert list((two.house.data / "issuer").iterdir()) == [], "nothing was begun"


@pytest.fixture
def hidden(two: TwoUsers) -> Path:
    """Return an interpreter under a home of root's alone."""
    home = two.house.folder / "home"
    home.mkdir()
    shutil.copytree(two.place.python.parent.parent, home / "venv", symlinks=True)
    home.chmod(0o700)
    return home / "venv" / "bin" / "python"


def test_an_interpreter_under_a_private_home(two: TwoUsers, hidden: Path) -> None:
    status, said = two.serve(python=hidden)
    assert (status, f"user {ISSUER} cannot enter {hidden.parents[2]}" in said) == (78, True)
    assert "python3 -m venv /opt/broker" in said
    _, found = two.doctor(python=hidden)
    assert set(odd(found)) == {"issuer-reach", "door-reach"}
    assert "python3 -m venv /opt/broker" in found["door-reach"]["fix"]
    assert found["workload-api"]["what"] == "cannot be checked before issuer-reach and door-reach is right"


def test_code_that_only_root_reads(two: TwoUsers) -> None:
    """Each file counts: the interpreter is asked to load the half as that user."""
    code = two.house.folder / "code"
    shutil.copytree(Path(two.place.environment["PYTHONPATH"]) / "broker", code / "broker")
    (code / "broker" / "issuer" / "batch.py").chmod(0o600)
    shutil.rmtree(code / "broker" / "issuer" / "__pycache__", ignore_errors=True)
    two.place.environment["PYTHONPATH"], before = str(code), two.place.environment["PYTHONPATH"]
    try:
        _, found = two.doctor()
    finally:
        two.place.environment["PYTHONPATH"] = before
    assert set(odd(found)) == {"issuer-reach"}
    assert "cannot load the issuer's code: PermissionError" in found["issuer-reach"]["what"]
