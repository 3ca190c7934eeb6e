"""The long run: one campaign after another, each with its seed, and a results file that goes on over several sittings.

python -m tests.streams [--minutes 10] [--seconds 60] [--seed N] [--results build/streams.jsonl]
"""

import argparse
import asyncio
import json
import logging
import platform
import secrets
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from tests.load.build import build
from tests.operations.world import ROOT
from tests.streams.campaign import Outcome, campaign, told


def main() -> int:
    """Run; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.streams", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, help="begin no further campaign after so long")
    parser.add_argument("--seconds", type=float, default=60, help="of each campaign")
    parser.add_argument("--seed", type=int, help="of the first campaign; the next ones count from it")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "streams.jsonl", help="what is added to")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    seed = secrets.randbelow(1_000_000) if asked.seed is None else asked.seed
    asked.results.parent.mkdir(parents=True, exist_ok=True)
    under = {"commit": commit(), "processor": processor(), "kernel": platform.release()}
    over = time.monotonic() + 60 * asked.minutes
    broken = False
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        program = build(Path(folder) / "checkout", aside=nullcontext)
        while True:
            outcome = asyncio.run(campaign(program, seed=seed, seconds=asked.seconds))
            broken |= bool(outcome.violations)
            with asked.results.open("a") as results:
                results.write(json.dumps(line(outcome, asked.seconds) | under) + "\n")
            say(f"seed {outcome.seed}: {outcome.counts}")
            if outcome.violations:
                say(told(outcome.violations))
            seed += 1
            if time.monotonic() >= over:
                break
    say(summary(asked.results))
    return int(broken)


def line(outcome: Outcome, seconds: float) -> dict[str, Any]:
    """Return what is kept of one campaign."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": outcome.seed,
        "seconds": seconds,
        "violations": len(outcome.violations),
        **outcome.counts,
    }


def summary(results: Path) -> str:
    """Add up all lines of a results file."""
    lines = [json.loads(each) for each in results.read_text().splitlines()]
    names = ("positions", "told", "messages", "opened", "lives", "broken", "stalled", "restarts", "violations")
    sums = {name: sum(each[name] for each in lines) for name in names}
    return f"{results}: {len(lines)} campaigns, " + ", ".join(f"{value:,} {name}" for name, value in sums.items())


def commit() -> str:
    """Return the commit, with a mark when the checkout differs from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def processor() -> str:
    """Return the processor's name and how many there are."""
    text = Path("/proc/cpuinfo").read_text()
    names = [each.partition(":")[2].strip() for each in text.splitlines() if each.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
