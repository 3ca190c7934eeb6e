"""The broker with its audit off: `broker serve`, but its issuer has a store that writes no grant and no event of one.

It exists for the comparison alone, and only here: the broker itself has no such setting.
`python -m tests.bench.forgetful serve --config FILE`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from broker.store.interface import AddGrant, Answer, Committed, Item
from broker.store.sqlite import SqliteStore


class ForgetfulStore(SqliteStore):
    """Says that grants are committed and does nothing; everything else is the real store's."""

    def commit(self, items: Sequence[Item]) -> Sequence[Answer]:
        if all(item.writes and all(isinstance(write, AddGrant) for write in item.writes) for item in items):
            return [Committed(position=None, revoked=()) for _ in items]
        return super().commit(items)


def start_halves_by_this_module() -> None:
    """Have the supervisor start the two halves by this module."""
    from broker.cli import serve  # noqa: PLC0415
    from broker.supervisor import supervise  # noqa: PLC0415

    original = supervise

    def ours(config_path: Path | None, **_: object) -> int:
        argv = [sys.executable, "-m", "tests.bench.forgetful"]
        return original(config_path, argv_for=lambda role: [*argv, f"_{role}"])

    serve.supervise = ours  # type: ignore[attr-defined]


def main() -> None:
    """Run one of the broker's commands."""
    if sys.argv[1] == "_issuer":
        from broker.app import issuer  # noqa: PLC0415 -- the supervisor must not import grpc

        issuer.SqliteStore = ForgetfulStore  # type: ignore[attr-defined]
    else:
        start_halves_by_this_module()
    from broker.cli import broker  # noqa: PLC0415

    broker.main(prog_name="broker")


if __name__ == "__main__":
    main()
