"""State machines on a real issuer, with its store on disk; how far they walk, and what long walks have counted.

PROPERTY_STEPS=100000 lets each machine go about that far, with choices of its own each time, or those of PROPERTY_SEED;
PROPERTY_RECORD=1 adds what it did to results.json and to the table of docs/reliability.md.
"""

import asyncio
import os
import secrets
import tempfile
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, run_state_machine_as_test

from broker.errors import Reason, Refusal
from tests import results
from tests.operations.world import World, open_world

STEPS: Final = int(os.environ.get("PROPERTY_STEPS", "0"))
# Of a long walk: what it chose by.
SEED: Final = int(os.environ.get("PROPERTY_SEED") or secrets.randbelow(2**31))
# Steps between two starts of an issuer, which cost as much as fifty steps.
A_WHILE: Final = 15
TIMEOUT: Final = 0 if STEPS else 300
RESULTS: Final = Path(__file__).with_name("results.json")
PAGE: Final = results.ROOT / "docs" / "reliability.md"
Answer = TypeVar("Answer")


class Machine(RuleBasedStateMachine):
    """A walk through an issuer of its own, that may start again on the way."""

    counts: ClassVar[Counter[str]]
    world: World
    since_start: int

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self._folder = tempfile.TemporaryDirectory(prefix="machine-")
        self.folder = Path(self._folder.name)
        self.stack = AsyncExitStack()

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.loop.run_until_complete(work)

    def told(self, work: Coroutine[Any, Any, Any]) -> Reason | None:
        """Return what a call is refused with; None when it is served."""
        try:
            self.run(work)
        except Refusal as refusal:
            return refusal.reason
        return None

    def open(self) -> None:
        """Start the issuer, on what the folder holds."""
        self.since_start = 0
        self.world = self.run(self.stack.enter_async_context(open_world(self.folder)))

    def reopen(self) -> None:
        """Start it again: everybody else is who they were, and the clock goes on."""
        before = self.world
        self.run(self.stack.aclose())
        self.open()
        self.world.domains, self.world.trusted = before.domains, before.trusted
        self.world.time.ahead = before.time.ahead
        self.world._evidence = before._evidence

    def teardown(self) -> None:
        """Leave nothing."""
        self.run(self.stack.aclose())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        self._folder.cleanup()

    @invariant()
    def each_step_counts(self) -> None:
        self.counts["steps"] += 1
        self.since_start += 1


def walk(machine: type[RuleBasedStateMachine], *, walks: int, length: int, usual: int) -> None:
    """Walk a machine: so many walks, or as many as PROPERTY_STEPS needs.

    Args:
        machine: what walks.
        walks: how often, where nothing else is asked.
        length: of a walk at the most, in steps.
        usual: of a walk as measured, in steps; many end earlier than they may.

    """
    chosen = settings(
        max_examples=max(1, STEPS // usual) if STEPS else walks,
        stateful_step_count=length,
        deadline=None,
        derandomize=not STEPS,
        database=None,
        # Shrinking would open hundreds of issuers.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(SEED)(machine) if STEPS else machine, settings=chosen)


def tell(name: str, counts: Counter[str], *kept: str) -> None:
    """Say what a machine did; where it is wanted, add it to what was done before."""
    print(name, dict(counts), f"PROPERTY_SEED={SEED}" if STEPS else "")  # noqa: T201 - how far it went
    if not os.environ.get("PROPERTY_RECORD"):
        return
    command = f"PROPERTY_STEPS={STEPS} pytest tests/properties"
    sitting = {name: {each: counts[each] for each in ("steps", *kept)}}
    held = results.add(RESULTS, sitting, command=command, seed=SEED, tried=results.commit())
    rows = [
        [what, f"{total['steps']:,.0f}", ", ".join(f"{total[each]:,.0f} {each}" for each in total if each != "steps")]
        for what, total in held["totals"].items()
    ]
    last = held["sittings"][-1]
    text = results.table(["machine", "steps", "of which"], rows)
    text += (
        f"\nThe last sitting: `{last['command']}`, seed {last['seed']}, commit `{last['commit']}`, {last['machine']}.\n"
    )
    results.put(PAGE, "machines", text)
