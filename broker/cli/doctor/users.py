"""Checks of the halves' users: that they are there, get at what they need, and at nothing of each other's."""

import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from broker.cli.doctor.finding import Check, Finding, ok, problem, warning
from broker.cli.doctor.places import quoted
from broker.cli.doctor.setup import Setup
from broker.supervisor import UserProblem, Users
from broker.supervisor.reach import becoming, blocked, granted, last_line, needs, not_for_door, not_for_issuer
from broker.supervisor.user import User

_SHOWN: Final = 3
_ONE: Final = "issuer and door run as whoever starts the broker; [issuer] user and [door] user name none"
_NEEDED: Final = {
    "issuer": "the program, the configuration, the policy, the store, the keys and the SPIRE agent's socket",
    "door": "the program, the configuration, the admin socket's directory and the SPIRE agent's socket",
}


def users(setup: Setup) -> Finding:
    """Both users are there, differ, and can be become."""
    found = setup.users
    if found is None:
        return ok(_ONE)
    if isinstance(found, UserProblem):
        return problem(found.what, why="The broker does not start.", fix=found.fix)
    if setup.uid:
        return warning(
            f"{found}; this is user {setup.uid}",
            why="Only root can start the broker as other users.",
            fix=_as_root(setup),
        )
    return ok(str(found))


def reach(setup: Setup, role: str) -> Finding:
    """A half gets at what it needs, as its own user."""
    found = setup.users
    if not isinstance(found, Users):
        return ok(_ONE)
    user = found.issuer if role == "issuer" else found.door
    if setup.uid:
        return _unseen(setup, f"whether user {user} gets at {_NEEDED[role]}")
    obstacles = blocked(user, needs(setup.settings, setup.config, setup.environment_socket, role))
    if obstacles:
        said, fixes = [each.say(user) for each in obstacles], [each.fix(user) for each in obstacles]
        return problem(_first(said), why=f"The {role} does not start.", fix=_first(fixes))
    if failure := _cannot_load(user, role):
        return problem(
            f"user {user} cannot load the {role}'s code: {failure}",
            why=f"The {role} does not start.",
            fix=f"chmod -R go+rX {quoted(Path(sys.prefix))}",
        )
    return ok(f"user {user} gets at {_NEEDED[role]}")


def kept_apart(setup: Setup) -> Finding:
    """Neither half gets at what is the other's, and the door at nothing that says what the issuer does."""
    found = setup.users
    if not isinstance(found, Users):
        return ok(_ONE)
    if setup.uid:
        return _unseen(setup, "whether either user gets at the other's keys, store or socket")
    said, fixes = [], []
    for user, wants in (
        (found.door, not_for_door(setup.settings, setup.config, found.door)),
        (found.issuer, not_for_issuer(setup.settings, found.issuer)),
    ):
        for want in granted(user, wants):
            said.append(f"user {user} can {'read' if want.letters == 'r' else 'write'} {want.what} {want.path}")
            fixes.append(want.fix)
    if said:
        return problem(
            _first(said),
            why="A captured half then gets at what it was kept apart from.",
            fix=f"{_first(fixes)}; `id` shows the groups that let a user in, `getfacl` the access control lists.",
        )
    return ok("neither user gets at the other's; only root and their owners write configuration, policy and code")


def _cannot_load(user: User, role: str) -> str:
    """Return why that user's interpreter cannot import a half; empty when it can. Nothing else is as sure."""
    run = subprocess.run(
        [*becoming(user), sys.executable, "-P", "-c", f"import broker.app.{role}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return last_line(run.stderr) if run.returncode else ""


def _unseen(setup: Setup, what: str) -> Finding:
    return warning(
        f"not checked: {what}",
        why="The kernel answers that only for the user itself, and only root can become it.",
        fix=_as_root(setup),
    )


def _as_root(setup: Setup) -> str:
    return f"sudo broker doctor --config {quoted(setup.config)}"


def _first(texts: Sequence[str]) -> str:
    different = list(dict.fromkeys(texts))
    more = len(different) - _SHOWN
    return "; ".join(different[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


CHECKS: Final = (
    Check(id="users", look=users, above=("config",)),
    Check(id="issuer-reach", look=partial(reach, role="issuer"), above=("users",)),
    Check(id="door-reach", look=partial(reach, role="door"), above=("users",)),
    Check(id="kept-apart", look=kept_apart, above=("users",)),
)
