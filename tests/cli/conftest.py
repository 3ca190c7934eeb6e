"""Fixtures of the tests of whole commands."""

import os
from collections.abc import Iterator

import pytest

from tests.cli.setups import House, build


@pytest.fixture
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    built = build(tmp_path_factory.mktemp("h"))
    yield built
    for each in built.kept:
        if hasattr(each, "terminate"):
            each.terminate()
            each.wait(30)
            each.stdout.close()
        elif isinstance(each, int):
            os.close(each)
        else:
            each.close()
    built.spire.stop()
