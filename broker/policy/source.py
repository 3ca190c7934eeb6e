"""Where policy comes from: a directory, read whole, swapped whole.

To change several files at once, let the directory be a symbolic link and move the link: a snapshot is taken from one
directory. Files written in place are read twice and taken only when both readings agree.
"""

import threading
from pathlib import Path
from typing import Final

from broker.policy.bundle import MAX_BYTES, README, BundleProblem, bundle_digest, compile_bundle
from broker.policy.compiled import CompiledPolicy

_READINGS: Final = 5


class PolicySource:
    """Supplies the bundle in force; a bad one never replaces a good one.

    Every method may be called from any thread; `current` never waits.
    """

    def __init__(self, directory: Path | str) -> None:
        self._directory = Path(directory)
        self._lock = threading.Lock()
        self._current: CompiledPolicy | None = None
        self._seen = ""
        self._problem = "the policy directory has not been read yet"

    def current(self) -> CompiledPolicy | None:
        """Return the bundle in force, or None when there never was a good one."""
        return self._current

    @property
    def problem(self) -> str:
        """Why what lies in the directory is not in force; empty when it is."""
        return self._problem

    def load(self) -> bool:
        """Read the directory, whatever was seen before; return whether a bundle is in force."""
        with self._lock:
            self._seen = ""
            self._refresh()
            return self._current is not None

    def refresh(self) -> bool:
        """Look for a change; return whether another bundle is in force now. Cheap when nothing changed."""
        with self._lock:
            return self._refresh()

    def _refresh(self) -> bool:
        try:
            files = read_directory(self._directory)
        except OSError as problem:
            self._seen = ""
            self._problem = f"{self._directory}: {problem.strerror or problem}; the last good bundle stays in force"
            return False
        digest = bundle_digest(files)
        if digest == self._seen:
            return False
        self._seen = digest
        if self._current is not None and digest == self._current.digest:
            self._problem = ""
            return False
        try:
            compiled = compile_bundle(files)
        except BundleProblem as problem:
            self._problem = str(problem)
            return False
        self._current, self._problem = compiled, ""
        return True


def read_directory(directory: Path) -> dict[str, bytes]:
    """Read one consistent snapshot of a bundle's files. Names that begin with "." or end with "~" are left out.

    Raises:
        OSError: the directory cannot be read, or it changes faster than it can be read.

    """
    earlier = _read_once(directory)
    for _ in range(_READINGS):
        later = _read_once(directory)
        if later == earlier:
            return later[1]
        earlier = later
    raise OSError("the files are being written; they are read again at the next look")


def _read_once(directory: Path) -> tuple[Path, dict[str, bytes]]:
    """Read every file once, all from the directory that the name means at this moment."""
    place = directory.resolve(strict=True)
    files: dict[str, bytes] = {}
    for path in sorted(place.iterdir()):
        if path.name.startswith(".") or path.name.endswith("~") or path.name == README:
            continue
        if path.is_dir():
            files[f"{path.name}/"] = b""  # not part of a bundle; compiling says so
            continue
        with path.open("rb") as file:
            files[path.name] = file.read(MAX_BYTES + 1)
    return place, files
