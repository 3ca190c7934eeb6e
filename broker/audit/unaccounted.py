"""Unaccounted: uses of credentials of which their service has not said what came of them."""

from dataclasses import dataclass
from typing import Any

from broker.audit.shown import Shown

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unaccounted:
    """A use without an outcome, or with one that says nothing; or a credential that was spent without a use.

    Attributes:
        position: of the event that the credential was accepted by.
        at: when that was, by the service's clock (of what was spent, the broker's), in microseconds since 1970.
        use: its id; empty when the service spent the credential, and has not said that it accepted it.
        said: "" when nothing was said, "unknown" when the service cannot tell.

    """

    position: int
    at: int
    service: str
    use: str
    credential: str
    task: str
    agent: str
    said: str

    def to_json(self) -> dict[str, Any]:
        """Return its members."""
        return {name: getattr(self, name) for name in self.__slots__}


class Accounting:
    """Keeps what is still open; sees the log from its beginning, in order."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], tuple[Shown, str]] = {}
        self._spent: dict[tuple[str, str], Shown] = {}
        self.dropped: dict[str, int] = {}

    def see(self, event: Shown) -> None:
        """Take the next event in."""
        members = event.members
        service = str(members.get("spiffe_id", ""))
        match event.type:
            case "credential.redeemed":
                self._spent[service, members["credential"]] = event
            case "usage.accepted":
                self._spent.pop((service, members["credential"]), None)
                self._open[service, members["use"]] = event, ""
            case "outcome.reported":
                key = service, members["use"]
                if members["outcome"] != UNKNOWN:
                    self._open.pop(key, None)
                elif key in self._open:
                    self._open[key] = self._open[key][0], UNKNOWN
            case "reports.dropped":
                self.dropped[service] = self.dropped.get(service, 0) + members["count"]
            case _:
                pass

    def open(self) -> list[Unaccounted]:
        """Return what is open, by service, the oldest first."""
        found = [_unaccounted(event, service, said) for (service, _), (event, said) in self._open.items()]
        found += [_unaccounted(event, service, "") for (service, _), event in self._spent.items()]
        return sorted(found, key=lambda each: (each.service, each.at))


def _unaccounted(event: Shown, service: str, said: str) -> Unaccounted:
    members = event.members
    return Unaccounted(
        position=event.position,
        at=event.time_of("used_at" if "used_at" in members else "at"),
        service=service,
        use=members.get("use", ""),
        credential=members["credential"],
        task=members.get("task", ""),
        agent=members.get("agent", ""),
        said=said,
    )
