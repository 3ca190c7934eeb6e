"""Reach: what each half has to get at as its own user, and what of the other's it must not."""

import json
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from broker.settings import Settings
from broker.supervisor import access
from broker.supervisor.user import User, Users

_FLOOR: Final = 1024
_PORT_FLOOR: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
_LEAVINGS: Final = ("", "-wal", "-shm", ".lock")  # what SQLite and the broker put beside the store


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """One thing to get at.

    Attributes:
        path: of a file or directory that is there.
        letters: some of "rwx", all of them wanted.
        what: what it is, for people.
        fix: how it is given to the user; `USER` stands for the name.

    """

    path: Path
    letters: str
    what: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """What keeps a user from something.

    Attributes:
        want: what was wanted.
        at: the file or directory that does not let the user in.
        letters: what it does not allow.

    """

    want: Want
    at: Path
    letters: str

    def say(self, user: User) -> str:
        """Return it for people."""
        meanings = {"r": "read", "w": "write", "x": "enter" if self.at.is_dir() else "run"}
        lacks = " or ".join(meanings[letter] for letter in self.letters)
        if self.at == self.want.path:
            return f"user {user} cannot {lacks} {self.want.what} {self.at}"
        return f"user {user} cannot {lacks} {self.at}, and so not get at {self.want.what} {self.want.path}"

    def fix(self, user: User) -> str:
        """Return what puts it right."""
        fix = self.want.fix
        if self.at != self.want.path and self.letters == "x":
            fix = f"setfacl -m u:USER:x {_quoted(self.at)}, or chmod o+x, lets it enter; else {fix}"
        return fix.replace("USER", shlex.quote(user.name))


def becoming(user: User) -> list[str]:
    """Return what stands before a command, with its full path, to have root run it as a user."""
    groups = ",".join(map(str, user.groups))
    # Isolated, so that nothing but the standard library is loaded as root.
    return [sys.executable, "-I", "-S", access.__file__, str(user.uid), str(user.gid), groups]


def look(user: User, wants: Sequence[Want]) -> list[Obstacle | None]:
    """Find out as that user; one answer a want. Only root can.

    Raises:
        OSError: nobody can become that user here.

    """
    tries = json.dumps([(str(want.path.absolute()), want.letters) for want in wants])
    run = subprocess.run(becoming(user), input=tries, capture_output=True, text=True, check=False)
    if run.returncode:
        raise OSError(f"nobody can become user {user} here: {last_line(run.stderr)}")
    return [
        None if answer is None else Obstacle(want=want, at=Path(answer[0]), letters=answer[1])
        for want, answer in zip(wants, json.loads(run.stdout), strict=True)
    ]


def last_line(text: str) -> str:
    """Return the last line: of what Python says of a failure, the one that names it."""
    return text.strip().rpartition("\n")[2]


def blocked(user: User, wants: Sequence[Want]) -> list[Obstacle]:
    """Return what the user cannot get at."""
    return [each for each in look(user, wants) if each is not None]


def granted(user: User, wants: Sequence[Want]) -> list[Want]:
    """Return what the user can get at."""
    return [want for want, obstacle in zip(wants, look(user, wants), strict=True) if obstacle is None]


def port_for_root(settings: Settings) -> bool:
    """Whether the door's user cannot listen on the port: it is below where the system's free ones begin."""
    number = int(settings.listen.address.rpartition(":")[2])
    floor = int(_PORT_FLOOR.read_text()) if _PORT_FLOOR.exists() else _FLOOR
    return 0 < number < floor


def to_run() -> Iterator[Want]:
    """Yield the program and the code that both halves are run from."""
    fix = "install the broker where every user may read it, such as python3 -m venv /opt/broker"
    yield Want(path=Path(sys.executable), letters="x", what="the program", fix=fix)
    for place in _code():
        yield Want(path=place, letters="rx" if place.is_dir() else "r", what="the code in", fix=fix)


def _code() -> list[Path]:
    # The first entry is where this process was started from, unless it is a safe path; the halves' is safe (-P).
    entries = sys.path if sys.flags.safe_path else sys.path[1:]
    return sorted(place for place in {Path(__file__).parent.parent, *map(Path, entries)} if place.exists())


def of_both(settings: Settings, config: Path, socket: str) -> Iterator[Want]:
    """Yield what both halves open: the configuration, which holds no secret, and the SPIRE agent's socket."""
    fix = "put it where every user may read it, such as /etc/broker, with mode 0644"
    yield Want(path=config, letters="r", what="the configuration", fix=fix)
    agent = Path(urlsplit(settings.workload_api.socket or socket).path)
    if agent.is_socket():
        fix = "set socket_path in the SPIRE agent's configuration to where every user may enter"
        yield Want(path=agent, letters="w", what="the SPIRE agent's socket", fix=fix)


