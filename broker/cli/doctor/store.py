"""Checks of the store: its file, its lock, what is in it."""

import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from broker.cli.doctor.finding import Check, Finding, ok, problem, warning
from broker.cli.doctor.places import home, own, private
from broker.cli.doctor.running import Alive
from broker.cli.doctor.setup import Setup
from broker.store.interface import StoreUnavailable


def store_file(setup: Setup) -> Finding:
    """The file is the broker's alone, or can be made."""
    path = setup.settings.store.path
    if stands := home(path.parent):
        return stands
    try:
        found = path.lstat()
    except FileNotFoundError:
        return ok(f"{path} is not there yet; the first start makes it")
    if not stat.S_ISREG(found.st_mode):
        return problem(
            f"{path} is no regular file",
            why="The broker opens no link and no device as its store.",
            fix="Set [store] url to the file itself.",
        )
    narrow = private(path, found, 0o600, "It holds every grant, and the personal values behind the audit log.")
    return own(path, found, setup.issuer_uid) or narrow or ok(f"{path} is the broker's alone")


def lock_holder(database: Path) -> int | None:
    """Return the process that holds the store, 0 when it cannot be named; None when nobody does."""
    try:
        descriptor = os.open(database.with_name(database.name + ".lock"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # There is no way to ask but to take it, shared and for a moment; closing lets go of it.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        return int(text) if text.isascii() and text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


def store_lock(setup: Setup) -> Finding:
    """No other process has the store."""
    holder = lock_holder(setup.settings.store.path)
    if holder is None:
        return ok("nobody else has the store")
    if isinstance(setup.broker, Alive):
        return ok(f"held by process {holder}, of the broker that runs")
    return problem(
        f"{setup.settings.store.path} is held by process {holder}, and no broker answers on the admin socket",
        why="One broker, one store: a second one does not start.",
        fix=f"See what it is with `ps -fp {holder}`, then `kill {holder}`; or give this broker another store.",
    )


def store_content(setup: Setup) -> Finding:
    """The store opens, is of this release, and its tail matches its last events."""
    try:
        stored = setup.stored
    except StoreUnavailable as failure:
        return problem(
            str(failure),
            why="The broker does not start on a store whose log it cannot prove.",
            fix="Start the release that wrote it."
            if "this release knows" in str(failure)
            else "Keep the file as evidence and restore the newest backup; `broker audit verify` names the first bad "
            "entry.",
        )
    if stored is None:
        return ok("there is no store yet; the first start makes it")
    return ok(f"{stored.size} events, the tail matches")


def overrides(setup: Setup) -> Finding:
    """Nothing is stopped; what is, is meant to be, and somebody remembers it."""
    stored = setup.stored
    if stored is None or not stored.overrides:
        return ok("nothing is stopped")
    lines = []
    for each in stored.overrides:
        what = " ".join(word for word in (each.stop.kind.value, each.stop.name) if word)
        within = f" within {each.stop.tenant}" if each.stop.tenant else ""
        lines.append(f"{what}{within}, since {each.at:%Y-%m-%d %H:%M:%S} UTC, by {each.by} ({each.id})")
    return warning(
        "stopped: " + "; ".join(lines),
        why="Agents get nothing that is stopped, whatever policy says, until somebody lifts it.",
        fix="As another operator than the one who stopped it: broker stop lift ID --reason TEXT",
    )


CHECKS: Final = (
    Check(id="store-file", look=store_file, above=("users",)),
    Check(id="store-lock", look=store_lock, above=("store-file",)),
    Check(id="store-content", look=store_content, above=("store-file",)),
    Check(id="overrides", look=overrides, above=("store-content",)),
)
