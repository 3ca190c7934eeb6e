"""Become another program: in a session of its own, on record, and mortal with its parent if asked.

``launch.py RECORD PARENT SIGNAL PROGRAM [ARGUMENT...]``

The record (process number, start time, boot) is written before the program runs, so there is no
moment at which it runs unrecorded. With a SIGNAL other than 0 the kernel sends it when PARENT dies.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def boot_id() -> str:
    """Name this boot of the machine; start times count from it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def stat_fields(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` that follow the program's name; state first.

    Raises OSError when there is no such process.
    """
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def start_time(pid: int) -> int:
    """When the process began, in clock ticks since boot: with its number, this names it for good."""
    return int(stat_fields(pid)[19])


def _tie_to_parent(parent: int, number: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel knew
        sys.exit(1)


def _write_record(path: Path) -> None:
    pid = os.getpid()
    text = json.dumps({"pid": pid, "started": start_time(pid), "boot": boot_id()})
    unfinished = path.with_name(f"{path.name}.{pid}")
    unfinished.write_text(text, encoding="ascii")
    unfinished.replace(path)


def main(arguments: list[str]) -> None:
    """Do what the module says. Returns only by raising."""
    record, parent, number, *command = arguments
    if os.getsid(0) != os.getpid():
        os.setsid()
    if int(number):
        _tie_to_parent(int(parent), int(number))
    _write_record(Path(record))
    os.execv(command[0], command)  # noqa: S606  which program is our caller's choice, and no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
