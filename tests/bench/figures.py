"""Figures: what is compared with what, in words, with the goal and with the limit that the same run has shown."""

from pathlib import Path
from typing import Final

from tests.bench.figure import Figure, Goal, each_round, ratio
from tests.bench.measures import Measures

SPIRE_SYNC_MS: Final = 5000.0


def figures(measured: Measures, *, epyc: bool) -> list[Figure]:
    """Return every figure.

    Args:
        measured: by `rounds.measure`.
        epyc: whether the goals of that kind of machine count: its flush is quicker, so a naive broker loses less.

    """
    return [
        *_speed(measured, epyc=epyc),
        *_go(measured),
        *_cost(measured),
        *_durability(measured),
        *_efficiency(measured),
        *_validator(measured),
        _revocation(measured),
        *_acts(measured),
    ]


def on_epyc() -> bool:
    """Whether this machine is of the kind whose goals are the lower ones."""
    return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()


def _speed(measured: Measures, *, epyc: bool) -> list[Figure]:
    middle = measured.middle
    bare, stream = middle("rate.bare.unary"), middle("rate.bare.stream")
    naive = "the naive broker's (decide, sign and commit in one handler)"
    alone = f"a handler that answers at once: {bare:,.0f}/s, {bare / middle('rate.naive.unary'):.1f}x the naive broker"
    return [
        ratio(
            measured,
            "unary-to-naive",
            f"exchanges/s, a call each, to {naive}",
            ("rate.durable.unary", "rate.naive.unary"),
            Goal(number=1, better="at least", bound=2.0 if epyc else 3.5, gated=True),
            alone,
        ),
        ratio(
            measured,
            "stream-to-naive",
            f"exchanges/s by ExchangeStream, to {naive}, a call each",
            ("rate.durable.stream", "rate.naive.unary"),
            Goal(number=1, better="at least", bound=4.0 if epyc else 6.0, gated=True),
            f"streams answered at once: {stream:,.0f}/s",
        ),
        ratio(
            measured,
            "unary-to-bare",
            "exchanges/s, a call each, to the bare RPC (same proto, answered at once)",
            ("rate.durable.unary", "rate.bare.unary"),
            None,
            f"1; the client took {_cores(measured, 'client.bare.unary')} of the bare RPC's two cores",
        ),
        ratio(
            measured,
            "stream-to-bare",
            "exchanges/s by ExchangeStream, to the bare stream (answered at once)",
            ("rate.durable.stream", "rate.bare.stream"),
            None,
            f"1; the client took {_cores(measured, 'client.bare.stream')} cores there",
        ),
        ratio(
            measured,
            "stream-to-bare-unary",
            "exchanges/s by ExchangeStream, to the bare RPC, a call each",
            ("rate.durable.stream", "rate.bare.unary"),
            None,
            f"the bare stream: {stream / bare:.1f}x",
        ),
    ]


def _go(measured: Measures) -> list[Figure]:
    """Return what a server in Go shows, where there is Go."""
    sides = ("rate.durable.unary", "rate.go.unary")
    if sides[1] not in measured.samples:
        return []
    ours, theirs = measured.middle("cpu.durable.unary"), measured.middle("cpu.go.unary")
    used = f"in us of CPU a call: Go {theirs:.0f}, ours {ours:.0f}"
    limit = f"1; {used}; the client took {_cores(measured, 'client.go.unary')} cores there"
    says = "exchanges/s, a call each, to a server in Go that appends and flushes, but decides and signs nothing"
    return [ratio(measured, "unary-to-go", says, sides, None, limit)]


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
            ratio(
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
            values=each_round(measured, sides, lambda durable, off, one: (durable - off) / one),
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
            values=each_round(measured, sides, lambda rpc, *rest: (rpc + sum(rest[:-1])) / rest[-1]),
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
        ratio(
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


def _acts(measured: Measures) -> list[Figure]:
    read, once = measured.middle("act.read"), measured.middle("act.once")
    floor = measured.middle("wait.bare") + measured.middle("flush")
    return [
        ratio(
            measured,
            "act-many",
            "a service's judgement of a write that may be done many times, to that of a read",
            ("act.many", "act.read"),
            None,
            f"1: neither asks the broker; a read takes {read:.2f} ms, the caller's SVID verified anew",
        ),
        ratio(
            measured,
            "act-once",
            "a service's judgement of what is good once, redeemed at the broker, to one exchange alone",
            ("act.once", "act.exchange"),
            None,
            f"it takes {once:.2f} ms, {once / read:.0f}x a read; one bare RPC and one flush: {floor:.2f} ms",
        ),
        ratio(
            measured,
            "act-together",
            "redemptions one after another, to those of which 64 wait together: the time of one",
            ("act.once", "act.together"),
            None,
            "more than 1: what waits together shares a commit",
        ),
    ]
