"""Checks of the port, and of the broker that runs, by its admin socket."""

import errno
import socket
from pathlib import Path
from typing import Final

from broker.cli.doctor.finding import Check, Finding, ok, problem, warning
from broker.cli.doctor.places import quoted
from broker.cli.doctor.running import Absent, Alive, Silent
from broker.cli.doctor.setup import WAIT_SECONDS, Setup
from broker.cli.doctor.store import lock_holder
from broker.policy.bundle import BundleProblem
from broker.supervisor import Users
from broker.supervisor.reach import port_for_root

_ABSENT: Final = "no broker runs on this configuration"
_CLOSED: Final = "Agents and services cannot connect."


def port(setup: Setup) -> Finding:
    """The address can be listened on; when a broker runs, it listens there."""
    address = setup.settings.listen.address
    host, _, text = address.rpartition(":")
    number = int(text)
    if not number:
        return warning(
            f"{address} is another port at every start",
            why="Nobody knows where to connect.",
            fix='Set [listen] address to a port of your choice, such as "127.0.0.1:8443".',
        )
    try:
        found = socket.getaddrinfo(host.strip("[]"), number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as failure:
        return problem(
            f"{host}: {failure.strerror}", why=_CLOSED, fix="Set [listen] address to an address of this machine."
        )
    family, _, _, _, where = found[0]
    if isinstance(setup.broker, Alive):
        return _listens(setup, family, where)
    if isinstance(setup.users, Users) and port_for_root(setup.settings):
        return _unbindable(address, number, PermissionError(errno.EACCES, ""))
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC binds; a port that only lingers is free
        try:
            probe.bind(where)
        except OSError as failure:
            return _unbindable(address, number, failure)
    return ok(f"{address} is free")


def _unbindable(address: str, number: int, failure: OSError) -> Finding:
    match failure.errno:
        case errno.EADDRINUSE:
            fix = (
                f"See who listens with `ss -ltnp 'sport = :{number}'`; end it, or set [listen] address to another port."
            )
            return problem(f"{address} is taken by another process", why="The broker does not start.", fix=fix)
        case errno.EADDRNOTAVAIL:
            fix = "Set [listen] address to an address of this machine (`ip address`), or to 0.0.0.0 for all."
            return problem(f"{address} is no address of this machine", why="The broker does not start.", fix=fix)
        case errno.EACCES:
            fix = "Set [listen] address to a port from 1024 on."
            return problem(f"{address} is a port for root", why="The broker does not start.", fix=fix)
        case _:
            raise failure


def _listens(setup: Setup, family: int, where: tuple[object, ...]) -> Finding:
    address = setup.settings.listen.address
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(WAIT_SECONDS)
        if not probe.connect_ex(where):
            return ok(f"the running broker listens on {address}")
    return problem(
        f"a broker runs, and nobody listens on {address}",
        why=_CLOSED + " The configuration was changed after it had started.",
        fix=_restart(setup),
    )


def running(setup: Setup) -> Finding:
    """Whoever listens on the admin socket answers."""
    broker = setup.broker
    match broker:
        case Alive():
            return ok(f"a broker runs; its door is process {broker.door}")
        case Absent(left=True):
            return ok(f"{_ABSENT}; the socket that an earlier one left is replaced at the start")
        case Absent():
            return ok(_ABSENT)
        case Silent():
            return problem(
                f"something at {setup.settings.admin.socket} does not answer: {broker.detail}",
                why="The door hangs, is another program, or does not let this user in.",
                fix=f"ss -lxp src {setup.settings.admin.socket}; run `broker doctor` as the broker's user, or restart "
                "the broker.",
            )


def running_issuer(setup: Setup) -> Finding:
    """The issuer answers the door."""
    broker = setup.broker
    if isinstance(broker, Alive) and not broker.status.issuer_ready:
        return problem(
            "the door runs, and the issuer does not answer it",
            why="Every call is refused with UNAVAILABLE.",
            fix="Read the broker's output: it says why the issuer does not start. Then: " + _restart(setup),
        )
    return ok("the issuer answers" if isinstance(broker, Alive) else _ABSENT)


def running_identity(setup: Setup) -> Finding:
    """The running broker is the one that the configuration names."""
    broker = setup.broker
    if isinstance(broker, Alive) and broker.status.spiffe_id != str(setup.own_id):
        return problem(
            f"the running broker is {broker.status.spiffe_id}; the configuration names {setup.own_id}",
            why="Callers that expect the configured ID refuse it.",
            fix=_restart(setup),
        )
    return ok(f"it runs as {setup.own_id}" if isinstance(broker, Alive) else _ABSENT)


def running_policy(setup: Setup) -> Finding:
    """The bundle that decides is the one on disk."""
    broker = setup.broker
    if not isinstance(broker, Alive):
        return ok(_ABSENT)
    status, check = broker.status, f"broker policy check {quoted(setup.settings.policy.dir)}"
    if not status.policy_digest:
        why = "Every request is refused."
        return problem(f"no policy is in force: {status.policy_problem}", why=why, fix=check)
    if status.policy_problem:
        why = "An older bundle decides until this is put right."
        return problem(f"the bundle on disk is not in force: {status.policy_problem}", why=why, fix=check)
    policy = setup.policy
    if not isinstance(policy, BundleProblem) and policy.digest != status.policy_digest:
        return warning(
            f"{status.policy_digest} is in force, {policy.digest} is on disk",
            why="It was changed a moment ago, or the broker was started with another directory.",
            fix="Look again in a moment; else: " + _restart(setup),
        )
    return ok(f"{status.policy_digest} is in force")


def running_rotation(setup: Setup) -> Finding:
    """The door has taken over every change of its SVID."""
    broker = setup.broker
    if isinstance(broker, Alive) and broker.status.rotation_failures:
        return problem(
            f"{broker.status.rotation_failures} changes of the SVID could not be taken over",
            why="The door goes on with the SVID before; when that ends, nobody can connect.",
            fix=f"spire-agent healthcheck, and the broker's output; then: {_restart(setup)}",
        )
    return ok("every change of the SVID was taken over" if isinstance(broker, Alive) else _ABSENT)


def separation(setup: Setup) -> Finding:
    """The process that parses strangers' bytes is not the one with the keys, nor of its user."""
    broker = setup.broker
    if not isinstance(broker, Alive):
        return ok(_ABSENT)
    issuer = lock_holder(setup.settings.store.path)
    if not issuer:
        return problem(
            "no process of the running broker holds the configured store",
            why="The issuer is down, or the broker was started with another store.",
            fix=_restart(setup),
        )
    if issuer == broker.door:
        return problem(
            f"issuer and door are one process ({issuer}): it runs with --embedded",
            why="Whoever captures the process that parses strangers' bytes holds the signing keys and the store.",
            fix=f"broker serve --config {quoted(setup.config)} (without --embedded); for a trial, --accept separation.",
        )
    return _apart(setup, broker, issuer)


def _apart(setup: Setup, broker: Alive, issuer: int) -> Finding:
    user, users = Path(f"/proc/{issuer}").stat().st_uid, setup.users
    runs = f"the issuer runs as user {user}, the door as user {broker.uid}"
    if isinstance(users, Users) and (user, broker.uid) != (users.issuer.uid, users.door.uid):
        return problem(
            f"{runs}; the configuration names {users.issuer} and {users.door}",
            why="The configuration was changed after the broker had started.",
            fix=_restart(setup),
        )
    if user == broker.uid:
        return warning(
            f"issuer and door are processes {issuer} and {broker.door}, both of user {user}",
            why="One user's processes can read each other's files: the separation is not enforced.",
            fix="Set [issuer] user and [door] user to two users, and start the broker as root; else "
            "--accept separation.",
        )
    return ok(runs)


def _restart(setup: Setup) -> str:
    return f"restart the broker: broker serve --config {quoted(setup.config)}"


CHECKS: Final = (
    Check(id="port", look=port, above=("config",)),
    Check(id="running", look=running, above=("admin-socket",)),
    Check(id="running-issuer", look=running_issuer, above=("running",)),
    Check(id="running-identity", look=running_identity, above=("running-issuer",)),
    Check(id="running-policy", look=running_policy, above=("running-issuer",)),
    Check(id="running-rotation", look=running_rotation, above=("running",)),
    Check(id="separation", look=separation, above=("running-issuer", "store-file")),
)
