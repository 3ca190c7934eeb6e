"""Builds the Go client the way docs/other-languages.md prints it, in a copy of the files that this needs.

Go's own build cache makes a build that was done before take a second or two; nothing is kept beside it.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path

from deploy.progress import step

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PAGE = ROOT / "docs" / "other-languages.md"
NEEDED = ("proto", "examples/support-desk/proto", "tests/interop")
PATIENCE = 2.0  # seconds of silence that nobody minds
_BLOCK = re.compile(r"<!-- run in: the checkout -->\n```sh\n(.*?)```", re.DOTALL)
_USUAL_PLACE = Path("/usr/local/go/bin")


def commands() -> str:
    """Return the commands that the page prints."""
    (found,) = _BLOCK.findall(PAGE.read_text())
    return str(found)


def go_is_here() -> bool:
    """Whether Go can be run."""
    return bool(shutil.which("go")) or (_USUAL_PLACE / "go").exists()


def environment() -> dict[str, str]:
    """Return the environment to run Go and buf in: pinned modules, and a cache that does not mind where it is built."""
    assert go_is_here(), "Go (https://go.dev/doc/install) is needed for this"
    path = [f"{sys.prefix}/bin", os.environ["PATH"], str(_USUAL_PLACE)]
    return os.environ | {
        "PATH": os.pathsep.join(path),
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }


def build(checkout: Path, *, aside: Callable[[], AbstractContextManager[None]]) -> Path:
    """Run the page's commands in a copy of the checkout; return the program.

    Args:
        checkout: a folder to be made.
        aside: lets what is shown meanwhile through to the terminal.

    """
    copy_and_build(checkout, NEEDED, commands(), title="Building the Go client", aside=aside)
    return checkout / "build" / "go-client"


def copy_and_build(
    checkout: Path,
    needed: Sequence[str],
    commands: str,
    *,
    title: str,
    aside: Callable[[], AbstractContextManager[None]],
) -> None:
    """Run commands in a copy of some folders; what takes long is shown."""
    for name in needed:
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("gen", "__pycache__"))
    log = checkout / "build.log"
    with log.open("w") as said, ExitStack() as shown:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=checkout, env=environment(), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                shown.enter_context(aside())
                shown.enter_context(step(f"{title} (the first time: a minute or two)"))
                process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0, log.read_text()[-4000:]
