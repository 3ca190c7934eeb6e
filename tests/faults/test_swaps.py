"""Bundles come and go under load, half of them bad, and keys change: every decision is by one good bundle."""

import os
import random
from pathlib import Path

import pytest

from tests.faults.swaps import swaps

SEED = int(os.environ.get("FAULTS_SEED", "0")) or random.randrange(1, 1_000_000)  # noqa: S311
SWAPS = 20  # fifty and more: python -m tests.faults --kind swaps


@pytest.mark.timeout(600)
async def test_no_decision_names_a_bad_bundle(tmp_path: Path) -> None:
    found = await swaps(tmp_path, SWAPS, SEED)
    print(f"FAULTS_SEED={SEED}: {found}")  # noqa: T201 -- what repeats the run
    assert found.lost == []
    assert found.kills == {"a good bundle": SWAPS // 2, "a bad bundle": SWAPS // 2}
