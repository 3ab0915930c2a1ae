"""The writer's connection to SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from broker.settings import Settings
from broker.store.sqlite.file import Identity, SQLiteOutage, roll_back
from broker.store.sqlite.statements import SQLiteTables
from broker.store.transaction import Transaction

_T = TypeVar("_T")


class SQLiteSession:
    """See ``writer.Session``. It is used by the writer's thread alone."""

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
        self._clock = clock  # returns microseconds since the epoch
        self._settings = settings
        # It does not change while this process has the folder's lock: only a restore or an import begins another one.
        (self._epoch,) = connection.execute("SELECT epoch FROM epochs WHERE ended IS NULL").fetchone()

    def run(self, work: Callable[[Transaction], _T]) -> _T:
        connection = self._connection
        try:
            self._outage.check()
            # IMMEDIATE takes the write lock now. A transaction that first reads, and takes the lock for its first
            # write, fails if somebody else has written in between.
            connection.execute("BEGIN IMMEDIATE")
            # The clock is read under the lock. A time that was read before could be earlier than that of a transaction
            # which got the lock first, and due times would be judged out of order.
            result = work(Transaction(SQLiteTables(connection), self._clock(), self._settings, self._epoch))
            # As late as possible: whatever is committed to a file that was removed or replaced is lost.
            self._identity.check()
            connection.execute("COMMIT")
        # Whatever it is: the callers must get an error, and the writer's thread must live on.
        except Exception as error:
            roll_back(connection)
            raise self._outage.translate(error) from error
        self._outage.over()
        return result

    def close(self) -> None:
        self._connection.close()
