"""The embedded engine: SQLite, one process, one writer."""

from broker.store.sqlite.offline import OfflineLog
from broker.store.sqlite.store import SqliteStore

__all__ = ["OfflineLog", "SqliteStore"]
