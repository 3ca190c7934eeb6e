"""Users: whom each half runs as, found in the system's user database before anything is started."""

import grp
import os
import pwd
from dataclasses import dataclass


class UserProblem(Exception):
    """The halves cannot run as these users.

    Args:
        what: what is the case.
        fix: what puts it right.

    """

    def __init__(self, what: str, *, fix: str) -> None:
        super().__init__(f"{what}: {fix}")
        self.what = what
        self.fix = fix


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user of this system.

    Attributes:
        name: as configured, a name or a number.
        uid: user id, never 0.
        gid: primary group.
        groups: every group, the primary one among them. Never empty: CPython 3.12.0 takes an empty list to mean that
            root's own groups stay (CVE-2023-6507).

    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    def __str__(self) -> str:
        """Return the user for people."""
        return self.name if self.name == str(self.uid) else f"{self.name} ({self.uid})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """The users of the two halves; they differ."""

    issuer: User
    door: User

    def __str__(self) -> str:
        """Return both for people."""
        return f"the issuer runs as user {self.issuer}, the door as user {self.door}"


def find_users(issuer: str, door: str) -> Users:
    """Look both up.

    Args:
        issuer: a name or a number.
        door: another.

    Raises:
        UserProblem: one does not exist, is root, or both are one.

    """
    found = Users(issuer=_find("issuer", issuer), door=_find("door", door))
    if found.issuer.uid == found.door.uid:
        raise UserProblem(
            f"{issuer} and {door} are one user, {found.door.uid}",
            fix="name two users: one user's processes can read each other's files",
        )
    return found


def _find(role: str, name: str) -> User:
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        return _numbered(role, name)
    if entry.pw_uid == 0:
        raise UserProblem(f"[{role}] user {name} is root", fix=_make(role))
    groups = {entry.pw_gid, *os.getgrouplist(entry.pw_name, entry.pw_gid)}
    return User(name=name, uid=entry.pw_uid, gid=entry.pw_gid, groups=tuple(sorted(groups)))


def _numbered(role: str, name: str) -> User:
    """Return a user that is a number and nothing more: its group is the same number, and must be nobody else's."""
    if not name.isdigit():
        raise UserProblem(f"there is no user {name} for the {role}", fix=_make(role, name))
    number = int(name)
    try:
        group = grp.getgrgid(number).gr_name
    except KeyError:
        return User(name=name, uid=number, gid=number, groups=(number,))
    raise UserProblem(
        f"user {name} of the {role} is not in the user database, and group {name} is {group}", fix=_make(role)
    )


def _make(role: str, name: str = "") -> str:
    wanted = name or f"broker-{role}"
    return f"useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {wanted}" + (
        "" if name else f", and set [{role}] user to it"
    )
