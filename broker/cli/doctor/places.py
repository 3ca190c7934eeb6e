"""Checks of files and directories: are they where the broker needs them, and nobody else's?"""

import os
import shlex
import stat
from pathlib import Path
from typing import Final

from broker.cli.doctor.finding import Check, Finding, ok, problem
from broker.cli.doctor.setup import Setup

MAX_SOCKET_PATH: Final = 107  # sun_path of unix(7), less the byte that ends it
_LOST: Final = "The broker does not start."


def quoted(path: Path) -> str:
    """Return a path as a shell takes it."""
    return shlex.quote(str(path))


def own(path: Path, found: os.stat_result, uid: int) -> Finding | None:
    """Return a problem when somebody else owns it."""
    if found.st_uid == uid:
        return None
    return problem(
        f"{path} belongs to user {found.st_uid}, not to user {uid}",
        why="The broker uses only what is its own.",
        fix=f"Run `broker doctor` as the broker's user, or: chown {uid} {quoted(path)}",
    )


def private(path: Path, found: os.stat_result, widest: int, why: str) -> Finding | None:
    """Return a problem when others may do more than the widest mode allows."""
    mode = stat.S_IMODE(found.st_mode)
    if not mode & ~widest:
        return None
    return problem(f"{path} has mode {mode:04o}, which lets others in", why=why, fix=f"chmod {widest:o} {quoted(path)}")


def home(directory: Path) -> Finding | None:
    """Return a problem when files cannot be made in a directory, or others can replace them."""
    if not directory.is_dir():
        return problem(
            f"{directory} is not there, or is no directory", why=_LOST, fix=f"mkdir -p -m 700 {quoted(directory)}"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        return problem(
            f"{directory} cannot be written by this user",
            why="The broker makes files there.",
            fix=f"Run `broker doctor` as the broker's user, or: chown {os.geteuid()} {quoted(directory)}",
        )
    mode = directory.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return problem(
            f"{directory} has mode {stat.S_IMODE(mode):04o}: anybody may replace the files in it",
            why="Whoever replaces the store replaces the audit log.",
            fix=f"chmod o-w {quoted(directory)}",
        )
    return None


def admin_socket(setup: Setup) -> Finding:
    """The admin socket can be made where it is to be."""
    path = setup.settings.admin.socket
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        return problem(
            f"the admin socket's path is longer than {MAX_SOCKET_PATH} bytes: {path}",
            why="The kernel takes no longer one; the broker does not start.",
            fix='Set [admin] socket to a shorter path, such as "/run/broker/admin.sock".',
        )
    if path.exists() and not path.is_socket():
        return problem(f"{path} is there and is no socket", why=_LOST, fix=f"mv {quoted(path)} {quoted(path)}.old")
    standing = path.parent
    while not standing.exists():  # the broker makes what is missing, mode 0700
        standing = standing.parent
    return home(standing) or ok(f"{path} can be listened on")


CHECKS: Final = (Check(id="admin-socket", look=admin_socket, above=("config",)),)
