"""Two throw-away users, by number, and a place that they can reach. Only root can be them: CI is."""

import os
from collections.abc import Iterator

import pytest

from tests.users.place import Place, TwoUsers, make_place

# What everybody else gets, a refusal, is in test_refused.py, which runs as anybody.
collect_ignore = [] if os.geteuid() == 0 else ["test_doctor.py", "test_on_spire.py", "test_serve.py"]


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    """Return an interpreter, its libraries and the broker's code where every user can read them."""
    with make_place() as made:
        yield made


@pytest.fixture
def two(place: Place) -> Iterator[TwoUsers]:
    """Return a healthy set-up for two users; its broker runs only where a test starts it."""
    with place.set_up() as made:
        yield made
