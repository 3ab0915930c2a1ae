"""The writer's connection to SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from broker.rules.rights import Rights
from broker.settings import Settings
from broker.store.judge import KnownRules
from broker.store.sqlite.file import Identity, SQLiteOutage, roll_back
from broker.store.sqlite.statements import SQLiteTables
from broker.store.transaction import Transaction

_T = TypeVar("_T")


class SQLiteSession:
    """Implements ``writer.Session``. Only the writer's thread uses it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        identity: Identity,
        outage: SQLiteOutage,
        clock: Callable[[], int],
        settings: Settings,
        rights: Rights,
    ) -> None:
        self._connection = connection
        self._identity = identity
        self._outage = outage
        self._clock = clock  # returns microseconds since 1970
        self._settings = settings
        self._rights = rights
        self._known_rules = KnownRules()
        # The epoch does not change while this process has the folder's lock: only a restore or an import begins a new
        # one, and both need the lock.
        (self._epoch,) = connection.execute("SELECT epoch FROM epochs WHERE ended IS NULL").fetchone()

    def run(self, work: Callable[[Transaction], _T]) -> _T:
        connection = self._connection
        try:
            self._outage.check()
            # IMMEDIATE takes the write lock now. A transaction that begins with a read, and takes the lock for its
            # first write, would fail if another program had written in between.
            connection.execute("BEGIN IMMEDIATE")
            # The clock is read under the lock. A time that was read before could be earlier than the time of a
            # transaction that got the lock first, so the log's times would go backwards.
            tables, now_us = SQLiteTables(connection), self._clock()
            result = work(Transaction(tables, now_us, self._settings, self._epoch, self._rights, self._known_rules))
            # The files are checked as late as possible, because whatever is committed to a file that was removed or
            # replaced is lost.
            self._identity.check()
            connection.execute("COMMIT")
        # Every exception is caught: the callers must get an error, and the writer's thread must continue to run.
        except Exception as error:
            roll_back(connection)
            raise self._outage.translate(error) from error
        self._outage.over()
        return result

    def close(self) -> None:
        self._connection.close()
