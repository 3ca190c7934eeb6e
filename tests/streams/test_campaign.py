"""Two hundred subscribers before the real broker, cut off, stalled and restarted under: every promise is kept.

STREAMS_SECONDS sets for how long things happen, STREAMS_SEED repeats a run's choices. `python -m tests.streams` runs
one campaign after another for as long as it is told to.
"""

import os
import secrets
from pathlib import Path

import pytest

from tests.streams.campaign import COMPILED, OF_THE_SDK, campaign, told

SECONDS = float(os.environ.get("STREAMS_SECONDS", "12"))
SEED = int(os.environ.get("STREAMS_SEED", "0")) or secrets.randbelow(1_000_000)


@pytest.mark.timeout(900 + 2 * SECONDS)  # a build with cold caches is part of it
async def test_two_hundred_subscribers_are_told_everything_once_in_order(load_program: Path) -> None:
    print(f"STREAMS_SEED={SEED}")  # noqa: T201 -- what repeats the run
    outcome = await campaign(load_program, seed=SEED, seconds=SECONDS)
    print(outcome.counts)  # noqa: T201
    assert not outcome.violations, told(outcome.violations)
    counts = outcome.counts
    assert counts["subscribers"] == sum(COMPILED.values()) + len(OF_THE_SDK) == 200
    # The run was what it says.
    assert counts["restarts"] >= 1
    assert counts["opened"] >= 2 * sum(COMPILED.values())  # each was there before and after
    assert counts["lives"] >= 2 * len(OF_THE_SDK)
    assert min(counts[each] for each in ("broken", "stalled", "granted", "revoked", "tasks_ended")) > 0
