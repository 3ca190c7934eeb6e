"""Never wider than asked, than allowed, or than what came before (threats.md A2): a random walk through a real issuer.

Every credential that it gives is held against a model written by hand (`model.py`).
"""

import asyncio

import pytest

from tests.properties.machine import TIMEOUT, tell, walk
from tests.properties.walk import Stage, Walk


@pytest.mark.timeout(TIMEOUT)
def test_never_wider_than_asked_than_allowed_or_than_what_came_before() -> None:
    with asyncio.Runner() as runner:
        stage = Stage(runner=runner)
        Walk.stage = stage
        walk(Walk, walks=21, length=100, usual=120)
    counts = stage.counts
    tell("never wider", counts, "given", "given again", "begun", "narrowed")
    assert counts["given"] > counts["steps"] / 50, "a broker that gives nothing is never wider either"
    assert counts["narrowed"] > counts["steps"] / 400
