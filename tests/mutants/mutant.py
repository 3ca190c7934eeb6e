"""What a mutant is: one safeguard taken out, and the test that has to notice."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One patch.

    Attributes:
        name: of the mutant.
        safeguard: what is taken out, in words.
        file: where, from the root of the repository.
        old: the text that stands there, exactly once.
        new: what takes its place.
        test: the test that must turn red: path::function, with [row] where one row is enough.

    """

    name: str
    safeguard: str
    file: str
    old: str
    new: str
    test: str


def mutant(name: str, safeguard: str, file: str, old: str, new: str, test: str) -> Mutant:
    """Return a row of a table."""
    return Mutant(name=name, safeguard=safeguard, file=f"broker/{file}", old=old, new=new, test=f"tests/{test}")
