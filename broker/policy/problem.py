"""What is wrong with a bundle: every problem at once, each with its file and the way to put it right."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that keeps a bundle from loading.

    Attributes:
        file: the file's name within the bundle, or empty for the bundle as a whole.
        line: where, from 1; None when it is not known.
        sentence: what is wrong and what puts it right.

    """

    file: str
    line: int | None = None
    sentence: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.sentence}" if place else self.sentence


class BundleProblem(Exception):
    """A bundle does not load; `problems` is never empty."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class Findings:
    """Collects problems, so that an author sees all of them at once."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def add(self, file: str, sentence: str, *, line: int | None = None) -> None:
        """Note one problem."""
        self._found.append(Problem(file=file, line=line, sentence=sentence))

    def __bool__(self) -> bool:
        return bool(self._found)

    def stop_if_any(self) -> None:
        """Refuse the bundle when something was found.

        Raises:
            BundleProblem: with everything found so far, by file and line.

        """
        if self._found:
            raise BundleProblem(tuple(sorted(self._found, key=lambda p: (p.file, p.line or 0))))
