"""Plans: who the compiled subscribers are, and how they behave."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.attacks.house import House
from tests.load.running import write_identity
from tests.operations.world import BROKER
from tests.streams.truth import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How subscribers behave.

    Attributes:
        breaks: how likely one breaks off after a message.
        stalls: how likely one stops reading for a while after a message.
        held: how many of each view of the log read their first message, and then nothing before they are told to.

    """

    breaks: float = 0.0
    stalls: float = 0.0
    held: int = 0


def planned(
    house: House, counts: Mapping[View, int], habits: Habits, dice: random.Random
) -> Iterator[tuple[View, dict[str, Any]]]:
    """Yield the lines of a plan, each with what it follows; the identities are written beside it."""
    number = 0
    for view, count in counts.items():
        svid = house.svid(view.reader, ttl=timedelta(hours=12))
        identity = write_identity(house.folder, view.reader.rpartition("/")[2], svid, house.home)
        for nth in range(count):
            yield view, {
                "name": f"go-{number}", "address": f"127.0.0.1:{house.door.port}", "broker": BROKER,
                "identity": str(identity), "stream": view.stream, "kinds": view.kinds, "tenant": view.tenant,
                "seed": dice.randrange(1 << 32), "breaks": habits.breaks, "stalls": habits.stalls,
                "held": view.stream == "audit" and nth < habits.held,
            }  # fmt: skip
            number += 1
