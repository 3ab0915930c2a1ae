"""The writer's connection to PostgreSQL, and its clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg import Connection

from broker.settings import Settings
from broker.store.outage import moved
from broker.store.postgres.database import LOCK, SET_UP, Database, Known, insist, one_row, open_log
from broker.store.postgres.tables import NEXT_DUE, PostgresTables
from broker.store.transaction import Counters, Transaction

_T = TypeVar("_T")

CHANNEL = "broker"
_CLOCK_WINDOW_S = 60.0  # two clocks drift apart by a few milliseconds in that time
_SET_BACK_US = 1_000_000  # an answer is seldom on its way for so long: rather the clock was set back
NOW_US = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_BEGIN = f"""SELECT {NOW_US}, last_number, head, total_bytes, event_names, reserved_bytes, ({NEXT_DUE}), moved,
    (SELECT epoch FROM broker.epochs WHERE ended IS NULL) FROM broker.state"""  # noqa: S608 (constants only)


class NotBegun(Exception):
    """The connection was lost before its transaction did anything."""


class StoreClock:
    """The database's clock, as well as it is known without asking.

    Mutable state: how far it is ahead of this machine's monotonic clock; a tuple, as several threads hear of it."""

    def __init__(self, given: Callable[[], int] | None) -> None:
        """``given``: in its place, microseconds since the epoch."""
        self._given = given
        self._heard: tuple[int, float] | None = None  # microseconds ahead, and when that was heard

    def hear(self, now_us: int) -> int:
        """The time by the clock, which the database has just said. What is on its way for long makes it late, so of
        several the one that is the most ahead is right, until that is long ago, or the clock was set back."""
        if self._given is not None:
            return self._given()
        heard_s = time.monotonic()
        ahead_us = now_us - round(heard_s * 1e6)
        known = self._heard
        if known is None or not -_SET_BACK_US < ahead_us - known[0] < 0 or heard_s - known[1] > _CLOCK_WINDOW_S:
            self._heard = ahead_us, heard_s
        return now_us

    def now_us(self) -> int:
        if self._given is not None:
            return self._given()
        assert self._heard is not None, "not started"
        return round(time.monotonic() * 1e6) + self._heard[0]


class PostgresSession:
    """See ``writer.Session``. Connects again, by itself, when the connection is lost.

    Mutable state: its connection, the clock."""

    def __init__(self, database: Database, clock: Callable[[], int] | None, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._connection: Connection[Any] | None = None
        self.clock = StoreClock(clock)

    def open(self, *, new: bool = False) -> Known:
        """``new``: it may be that there is no log yet. Later on that is a log that is lost, or being restored."""
        self._connection, known = open_log(self._database, new=new)
        return known

    def run(self, work: Callable[[Transaction], _T]) -> _T:
        try:
            result = self._run(work)
        except Exception as error:  # whatever it is, the callers must hear of it and the writer must live on
            if self._connection is not None:
                # A new one for the next transaction: whatever state this one is in, the server rolls it back.
                self._connection.close()
            raise self._database.translate(error) from error
        self._database.outage.over()
        return result

    def _run(self, work: Callable[[Transaction], _T]) -> _T:
        if self._connection is not None and not self._connection.closed:
            try:
                return self._insist(self._connection, work)
            except NotBegun:  # it may have been lost long ago: once more, on a new one
                self._connection.close()
        self.open()
        assert self._connection is not None
        return self._insist(self._connection, work)

    def _insist(self, connection: Connection[Any], work: Callable[[Transaction], _T]) -> _T:
        return insist(connection, lambda: self._transact(connection, work))

    def _transact(self, connection: Connection[Any], work: Callable[[Transaction], _T]) -> _T:
        self._database.set_prepares(connection)
        with connection.pipeline():
            try:
                connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                connection.execute(SET_UP)
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
                # Under the lock: a clock read before might order this transaction before another's.
                row = one_row(connection, _BEGIN)
            except psycopg.OperationalError as error:
                if connection.closed:
                    raise NotBegun from error
                raise
            if row[7] is not None:
                self._database.outage.tell(moved(), f"stop this server, and start with {row[7]}")
                raise moved()
            now_us = self.clock.hear(row[0])
            before = Counters(*row[1:6])
            transaction = Transaction(PostgresTables(connection, before, row[6]), now_us, self._settings, epoch=row[8])
            result = work(transaction)
            if transaction.head != before.head or transaction.next_due_us != row[6]:
                connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, self._hint(transaction)))
            connection.execute("COMMIT")
        return result

    def _hint(self, transaction: Transaction) -> str:
        due = "" if transaction.next_due_us is None else transaction.next_due_us
        return f"{self._database.node} {transaction.head} {due}"

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
