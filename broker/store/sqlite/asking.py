"""Asking: what every part of the store that reads has in common."""

import sqlite3
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from broker.store.sqlite.session import Session

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Asking:
    """Asks the one connection, and fails closed."""

    _session: Session

    def _ask(
        self,
        question: Callable[Concatenate[sqlite3.Connection, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        with self._session.failing_closed() as connection:
            return question(connection, *args, **kwargs)
