"""`python -m tests.faults`: faults by the hundred, in sittings; what they count adds up in a file, and on a page.

Exit status: 0 nothing was lost; 1 something was, or the kind cannot be tried here.
"""

import asyncio
import fcntl
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, TypeAlias

import click

from tests import results
from tests.faults.cuts import power_cuts
from tests.faults.disks import why_no_loops, why_no_mounts
from tests.faults.kills import PLACES, Sitting, at_points, at_random
from tests.faults.swaps import swaps
from tests.faults.troubles import troubles, why_no_shim

RESULTS = Path(__file__).with_name("results.json")
PAGE = results.ROOT / "docs" / "reliability.md"
# Of one broker: short enough that nothing expires meanwhile.
SITTING = 20
_COUNTED = ("credentials", "revocations", "ends", "approvals", "denials", "redemptions", "reports")


async def _at_points(folder: Path, count: int, seed: int) -> Sitting:
    """Come by every point in turn, from sitting to sitting; the seed says where to begin."""
    first = Random(seed).randrange(len(PLACES))  # noqa: S311
    return await at_points(folder, [PLACES[(first + step * 7) % len(PLACES)] for step in range(count)], seed)


Counts: TypeAlias = Mapping[str, Mapping[str, float]]
KINDS: Mapping[str, Callable[[Path, int, int], Awaitable[Sitting]]] = {
    "kills": at_random,
    "points": _at_points,
    "cuts": power_cuts,
    "troubles": troubles,
    "swaps": swaps,
}


WHY_NOT: Mapping[str, Callable[[], str]] = {
    "cuts": why_no_loops,
    "troubles": lambda: why_no_mounts() or why_no_shim(),
}


@click.command
@click.option("--kind", "kinds", type=click.Choice(tuple(KINDS)), multiple=True, help="Only this; all by default.")
@click.option("--count", type=click.IntRange(1), default=SITTING, show_default=True, help="Of each kind, now.")
@click.option("--seed", type=int, default=None, help="Repeat an earlier run's choices.")
@click.option("--results", "path", type=click.Path(path_type=Path), default=RESULTS, help="Where counts add up.")
@click.option("--page/--no-page", default=False, help="Write what has been counted on docs/reliability.md.")
def faults(*, kinds: tuple[str, ...], count: int, seed: int | None, path: Path, page: bool) -> None:
    """Kill, cut and compare, and add what was counted to the file after each sitting."""
    failed = asyncio.run(_all(kinds or tuple(KINDS), count, seed or SystemRandom().randrange(1, 2**31), path))
    if page:
        results.put(PAGE, "faults", told(path))
    sys.exit(failed)


async def _all(kinds: Sequence[str], count: int, seed: int, path: Path) -> bool:
    """Hold sittings; return whether something was lost, or could not be tried, or was tried in vain."""
    failed = False
    for kind in kinds:
        if why := WHY_NOT.get(kind, str)():
            click.echo(f"faults: {why}")
            failed = True
            continue
        unanswered = 0
        for first in range(0, count, SITTING):
            found = await _sit(kind, min(SITTING, count - first), seed + first, path)
            unanswered += len(found.unanswered)
            if found.lost:
                return True
        if kind in ("kills", "points") and not unanswered:
            click.echo(f"{kind}: no grant was committed and unanswered: the run proves nothing")
            failed = True
    return failed


async def _sit(kind: str, count: int, seed: int, path: Path) -> Sitting:
    tried = results.commit()
    with tempfile.TemporaryDirectory(prefix="f-") as folder:
        found = await KINDS[kind](Path(folder), count, seed)
    click.echo(f"{kind}, seed {seed}: {found}")
    for line in found.lost:
        click.echo(f"lost: {line}")
    hits = {f"{kind}: {where}": {"hits": hits} for where, hits in found.kills.items()}
    total = {
        "count": found.kills.total(),
        "lost": len(found.lost),
        "unanswered": len(found.unanswered),
        "events": found.events,
        "resumed": len(found.resumed),
        "seconds": sum(found.resumed),
        **{name: found.told[name] for name in _COUNTED},
    }
    longest = {kind: {"longest": max(found.resumed, default=0.0)}}
    command = f"python -m tests.faults --kind {kind} --count {count}"
    await asyncio.to_thread(_add, path, {kind: total, **hits}, longest, (command, seed, tried))
    return found


def _add(path: Path, counts: Counts, longest: Counts, how: tuple[str, int, str]) -> None:
    """Add to the file; several kinds may be tried at once."""
    command, seed, tried = how
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        results.add(path, counts, command=command, seed=seed, tried=tried, peaks=longest)
    finally:
        os.close(folder)


def told(path: Path) -> str:
    """Return what the file has counted, for the page."""
    held: dict[str, Any] = results.read(path)
    rows, where = [], []
    for name, total in sorted(held["totals"].items()):
        if "hits" in total:
            where.append((name.partition(": ")[2], f"{total['hits']:.0f}"))
            continue
        mean = total["seconds"] / max(total["resumed"], 1)
        numbers = [total["count"], total["unanswered"], sum(total[each] for each in _COUNTED), total["events"]]
        rows.append([name, *(f"{number:,.0f}" for number in numbers), f"{mean:.1f}", f"{total['longest']:.1f}"])
        rows[-1].append(f"**{total['lost']:.0f}**")
    header = [
        "fault",
        "times",
        "committed and unanswered",
        "acknowledged",
        "events",
        "s to serve, mean",
        "most",
        "lost",
    ]
    last = held["sittings"][-1]
    text = results.table(header, rows) + "\nWhere they hit:\n\n" + results.table(["place", "times"], where)
    return (
        f"{text}\n{len(held['sittings'])} sittings; the last: `{last['command']}`, seed {last['seed']}, commit "
        f"`{last['commit']}`, {last['machine']}.\n"
    )


if __name__ == "__main__":
    faults()
