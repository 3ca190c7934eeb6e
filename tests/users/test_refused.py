"""What keeps the halves from running as two users is said before anything is started, with what puts it right."""

import grp
import os
import pwd
from pathlib import Path

import pytest

from broker.settings import ConfigurationProblem, load
from broker.supervisor import UserProblem, find_users
from tests.unit.test_settings import GOOD
from tests.users.place import DOOR, ISSUER, TwoUsers

ANYBODY = 61003
ROOT_ALONE = "only root can start the halves as users"


def an_ordinary_user() -> int:
    return os.geteuid() or ANYBODY


def test_only_root_can_start_them(two: TwoUsers) -> None:
    status, said = two.serve(as_=an_ordinary_user())
    assert (status, ROOT_ALONE in said, "Traceback" in said) == (78, True, False)
    assert "take [issuer] user and [door] user out of" in said


def test_one_process_cannot_be_two_users(two: TwoUsers) -> None:
    status, said = two.serve("--embedded", as_=os.geteuid())
    assert (status, "--embedded is one process, which cannot be two users" in said) == (78, True)


def test_an_ordinary_user_is_told_what_was_not_checked(two: TwoUsers) -> None:
    _, found = two.doctor(as_=an_ordinary_user())
    told = {name: found[name] for name in ("users", "issuer-reach", "door-reach", "kept-apart")}
    assert {each["level"] for each in told.values()} == {"warning"}
    assert all(each["fix"].startswith("sudo broker doctor --config ") for each in told.values())
    assert told["door-reach"]["what"].startswith(f"not checked: whether user {DOOR} gets at the program")


SETTINGS = {
    "one-alone": ("[door]\nuser = 61002\n", "[issuer] user is missing; set both, or neither"),
    "the-other-alone": ("[issuer]\nuser = 'a'\n", "[door] user is missing; set both, or neither"),
    "the-same": ("[issuer]\nuser = 'a'\n[door]\nuser = 'a'\n", "both are a; two users keep the halves apart"),
    "root": ("[issuer]\nuser = 'root'\n[door]\nuser = 'a'\n", "issuer.user: not root"),
    "root-by-number": ("[issuer]\nuser = 'a'\n[door]\nuser = 0\n", "door.user: not root"),
    # (uid_t)-1: setreuid(2) leaves the user as it is, which is root.
    "minus-one": ("[issuer]\nuser = 4294967295\n[door]\nuser = 'a'\n", "issuer.user: a number from 1 to 4294967294"),
    "negative": ("[issuer]\nuser = -1\n[door]\nuser = 'a'\n", "issuer.user: the name of a user"),
    "leading-zero": ("[issuer]\nuser = '00'\n[door]\nuser = 'a'\n", "without leading zeros"),
    "an-option": ("[issuer]\nuser = '-R'\n[door]\nuser = 'a'\n", "issuer.user: the name of a user"),
    "boolean": ("[issuer]\nuser = true\n[door]\nuser = 'a'\n", "issuer.user: "),
    "nul": ('[issuer]\nuser = "a\\u0000"\n[door]\nuser = "a"\n', "issuer.user: the name of a user"),
}


@pytest.mark.parametrize(("more", "said"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_name_no_two_users_do_not_load(tmp_path: Path, more: str, said: str) -> None:
    path = tmp_path / "broker.toml"
    path.write_text(GOOD + more)
    with pytest.raises(ConfigurationProblem) as problem:
        load(path)
    assert said in str(problem.value)


def test_a_number_and_a_name_load(tmp_path: Path) -> None:
    path = tmp_path / "broker.toml"
    path.write_text(GOOD + "[issuer]\nuser = 61001\n[door]\nuser = 'broker-door'\n")
    settings = load(path)
    assert (settings.issuer.user, settings.door.user) == ("61001", "broker-door")


def test_users_are_found_with_their_groups_and_no_others() -> None:
    one, other = [entry for entry in pwd.getpwall() if entry.pw_uid != 0][:2]
    found = find_users(one.pw_name, str(other.pw_uid))
    assert (found.issuer.uid, found.issuer.gid) == (one.pw_uid, one.pw_gid)
    assert set(found.issuer.groups) == {one.pw_gid, *os.getgrouplist(one.pw_name, one.pw_gid)}
    assert (found.door.name, found.door.uid) == (str(other.pw_uid), other.pw_uid)
    numbers = find_users(str(ISSUER), str(DOOR))
    assert (numbers.issuer.gid, numbers.issuer.groups) == (ISSUER, (ISSUER,))


def test_users_that_are_not_there_are_root_or_are_one() -> None:
    ordinary = next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)
    with pytest.raises(UserProblem, match="there is no user broker-nobody-has for the door") as missing:
        find_users(str(ISSUER), "broker-nobody-has")
    assert missing.value.fix.startswith("useradd --system ")
    with pytest.raises(UserProblem, match="are one user"):
        find_users(ordinary.pw_name, str(ordinary.pw_uid))
    with pytest.raises(UserProblem, match="is root"):
        find_users(str(ISSUER), pwd.getpwuid(0).pw_name)


def test_a_number_alone_does_not_get_somebody_elses_group() -> None:
    """User 27 without an entry would be of group 27, which is sudo on a Debian."""
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    group = next(each for each in grp.getgrall() if each.gr_gid not in taken)
    with pytest.raises(UserProblem, match=f"is not in the user database, and group {group.gr_gid} is"):
        find_users(str(group.gr_gid), str(DOOR))
