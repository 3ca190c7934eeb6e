"""Python programs that attestation by path can tell apart: a copied interpreter for each identity."""

import filecmp
import os
import re
import shutil
from pathlib import Path

from deploy.spire.errors import DeployError


def workload_interpreter(name: str, *, directory: Path, venv: Path) -> Path:
    """Return an interpreter of its own for the workload ``name``, with everything the venv has.

    It is ``directory/name/bin/python``: a copy of the program the venv runs, beside the venv's own
    settings, and the venv's libraries by a link. A process started by it has that path, and no other
    workload has. Called again it changes nothing that is still right.
    Raises ValueError for a name that is no plain file name, DeployError when ``venv`` is none.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"not a plain file name: {name!r}")
    original, settings = venv / "bin" / "python", venv / "pyvenv.cfg"
    if not original.exists() or not settings.exists():
        raise DeployError(f"{venv} is not a Python virtual environment; make one with: python3 -m venv {venv}")
    home = directory.resolve() / name
    interpreter = home / "bin" / "python"
    interpreter.parent.mkdir(parents=True, exist_ok=True)
    _copy(settings, home / "pyvenv.cfg")
    for libraries in ("lib", "lib64"):
        if (venv / libraries).is_dir():
            _link(home / libraries, venv.resolve() / libraries)
    _copy(original.resolve(), interpreter)
    return interpreter


def _copy(source: Path, target: Path) -> None:
    if target.exists() and filecmp.cmp(source, target):
        return
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        shutil.copy2(source, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target)
