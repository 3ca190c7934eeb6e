"""History: what each agent was given and refused of late, as this process saw it; for people who decide."""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

KEPT: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
MAX_AGENTS: Final = 10_000


@dataclass(slots=True)
class _Hour:
    began: datetime
    granted: int = 0
    refused: int = 0


@dataclass(slots=True, kw_only=True)
class RecentActs:
    """Counts by agent and hour, for a day; bounded: of too many agents the one that was heard of least lately goes.

    Attributes:
        since: when this process began to count.

    """

    since: datetime
    _agents: OrderedDict[str, list[_Hour]] = field(default_factory=OrderedDict)

    def note(self, agent: str, now: datetime, *, granted: bool) -> None:
        """Count one act."""
        hours = self._agents.setdefault(agent, [])
        self._agents.move_to_end(agent)
        if len(self._agents) > MAX_AGENTS:
            self._agents.popitem(last=False)
        if not hours or now - hours[-1].began >= HOUR:
            hours.append(_Hour(now))
            del hours[: -(KEPT // HOUR)]
        if granted:
            hours[-1].granted += 1
        else:
            hours[-1].refused += 1

    def of(self, agent: str, now: datetime) -> tuple[datetime, int, int]:
        """Return since when was counted, how much an agent was given, and how much it was refused."""
        since = max(self.since, now - KEPT)
        hours = [hour for hour in self._agents.get(agent, ()) if hour.began >= since]
        return since, sum(hour.granted for hour in hours), sum(hour.refused for hour in hours)
