"""Durations as people write them on a command line."""

import re
from datetime import timedelta
from typing import Any, Final

import click

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FORM: Final = re.compile(r"([0-9]{1,6})([smhd])")


class Duration(click.ParamType[timedelta]):
    """A whole number and a unit, such as 90s, 15m, 2h or 1d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:  # noqa: ANN401  # click's signature
        """Return the duration, or end with what it should look like."""
        if isinstance(value, timedelta):
            return value
        found = _FORM.fullmatch(str(value))
        if found is None or not int(found[1]):
            self.fail("a whole number and a unit, such as 90s, 15m, 2h or 1d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})
