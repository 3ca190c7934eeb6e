"""Figures: what is compared with what, in words, with the goal and with the limit that the same run has shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

from tests.bench.measures import Measures

# A gate holds to this part of a goal: other work on the machine must not fail a build.
TOLERANCE: Final = 0.85
SPIRE_SYNC_MS: Final = 5000.0


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


def figures(measured: Measures, *, epyc: bool) -> list[Figure]:
    """Return every figure.

    Args:
        measured: by `rounds.measure`.
        epyc: whether the goals of that kind of machine count: its flush is quicker, so a naive broker loses less.

    """
    return [
        *_speed(measured, epyc=epyc),
        *_cost(measured),
        *_durability(measured),
        *_efficiency(measured),
        *_validator(measured),
        _revocation(measured),
    ]


def on_epyc() -> bool:
    """Whether this machine is of the kind whose goals are the lower ones."""
    return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()


def _each(measured: Measures, names: tuple[str, ...], of: Callable[..., float]) -> list[float]:
    """Work a figure out for each round by itself: what slows a round slows both sides."""
    return [of(*row) for row in zip(*(measured.samples[name] for name in names), strict=True)]


def _ratio(measured: Measures, name: str, says: str, sides: tuple[str, str], goal: Goal | None, limit: str) -> Figure:
    values = _each(measured, sides, lambda left, right: left / right)
    return Figure(name=name, says=says, unit="x", values=values, sides=sides, goal=goal, limit=limit)


def _speed(measured: Measures, *, epyc: bool) -> list[Figure]:
    middle = measured.middle
    bare, stream = middle("rate.bare.unary"), middle("rate.bare.stream")
    naive = "the naive broker's (decide, sign and commit in one handler)"
    alone = f"a handler that answers at once: {bare:,.0f}/s, {bare / middle('rate.naive.unary'):.1f}x the naive broker"
    return [
        _ratio(
            measured,
            "unary-to-naive",
            f"exchanges/s, a call each, to {naive}",
            ("rate.durable.unary", "rate.naive.unary"),
            Goal(number=1, better="at least", bound=2.0 if epyc else 3.5, gated=True),
            alone,
        ),
        _ratio(
            measured,
            "stream-to-naive",
            f"exchanges/s by ExchangeStream, to {naive}, a call each",
            ("rate.durable.stream", "rate.naive.unary"),
            Goal(number=1, better="at least", bound=4.0 if epyc else 6.0, gated=True),
            f"streams answered at once: {stream:,.0f}/s",
        ),
        _ratio(
            measured,
            "unary-to-bare",
            "exchanges/s, a call each, to the bare RPC (same proto, answered at once)",
            ("rate.durable.unary", "rate.bare.unary"),
            None,
            f"1; the client took {_cores(measured, 'client.bare.unary')} of the bare RPC's two cores",
        ),
        _ratio(
            measured,
            "stream-to-bare",
            "exchanges/s by ExchangeStream, to the bare stream (answered at once)",
            ("rate.durable.stream", "rate.bare.stream"),
            None,
            f"1; the client took {_cores(measured, 'client.bare.stream')} cores there",
        ),
        _ratio(
            measured,
            "stream-to-bare-unary",
            "exchanges/s by ExchangeStream, to the bare RPC, a call each",
            ("rate.durable.stream", "rate.bare.unary"),
            None,
            f"the bare stream: {stream / bare:.1f}x",
        ),
    ]


def _cores(measured: Measures, name: str) -> str:
    return f"{measured.middle(name):.2f}"


def _cost(measured: Measures) -> list[Figure]:
    return [
        Figure(
            name=f"cpu-{how}",
            says=f"server CPU a token, {words}: supervisor, issuer and door",
            unit="us",
            values=measured.samples[f"cpu.durable.{how}"],
            sides=(f"cpu.durable.{how}", f"cpu.bare.{how}", "cpu.naive.unary"),
            goal=None,
            limit=f"bare: {measured.middle(f'cpu.bare.{how}'):.0f}; naive: {measured.middle('cpu.naive.unary'):.0f}; "
            f"the client took {_cores(measured, f'client.durable.{how}')} cores",
        )
        for how, words in (("unary", "a call each"), ("stream", "by ExchangeStream"))
    ]


def _durability(measured: Measures) -> list[Figure]:
    flush = f"one fdatasync: {measured.middle('flush'):.2f} ms"
    sides = ("wait.durable", "wait.off", "flush")
    return [
        *(
            _ratio(
                measured,
                f"durable-{how}",
                f"exchanges/s, {words}, to the same broker with a store that writes no grant and no event",
                (f"rate.durable.{how}", f"rate.off.{how}"),
                Goal(number=7, better="at least", bound=0.85, gated=True),
                "1: a log that costs nothing",
            )
            for how, words in (("unary", "a call each"), ("stream", "by ExchangeStream"))
        ),
        Figure(
            name="durable-alone",
            says="what being durable adds to one exchange alone, in flushes of the disk",
            unit="flushes",
            values=_each(measured, sides, lambda durable, off, one: (durable - off) / one),
            sides=sides,
            goal=Goal(number=7, better="at most", bound=2.0, gated=True),
            limit=f"1 flush; {flush}; alone it takes {measured.middle('wait.durable'):.2f} ms, "
            f"the bare RPC {measured.middle('wait.bare'):.2f} ms",
        ),
    ]


def _efficiency(measured: Measures) -> list[Figure]:
    parts = ("floor.policy", "floor.sign", "floor.audit")
    each = ", ".join(f"{name.partition('.')[2]} {measured.middle(name):.0f}" for name in parts)
    return [
        Figure(
            name=f"efficiency-{how}",
            says=f"what cannot be left out, each timed alone, to server CPU an exchange, {words}",
            unit="x",
            values=_each(measured, sides, lambda rpc, *rest: (rpc + sum(rest[:-1])) / rest[-1]),
            sides=sides,
            goal=Goal(number=5, better="at least", bound=0.8),
            limit=f"1; alone, in us: RPC {measured.middle(sides[0]):.0f}, {each}",
        )
        for how, words in (("unary", "a call each"), ("stream", "by ExchangeStream"))
        for sides in [(f"cpu.bare.{how}", *parts, f"cpu.durable.{how}")]
    ]


def _validator(measured: Measures) -> list[Figure]:
    middle = measured.middle
    others = f"PyJWT {middle('check.pyjwt'):.0f}, joserfc {middle('check.joserfc'):.0f}"
    return [
        Figure(
            name="check-cached",
            says="a validator's check of a token it has seen, a million revoked, beside verifying its signature anew",
            unit="us",
            values=measured.samples["check.cached"],
            sides=("check.cached", "check.signature", "check.lookup"),
            goal=Goal(number=12, better="at most", bound=1.0),
            limit=f"expiry and bitmap alone: {middle('check.lookup'):.2f}; "
            f"one ES256 verification: {middle('check.signature'):.0f}",
        ),
        _ratio(
            measured,
            "check-uncached",
            "a validator's check of a token it has not seen, to ES256 verification alone",
            ("check.uncached", "check.signature"),
            Goal(number=12, better="at most", bound=1.25),
            f"1; in us: ours {middle('check.uncached'):.0f}, {others}, signature {middle('check.signature'):.0f}",
        ),
    ]


def _revocation(measured: Measures) -> Figure:
    took = measured.middle("revoke")
    return Figure(
        name="revoke",
        says="from an operator's Revoke to the first refusal at a service that follows",
        unit="ms",
        values=measured.samples["revoke"],
        sides=("revoke", "wait.bare", "flush"),
        goal=Goal(number=11, better="at most", bound=50.0),
        limit=f"{SPIRE_SYNC_MS / took:.0f}x below SPIRE's default sync of 5 s; one bare RPC and one flush: "
        f"{measured.middle('wait.bare') + measured.middle('flush'):.1f} ms; one service, not a thousand",
    )
