"""Measures: everything that was timed in one run, a sample a round, by name."""

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median

UNITS = {
    "rate": "exchanges/s",
    "cpu": "us of server CPU an exchange",
    "client": "cores that the client took",
    "wait": "ms for one exchange alone",
    "flush": "ms for one fdatasync",
    "floor": "us of CPU, alone",
    "check": "us of CPU a check, alone",
    "act": "ms of one act, as its service's guard judges it; of one exchange alone beside it",
    "revoke": "ms from the call to the first refusal",
}


@dataclass(frozen=True, slots=True)
class Measures:
    """Samples by name; what stands before the first dot gives the unit. One index is one round."""

    samples: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, value: float) -> None:
        """Keep one sample."""
        self.samples[name].append(value)

    def middle(self, name: str) -> float:
        """Return the median."""
        return median(self.samples[name])

    def to_json(self) -> dict[str, object]:
        """Return all of it."""
        return {
            name: {"unit": UNITS[name.partition(".")[0]], "median": median(values), "samples": list(values)}
            for name, values in self.samples.items()
        }
