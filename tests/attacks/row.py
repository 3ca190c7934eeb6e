"""What a row of the table of attacks is."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """One attack.

    Attributes:
        id: as test names and ids of parameters have it.
        title: the attack, in one line.
        tests: path::function, from tests/.
        waits: why there is none; empty when there are some.

    """

    id: str
    title: str
    tests: tuple[str, ...] = ()
    waits: str = ""


def row(id: str, title: str, *tests: str, waits: str = "") -> Row:  # noqa: A002 - what a row is called
    """Return a row."""
    return Row(id=id, title=title, tests=tests, waits=waits)
