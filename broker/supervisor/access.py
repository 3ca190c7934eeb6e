"""Becomes another user for good, and then runs a program, or looks what that user may do: a program, run by root.

    access.py UID GID GROUP,... PROGRAM [ARGUMENT...]
    access.py UID GID GROUP,...

Without a program it reads a JSON list of [path, letters of "rwx"], of paths that exist, and writes a JSON list: for
each what stands in the way, [path, letters], or null. The kernel answers, so access control lists, groups and the
directories above count. It is a program of its own because gRPC's threads and fork do not go together, and Popen forks
to change its user.
"""

import json
import os
import sys
from pathlib import PurePath

_LETTERS = {"r": os.R_OK, "w": os.W_OK, "x": os.X_OK}


def main() -> None:
    """Do the one or the other."""
    uid, gid, groups, *program = sys.argv[1:]
    tries = [] if program else json.load(sys.stdin)
    # By root alone: a link may lead through where the user cannot follow.
    real = [os.path.realpath(path) for path, _ in tries]
    os.setgroups([int(group) for group in groups.split(",")])
    os.setresgid(int(gid), int(gid), int(gid))
    os.setresuid(int(uid), int(uid), int(uid))
    if program:
        os.execv(program[0], program)  # noqa: S606
    found = [_obstacle(path, target, letters) for (path, letters), target in zip(tries, real, strict=True)]
    json.dump(found, sys.stdout)


def _obstacle(path: str, real: str, letters: str) -> tuple[str, str] | None:
    lacking = "".join(letter for letter in letters if not os.access(path, _LETTERS[letter]))
    if not lacking:
        return None
    for way in (path, real):
        for parent in reversed(PurePath(way).parents):
            if not os.access(parent, os.X_OK):
                return str(parent), "x"
    return real, lacking


if __name__ == "__main__":
    main()