def of_issuer(settings: Settings) -> Iterator[Want]:
    """Yield what the issuer opens: policy, store and keys."""
    policy, store, keys = settings.policy.dir, settings.store.path, settings.keys.dir
    for path in _tree(policy):
        letters = "rx" if path.is_dir() else "r"
        yield Want(path=path, letters=letters, what="the policy", fix=f"chmod -R go+rX {_quoted(policy)}")
    yield Want(path=_standing(store.parent), letters="rwx", what="the store's directory", fix=_own(store.parent))
    for path in _beside(store):
        yield Want(path=path, letters="rw", what="the store", fix=f"chown USER {_quoted(path)}")
    for path in _tree(keys):
        letters = "rwx" if path.is_dir() else "r"
        yield Want(path=path, letters=letters, what="the keys", fix=f"chown -R USER {_quoted(keys)}")
    for each in _authorities(settings):
        yield Want(
            path=each, letters="r", what="the authorities of an [[oidc]] issuer,", fix=f"chmod go+r {_quoted(each)}"
        )
    if not keys.exists():
        yield Want(path=_standing(keys.parent), letters="wx", what="the directory of the keys", fix=_own(keys))


def _authorities(settings: Settings) -> list[Path]:
    """Return the files that say who may vouch for the hosts of identity issuers, as far as they are there."""
    return [each.ca_file for each in settings.oidc if each.ca_file is not None and each.ca_file.exists()]


def of_door(settings: Settings) -> Iterator[Want]:
    """Yield what the door opens: the directory of its admin socket."""
    directory = settings.admin.socket.parent
    yield Want(path=_standing(directory), letters="wx", what="the admin socket's directory", fix=_own(directory))


def needs(settings: Settings, config: Path, socket: str, role: str) -> list[Want]:
    """Return what a half, "issuer" or "door", has to get at.

    Args:
        settings: the configuration.
        config: its file.
        socket: SPIFFE_ENDPOINT_SOCKET; empty when it is not set.
        role: of the half.

    """
    own = of_issuer(settings) if role == "issuer" else of_door(settings)
    return [*to_run(), *of_both(settings, config, socket), *own]


def not_for_door(settings: Settings, config: Path, user: User) -> list[Want]:
    """Return what the door's user must not get at: keys and store, and whatever says what the issuer does."""
    secrets = [("the keys", path) for path in _tree(settings.keys.dir)]
    secrets += [("the store", path) for path in _beside(settings.store.path)]
    ruling = [("the configuration", config), *(("the policy", path) for path in _tree(settings.policy.dir))]
    ruling += [("the authorities of an [[oidc]] issuer", path) for path in _authorities(settings)]
    ruling += [("the code", path) for path in (Path(sys.executable), *_code())]
    wants = [_forbidden(path, letter, what) for what, path in secrets for letter in "rw"]
    wants += [_forbidden(path, "w", what) for what, path in ruling]
    places = [("the keys", settings.keys.dir), ("the store", settings.store.path)]
    return wants + _above(places + ruling, user)


def not_for_issuer(settings: Settings, user: User) -> list[Want]:
    """Return what the issuer's user must not get at: the admin socket, and who stands behind it."""
    socket = settings.admin.socket
    code = [("the code", path) for path in (Path(sys.executable), *_code())]
    wants = [_forbidden(path, "w", what) for what, path in [("the admin socket", socket), *code] if path.exists()]
    return wants + _above([("the admin socket", socket), *code], user)


def _forbidden(path: Path, letters: str, what: str) -> Want:
    if what in {"the keys", "the store", "the admin socket"}:
        fix = f"chmod go-rwx {_quoted(path)}"
    else:
        fix = f"chown root {_quoted(path)}; chmod go-w {_quoted(path)}"
    return Want(path=path, letters=letters, what=what, fix=fix)


def _above(kept: Sequence[tuple[str, Path]], user: User) -> list[Want]:
    """Return the directories in which a user could put something else in the place of what is kept."""
    found: dict[Path, Want] = {}
    for what, path in kept:
        for parent in {*path.absolute().parents, *path.resolve().parents}:
            if parent.is_dir() and not _sticky(parent, user):
                how = "chown root" if parent.stat().st_uid == user.uid else "chmod go-w"
                fix = f"{how} {_quoted(parent)}"
                found.setdefault(parent, Want(path=parent, letters="wx", what=f"what stands above {what},", fix=fix))
    return list(found.values())


def _sticky(directory: Path, user: User) -> bool:
    """Whether a user who may write there can still not replace what is others'."""
    status = directory.stat()
    return bool(status.st_mode & stat.S_ISVTX) and status.st_uid != user.uid


def _own(directory: Path) -> str:
    return f"install -d -m 700 -o USER {_quoted(directory)}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _standing(path: Path) -> Path:
    """Return the path, or what of it there is."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _tree(directory: Path) -> list[Path]:
    return [directory, *sorted(directory.iterdir())] if directory.is_dir() else []


def _beside(store: Path) -> list[Path]:
    return [path for path in (store.with_name(store.name + end) for end in _LEAVINGS) if path.exists()]


def stands_in_the_way(settings: Settings, config: Path, socket: str, users: Users) -> str:
    """Return what keeps one of the halves from running as its user, with what puts it right; empty when nothing does.

    Raises:
        OSError: nobody can become these users here.

    """
    if port_for_root(settings):
        return (
            f"{settings.listen.address} is a port for root, and the door is user {users.door}: set [listen] address to "
            "a port from 1024 on, or lower the bound: sysctl net.ipv4.ip_unprivileged_port_start"
        )
    for role, user in (("issuer", users.issuer), ("door", users.door)):
        for obstacle in blocked(user, needs(settings, config, socket, role)):
            return f"the {role} cannot run: {obstacle.say(user)}: {obstacle.fix(user)}"
    return ""
