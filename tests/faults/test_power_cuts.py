"""The power goes while the broker works: what was acknowledged is on the disk; a store that does not wait loses it."""

import os
import random
from pathlib import Path

import pytest

from tests.faults.cuts import power_cuts
from tests.faults.disks import why_no_loops

SEED = int(os.environ.get("FAULTS_SEED", "0")) or random.randrange(1, 1_000_000)  # noqa: S311
CUTS = 10

pytestmark = [pytest.mark.skipif(bool(why_no_loops()), reason=why_no_loops()), pytest.mark.timeout(600)]


async def test_nothing_acknowledged_is_lost_and_the_broker_goes_on(tmp_path: Path) -> None:
    found = await power_cuts(tmp_path, CUTS, SEED)
    print(f"FAULTS_SEED={SEED}: {found}")  # noqa: T201 -- what repeats the run
    assert found.lost == []
    assert found.kills.total() == CUTS
    assert all(found.told.values())


async def test_a_store_that_does_not_wait_for_its_disk_is_found_out(tmp_path: Path) -> None:
    found = await power_cuts(tmp_path, CUTS, SEED, careless=True)
    assert found.lost
