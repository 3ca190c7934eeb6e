"""Durations on a command line."""

from datetime import timedelta

import click
import pytest

from broker.cli.duration import Duration

GOOD = {
    "90s": timedelta(seconds=90),
    "15m": timedelta(minutes=15),
    "2h": timedelta(hours=2),
    "1d": timedelta(days=1),
}
BAD = ["", "0s", "15", "m", "-1m", "1.5h", "1w", "15 m", "1h30m", "٣m", "9999999d", "PT5M"]


@pytest.mark.parametrize(("text", "expected"), GOOD.items())
def test_a_number_and_a_unit(text: str, expected: timedelta) -> None:
    assert Duration().convert(text, None, None) == expected


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_wrong_usage(text: str) -> None:
    with pytest.raises(click.BadParameter, match="such as 90s"):
        Duration().convert(text, None, None)
