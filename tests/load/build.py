"""Builds the program of this folder, in a copy of the files that this needs; Go's own cache makes it quick."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from tests.interop.build import copy_and_build

NEEDED: Final = ("proto", "tests/load")
COMMANDS: Final = """
cd tests/load
buf generate
go build -o ../../build/load .
"""


def build(checkout: Path, *, aside: Callable[[], AbstractContextManager[None]]) -> Path:
    """Build it; return the program.

    Args:
        checkout: a folder to be made.
        aside: lets what is shown meanwhile through to the terminal.

    """
    copy_and_build(checkout, NEEDED, COMMANDS, title="Building the compiled load", aside=aside)
    return checkout / "build" / "load"
