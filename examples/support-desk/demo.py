"""The main job of the broker, on a real SPIRE server and agent: `make demo`.

Each step says what was asked, what was decided by what, and what came back, and fails when it is not so. Exit status: 0
each step did what it says; 1 one did not, or something is missing; 128 and the signal's number: interrupted.
"""

import sys
import time

from deploy.progress import say
from deploy.spire.interrupts import Interrupted, Interrupts


def main() -> int:
    """Tell the story, and say how it ended."""
    begun = time.monotonic()
    try:
        with Interrupts() as interrupts:
            from story import run  # noqa: PLC0415  # within, so that an interruption while modules load ends in order

            return run(interrupts, lambda: time.monotonic() - begun)
    except KeyboardInterrupt:
        status = 130
    except Interrupted as interruption:
        status = 128 + interruption.number
    say("\nInterrupted. Everything that was started is stopped.")
    return status


if __name__ == "__main__":
    sys.exit(main())
