"""The writer's connection to PostgreSQL, and the database's clock.

A transaction is one pipeline: its statements are sent one after the other, without waiting for the responses. The
writer waits for PostgreSQL only where it needs a row. Each wait is a round trip, during which the lock is held and the
other nodes wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg import Connection

from broker.rules.rights import Rights
from broker.settings import Settings
from broker.store.judge import KnownRules
from broker.store.outage import relocated
from broker.store.postgres.database import LOCK, SET_UP, Database, LogState, one_row, open_log, with_lock
from broker.store.postgres.statements import NEXT_DUE, PostgresTables
from broker.store.tables import Counters
from broker.store.transaction import Transaction

_T = TypeVar("_T")

CHANNEL = "broker"  # the channel of LISTEN and NOTIFY
_CLOCK_WINDOW_S = 60.0  # in this time two machines' clocks drift apart by a few milliseconds
# If a time is behind the expected one by this much, the response was hardly so slow. It is more likely that the
# database's clock was set back.
_SET_BACK_US = 1_000_000
NOW_US = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_BEGIN = f"""SELECT {NOW_US}, last_number, head, total_bytes, event_names, reserved_bytes, removals, removals_floor,
    rights, ({NEXT_DUE}), moved,
    (SELECT label FROM broker.epochs WHERE ended IS NULL) FROM broker.state"""  # noqa: S608 (constants only)


class NotBegun(Exception):
    """The connection was lost before its transaction wrote anything, so it is safe to run it again."""


class StoreClock:
    """An estimate of the database's clock, which needs no request to the database.

    Mutable state: how far the database's clock is ahead of this machine's monotonic clock, and when that was measured.
    The two are one tuple, which is replaced as a whole, because several threads read and write it."""

    def __init__(self, override: Callable[[], int] | None) -> None:
        """``override`` is a clock to use instead of the database's; it returns microseconds since 1970."""
        self._override = override
        # How many microseconds the database's clock is ahead, and the monotonic time in seconds at which that was
        # measured.
        self._offset: tuple[int, float] | None = None

    def received(self, now_us: int) -> int:
        """Updates the estimate with the time that the database has just sent, and returns that time.

        A time arrives late, by as long as the response was on its way. So of several measurements, the one that is the
        furthest ahead is the best. It is replaced when it is too old, or when the database's clock was set back."""
        if self._override is not None:
            return self._override()
        received_s = time.monotonic()
        ahead_us = now_us - round(received_s * 1e6)
        best = self._offset
        if best is None or not -_SET_BACK_US < ahead_us - best[0] < 0 or received_s - best[1] > _CLOCK_WINDOW_S:
            self._offset = ahead_us, received_s
        return now_us

    def now_us(self) -> int:
        if self._override is not None:
            return self._override()
        assert self._offset is not None, "the store is not started"
        return round(time.monotonic() * 1e6) + self._offset[0]


class PostgresSession:
    """Implements ``writer.Session``. It reconnects by itself when the connection is lost.

    Mutable state: the connection, which the writer's thread changes, or, before that thread runs, the caller of
    ``open``; and the clock, which several threads read and update."""

    def __init__(self, database: Database, clock: Callable[[], int] | None, settings: Settings, rights: Rights) -> None:
        self._rights = rights
        self._known_rules = KnownRules()
        self._database = database
        self._settings = settings
        self._connection: Connection[Any] | None = None
        self.clock = StoreClock(clock)

    def open(self, *, new: bool = False) -> LogState:
        """Opens the connection, and returns the state of the log. ``new`` says whether a log is made if there is none,
        which is right only at the first start. If the log is not there when the connection is opened again, it was
        lost, or is being restored, and a new log in its place would begin at position 1."""
        self._connection, state = open_log(self._database, new=new)
        return state

    def run(self, work: Callable[[Transaction], _T]) -> _T:
        try:
            result = self._run(work)
        # Every exception is caught: the callers must get an error, and the writer's thread must continue to run.
        except Exception as error:
            if self._connection is not None:
                # The next transaction gets a new connection. Whatever state this one is in, PostgreSQL rolls back its
                # transaction, unless COMMIT was sent. If it was, it is not known whether the write was stored.
                self._connection.close()
            raise self._database.translate(error) from error
        self._database.outage.over()
        return result

    def _run(self, work: Callable[[Transaction], _T]) -> _T:
        if self._connection is not None and not self._connection.closed:
            try:
                return self._with_lock(self._connection, work)
            except NotBegun:  # the connection may have been lost long ago, while it was idle; try once on a new one
                self._connection.close()
        self.open()
        assert self._connection is not None
        return self._with_lock(self._connection, work)

    def _with_lock(self, connection: Connection[Any], work: Callable[[Transaction], _T]) -> _T:
        return with_lock(connection, lambda: self._transact(connection, work))

    def _transact(self, connection: Connection[Any], work: Callable[[Transaction], _T]) -> _T:
        """Runs ``work`` in one transaction.

        The danger: if a transaction were repeated after its first attempt had written something, it could be stored
        twice. So NotBegun is raised only as long as nothing but the lock was asked for, and ``with_lock`` repeats a
        transaction only if the lock was not available."""
        self._database.set_prepares(connection)
        with connection.pipeline():
            try:
                connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                connection.execute(SET_UP)
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
                # The database's clock is read by this statement, which runs after the lock was taken. A time that was
                # read before could be earlier than the time of a transaction that got the lock first.
                db_now_us, *counters, next_due_us, new_address, epoch = one_row(connection, _BEGIN)
            except psycopg.OperationalError as error:
                if connection.closed:
                    raise NotBegun from error
                raise
            # Whether the log has moved is read under the lock, too. `broker move` marks the log while it holds the
            # lock, so nothing can be written after the mark.
            if new_address is not None:
                self._database.outage.report(relocated(), f"stop this server, and start with {new_address}")
                raise relocated()
            now_us = self.clock.received(db_now_us)
            before = Counters(*counters)
            tables = PostgresTables(connection, before, next_due_us)
            transaction = Transaction(tables, now_us, self._settings, epoch, self._rights, self._known_rules)
            result = work(transaction)
            # PostgreSQL delivers this notification to the other nodes when the transaction commits, and never without
            # the commit.
            if transaction.head != before.head or transaction.next_due_us != next_due_us or transaction.pending_changed:
                connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, self._hint(transaction)))
            connection.execute("COMMIT")
        return result

    def _hint(self, transaction: Transaction) -> str:
        """Returns the text of the notification, which ``Listener`` parses."""
        due = "" if transaction.next_due_us is None else transaction.next_due_us
        return f"{self._database.node} {transaction.head} {due} {'pending' if transaction.pending_changed else ''}"

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
