"""The main job of the broker, on a real SPIRE server and agent: `make demo`.

Each step says what was asked, what was decided by what, and what came back, and fails when it is not so. Exit status: 0
each step did what it says; 1 one did not, or something is missing; 130 interrupted.
"""

import sys
import time

import access
import aftermath
import opening
from narrator import Mismatch, Narrator
from stage import Stage, opened

from deploy.progress import duration, say
from deploy.spire.errors import DeployError
from deploy.spire.interrupts import Interrupted, Interrupts


def story(narrator: Narrator, stage: Stage) -> None:
    """Tell it from the beginning to the end.

    Raises:
        Mismatch: a step did not do what it says.
        DeployError: something is missing, or a process failed.

    """
    opening.spire_comes_up(narrator, stage)
    opening.broker_comes_up(narrator, stage)
    opening.agents_have_svids(narrator, stage)
    credential = access.permitted(narrator, stage)
    access.accepted(narrator, stage, credential)
    access.stolen(narrator, stage, credential)
    access.forbidden(narrator, stage)
    access.not_permitted(narrator, stage)
    access.revoked(narrator, stage, credential)
    aftermath.audited(narrator, stage)
    aftermath.before_and_after(narrator, stage)
    aftermath.stopped(narrator, stage)


def main() -> int:
    """Tell the story, and say how it ended."""
    begun = time.monotonic()
    narrator = Narrator()
    narrator.title(
        "A credential for one action, for minutes, bound to one agent",
        "A support assistant looks up an order. SPIRE, the broker, two agents, an orders service and a security desk "
        "run on this machine.",
    )
    try:
        with Interrupts() as interrupts, opened(interrupts) as stage:
            story(narrator, stage)
    except Mismatch as problem:
        say(f"\nThis did not happen: {problem}.")
        return 1
    except DeployError as problem:
        say(f"\nerror: {problem}")
        return 1
    except (KeyboardInterrupt, Interrupted) as interruption:
        say("\nInterrupted; everything that was started is stopped.")
        return getattr(interruption, "code", None) or 130
    narrator.end(f"All {narrator.step} steps did what they say. {duration(time.monotonic() - begun)} in all.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
