"""The writer's connection to SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from broker.settings import Settings
from broker.store.sqlite.file import Identity, SQLiteOutage, roll_back
from broker.store.sqlite.tables import SQLiteTables
from broker.store.transaction import Transaction

_T = TypeVar("_T")


class SQLiteSession:
    """See ``writer.Session``."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        identity: Identity,
        outage: SQLiteOutage,
        clock: Callable[[], int],
        settings: Settings,
    ) -> None:
        self._connection = connection
        self._identity = identity
        self._outage = outage
        self._clock = clock  # microseconds since the epoch
        self._settings = settings
        # It does not change while this process has the folder's lock: only a restore or an import begins another one.
        (self._epoch,) = connection.execute("SELECT epoch FROM epochs WHERE ended IS NULL").fetchone()

    def run(self, work: Callable[[Transaction], _T]) -> _T:
        connection = self._connection
        try:
            self._outage.check()
            connection.execute("BEGIN IMMEDIATE")
            # The clock is read under the lock: a time read before might order this transaction before another's.
            result = work(Transaction(SQLiteTables(connection), self._clock(), self._settings, self._epoch))
            self._identity.check()
            connection.execute("COMMIT")
        except Exception as error:  # whatever it is, the callers must hear of it and the writer must live on
            roll_back(connection)
            raise self._outage.translate(error) from error
        self._outage.over()
        return result

    def close(self) -> None:
        self._connection.close()
