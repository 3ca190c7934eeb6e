"""SIGKILL under load, at random instants and at named points: the size of CI. `python -m tests.faults` counts on.

FAULTS_SEED repeats a run's choices.
"""

import os
import random

import pytest

from tests.faults.kills import PLACES, Sitting, at_points, at_random

SEED = int(os.environ.get("FAULTS_SEED", "0")) or random.randrange(1, 1_000_000)  # noqa: S311
KILLS = 15
POINTS = 15


def show(found: Sitting) -> None:
    print(f"FAULTS_SEED={SEED}: {found}")  # noqa: T201 -- what repeats the run
    for where, count in sorted(found.kills.items()):
        print(f"{count:4} {where}")  # noqa: T201


@pytest.mark.timeout(600)
async def test_no_kill_at_any_instant_parts_a_credential_from_its_event(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    found = await at_random(tmp_path_factory.mktemp("b"), KILLS, SEED)
    # Rather more kills than a run that hits nothing.
    if not found.unanswered and not found.lost:
        found = await at_random(tmp_path_factory.mktemp("b"), 2 * KILLS, SEED + 1)
    show(found)
    assert found.lost == []
    assert found.unanswered, "no grant was committed and unanswered: the run proves nothing"
    assert all(found.told.values()), "something was never acknowledged: the run proves nothing about it"


@pytest.mark.timeout(600)
async def test_no_kill_at_a_named_point_under_load_does_either(tmp_path_factory: pytest.TempPathFactory) -> None:
    places = random.Random(SEED).sample(PLACES, POINTS)  # noqa: S311
    # Whatever is chosen, a grant is committed and unanswered once.
    places[0] = next(place for place in PLACES if place[1] == "exchange" and place[0].name == "AFTER_COMMIT")
    found = await at_points(tmp_path_factory.mktemp("b"), places, SEED)
    show(found)
    assert found.lost == []
    assert found.kills.total() == POINTS
    assert found.unanswered, "no grant was committed and unanswered: the run proves nothing"
