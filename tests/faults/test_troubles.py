"""A full disk, failing writes and flushes, a hung issuer: nothing is given unrecorded, and service resumes alone."""

import os
import random
from pathlib import Path

import pytest

from tests.faults.disks import why_no_mounts
from tests.faults.troubles import TROUBLES, troubles, why_no_shim

SEED = int(os.environ.get("FAULTS_SEED", "0")) or random.randrange(1, 1_000_000)  # noqa: S311
WHY = why_no_mounts() or why_no_shim()


@pytest.mark.skipif(bool(WHY), reason=WHY)
@pytest.mark.timeout(600)
async def test_each_trouble_passes_and_nothing_is_lost_of_it(tmp_path: Path) -> None:
    found = await troubles(tmp_path, len(TROUBLES), SEED)
    print(f"FAULTS_SEED={SEED}: {found}; {[f'{each:.1f}' for each in found.resumed]}")  # noqa: T201
    assert found.lost == []
    assert set(found.kills) == set(TROUBLES)
