"""Durations as a bundle writes them: ISO 8601, in hours, minutes and seconds."""

import re
from datetime import timedelta
from typing import Final

MAXIMUM: Final = timedelta(hours=24)
_DURATION: Final = re.compile(r"PT(?:(\d{1,3})H)?(?:(\d{1,4})M)?(?:(\d{1,5})S)?")


def duration_from(text: str) -> timedelta | None:
    """Return a duration of more than nothing; None for what is none."""
    parts = _DURATION.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0)
    found = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return found if found > timedelta(0) else None
