"""Never wider than asked, than allowed, or than what came before (threats.md A2): a random walk through a real issuer.

Every credential that it gives is held against a model written by hand (`model.py`). NEVER_WIDER_STEPS=100000 walks that
far, NEVER_WIDER_RECORD=1 adds what was counted to results.json and docs/reliability.md.
"""

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests import results
from tests.properties.walk import Stage, Walk

STEPS = int(os.environ.get("NEVER_WIDER_STEPS", "1500"))
A_WALK = 100
STEPS_A_WALK = 70  # on average, measured: a rule may ask several things, and many walks end earlier


@pytest.mark.timeout(0 if STEPS > 10_000 else 300)
def test_never_wider_than_asked_than_allowed_or_than_what_came_before() -> None:
    chosen = settings(
        max_examples=max(1, STEPS // STEPS_A_WALK),
        stateful_step_count=A_WALK,
        deadline=None,
        derandomize=STEPS <= 10_000,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    with asyncio.Runner() as runner:
        stage = Stage(runner=runner)
        Walk.stage = stage
        run_state_machine_as_test(Walk, settings=chosen)
    counts = stage.counts
    print(dict(counts))  # noqa: T201 - how far it went
    assert counts["given"] > counts["steps"] / 50, "a broker that gives nothing is never wider either"
    assert counts["narrowed"] > counts["steps"] / 400
    if os.environ.get("NEVER_WIDER_RECORD"):
        _record(counts)


def _record(counts: Counter[str]) -> None:
    kept = {name: counts[name] for name in ("steps", "given", "given again", "begun", "narrowed")}
    command = f"NEVER_WIDER_STEPS={STEPS} pytest tests/properties"
    held = results.add(
        Path(__file__).with_name("results.json"), {"never wider": kept}, command=command, seed=0, tried=results.commit()
    )
    rows = [[f"{held['totals']['never wider'][name]:,.0f}" for name in kept]]
    last = held["sittings"][-1]
    text = results.table(["steps", "credentials given", "given again", "tasks begun", "tasks narrowed"], rows)
    text += f"\nThe last sitting: `{last['command']}`, commit `{last['commit']}`, {last['machine']}.\n"
    results.put(results.ROOT / "docs" / "reliability.md", "never-wider", text)
