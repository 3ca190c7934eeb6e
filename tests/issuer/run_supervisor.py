"""Runs the supervisor with stand-in halves: run_supervisor.py REPORTS ISSUER-BEHAVIOUR DOOR-BEHAVIOUR."""

import sys
from pathlib import Path

from broker.supervisor import supervise

HALF = str(Path(__file__).with_name("half.py"))


def main() -> int:
    """Supervise."""
    reports, issuer, door = sys.argv[1:]
    behaviours = {"issuer": issuer, "door": door}

    def argv_for(role: str) -> list[str]:
        if behaviours[role] == "missing":
            return ["/nonexistent/broker"]
        return [sys.executable, HALF, role, reports, behaviours[role]]

    assert "grpc" not in sys.modules
    # A half that does not end is killed when nobody wants to wait, and not by itself: no test has to be quicker.
    sys.modules["broker.supervisor.supervise"].STOP_WITHIN = 3600.0  # type: ignore[attr-defined]
    return supervise(Path("/tmp/x.toml"), argv_for=argv_for)  # noqa: S108 -- a name, never opened


if __name__ == "__main__":
    sys.exit(main())
