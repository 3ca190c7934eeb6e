"""`make fuzz`: every target for some seconds, two at a time, each in a process of its own.

Exit status: 0 nothing was found; 1 something was, its input and what it raised are printed.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

import click

from tests import results
from tests.fuzz.targets import TARGETS, read_corpus, target, write_corpus

RESULTS = Path(__file__).with_name("results.json")
PAGE = results.ROOT / "docs" / "reliability.md"
KEPT = 120
KEPT_BYTES = 1024


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One target's run."""

    executions: int
    finds: tuple[bytes, ...]
    status: int
    said: str
    grown: tuple[bytes, ...]


@click.command
@click.option("--seconds", type=click.IntRange(1), default=20, show_default=True, help="Of each target.")
@click.option("--seed", type=int, default=None, help="Repeat an earlier run's choices.")
@click.option("--at-once", type=click.IntRange(1), default=2, show_default=True)
@click.option("--record", is_flag=True, help=f"Add what was counted to {RESULTS.name} and to docs/reliability.md.")
@click.option("--keep", is_flag=True, help="Keep in tests/fuzz/corpora what reaches new code.")
@click.argument("names", nargs=-1, type=click.Choice(sorted(TARGETS)))
def fuzz(*, seconds: int, seed: int | None, at_once: int, record: bool, keep: bool, names: tuple[str, ...]) -> None:
    """Fuzz the parsers that strangers' bytes reach; all of them when none is named."""
    seed = seed or SystemRandom().randrange(1, 2**31)
    tried = results.commit()
    chosen = names or tuple(sorted(TARGETS))
    click.echo(f"fuzz: seed {seed}, {seconds} s each")
    with ThreadPoolExecutor(at_once) as pool:
        ran = dict(zip(chosen, pool.map(lambda name: _run(name, seconds, seed), chosen), strict=True))
    for name, each in ran.items():
        click.echo(f"{name:12} {each.executions:>10} executions   {'found something' if each.status else 'ok'}")
        if each.status:
            click.echo(each.said)
            for data in each.finds:
                click.echo(f"input: {data!r}")
        elif keep:
            write_corpus(name, _chosen(name, each.grown))
    if record:
        _record(ran, seconds, seed, tried)
    sys.exit(any(each.status for each in ran.values()))


def _run(name: str, seconds: int, seed: int) -> Ran:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        corpus, finds = Path(directory) / "corpus", Path(directory) / "finds"
        corpus.mkdir()
        finds.mkdir()
        for data in {*read_corpus(name), *target(name).seeds}:
            (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        command = [sys.executable, "-m", "tests.fuzz.inner", name, str(seconds), str(seed), str(corpus), str(finds)]
        # Twice the time and some: a process that does not even end by itself is a find too.
        done = subprocess.run(
            command,
            cwd=results.ROOT,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds * 2 + 120,
            check=False,
        )
        counted = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
        return Ran(
            executions=int(counted[1]) if counted else 0,
            finds=tuple(path.read_bytes() for path in sorted(finds.iterdir())),
            status=done.returncode or int(counted is None),
            said=(done.stdout + done.stderr)[-4000:],
            grown=tuple(path.read_bytes() for path in corpus.iterdir()),
        )


def _chosen(name: str, grown: tuple[bytes, ...]) -> set[bytes]:
    """Of what libFuzzer kept because it reached something new, the shortest."""
    new = sorted({data for data in grown if 0 < len(data) <= KEPT_BYTES} - set(target(name).seeds), key=len)
    return set(new[:KEPT])


def _record(ran: Mapping[str, Ran], seconds: int, seed: int, tried: str) -> None:
    counts = {
        name: {"executions": each.executions, "seconds": seconds, "finds": int(bool(each.status))}
        for name, each in ran.items()
    }
    held = results.add(RESULTS, counts, command=f"make fuzz-full SECONDS={seconds}", seed=seed, tried=tried)
    rows = [
        [name, f"{total['executions']:,.0f}", f"{total['seconds'] / 60:.1f}", f"{total['finds']:.0f}"]
        for name, total in sorted(held["totals"].items())
    ]
    last = held["sittings"][-1]
    text = results.table(["target", "executions", "minutes", "found"], rows)
    text += f"\nSittings: {len(held['sittings'])}; the last: `{last['command']}`, seed {last['seed']}, commit "
    results.put(PAGE, "fuzz", f"{text}`{last['commit']}`, {last['machine']}.\n")


if __name__ == "__main__":
    fuzz()
