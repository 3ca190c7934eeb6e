"""Figure: one line of the answer, with its goal and with the limit that the same run has shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, Literal

from tests.bench.measures import Measures

# A gate holds to this part of a goal: other work on the machine must not fail a build.
TOLERANCE: Final = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A goal of the project's.

    Attributes:
        number: of the list in docs/performance.md; two may share one.
        better: whether a figure has to be at least or at most the bound.
        bound: the goal itself.
        gated: whether `--gate` fails on it.

    """

    number: int
    better: Literal["at least", "at most"]
    bound: float
    gated: bool = False

    def met_by(self, value: float, tolerance: float = 1.0) -> bool:
        """Whether a value keeps it, or this part of it."""
        return value >= self.bound * tolerance if self.better == "at least" else value <= self.bound / tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the answer.

    Attributes:
        name: for programs.
        says: what is compared, in words.
        unit: of the values.
        values: one a round.
        sides: the measures on both sides of it, all of this run.
        goal: None where there is none.
        limit: what bounds it in this run, in words and numbers.

    """

    name: str
    says: str
    unit: str
    values: Sequence[float]
    sides: tuple[str, ...]
    goal: Goal | None
    limit: str

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        return None if self.goal is None else self.goal.met_by(self.middle)

    @property
    def fails_gate(self) -> bool:
        """Whether a gate has to fail."""
        return self.goal is not None and self.goal.gated and not self.goal.met_by(self.middle, TOLERANCE)

    def to_json(self) -> dict[str, Any]:
        """Return all of it, for programs."""
        goal = None
        if self.goal is not None:
            goal = {"number": self.goal.number, "better": self.goal.better, "bound": self.goal.bound}
        return {
            "name": self.name,
            "says": self.says,
            "unit": self.unit,
            "median": self.middle,
            "low": min(self.values),
            "high": max(self.values),
            "sides": list(self.sides),
            "goal": goal,
            "met": self.met,
            "gated": self.goal is not None and self.goal.gated,
            "limit": self.limit,
        }


def each_round(measured: Measures, names: tuple[str, ...], of: Callable[..., float]) -> list[float]:
    """Work a figure out for each round by itself: what slows a round slows both sides."""
    return [of(*row) for row in zip(*(measured.samples[name] for name in names), strict=True)]


def ratio(measured: Measures, name: str, says: str, sides: tuple[str, str], goal: Goal | None, limit: str) -> Figure:
    """Return the figure of one side to another."""
    values = each_round(measured, sides, lambda left, right: left / right)
    return Figure(name=name, says=says, unit="x", values=values, sides=sides, goal=goal, limit=limit)
