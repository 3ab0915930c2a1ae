"""``broker move`` from and to PostgreSQL."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus

from broker.errors import SettingsError
from broker.operations.content import AGAIN, COPIED, Content, Mark, NotCommitted
from broker.store.postgres.database import LOCK, MOVE_LOCK, Database, open_log
from broker.store.transaction import Counters

logging.getLogger("psycopg").addHandler(logging.NullHandler())  # what fails is told once, in an error

# A copy takes its time, and nodes must have none of what it holds meanwhile; see also postgres_session.
_SET_UP = """SELECT set_config('idle_in_transaction_session_timeout', '0', true),
    set_config('statement_timeout', '0', true), set_config('lock_timeout', '5s', true),
    set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), true)"""


class PostgresLog:
    """See ``copy.Source`` and ``copy.Target``. Mutable state: its connection, with the one transaction that reads and
    marks, or fills."""

    def __init__(self, url: str, *, new: bool) -> None:
        """``new``: its tables are made if need be."""
        self._database = Database(url)
        self._new = new
        self.address = self._database.address
        self._db: Connection[Any]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self._telling():
            self._db, _ = open_log(self._database, new=self._new)
        with contextlib.closing(self._db):
            with self._telling():
                if self._row(f"SELECT pg_try_advisory_lock({MOVE_LOCK})") == (False,):
                    raise SettingsError(f"another `broker move` works on {self._database.name}; wait for its end")
                self._db.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                self._db.execute(_SET_UP)
                self._db.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            yield

    def found(self) -> Content | None:
        content = self.content()
        return content if content.rows["records"] or content.rows["users"] else None

    def content(self) -> Content:
        with self._telling():
            return Content(
                {table: self._row(f"SELECT count(*) FROM broker.{table}")[0] for table in COPIED},  # noqa: S608
                self._row("SELECT coalesce(sum(octet_length(data)), 0)::bigint FROM broker.records")[0],
                Counters(
                    *self._row("SELECT last_number, head, total_bytes, event_names, reserved_bytes FROM broker.state")
                ),
                dict(self._db.execute("SELECT epoch, ended FROM broker.epochs").fetchall()),
            )

    def mark(self) -> Mark:
        with self._telling():
            return Mark(*self._row("SELECT moved, arrived FROM broker.state"))

    def secret(self) -> str | None:
        with self._telling():
            return str(self._row("SELECT token_secret FROM broker.state")[0])

    def rows(self, table: str) -> Generator[tuple[Any, ...]]:
        columns = COPIED[table]
        select = ", ".join(
            "uuid_send(uuid)" if kind == "uuid" else _name(table, name) for name, kind in columns.items()
        )
        query = f"COPY (SELECT {select} FROM broker.{table}) TO STDOUT"  # noqa: S608 (constants only)
        with self._telling(), self._db.cursor() as cursor, cursor.copy(query) as copy:
            copy.set_types(["bytea" if kind == "uuid" else kind for kind in columns.values()])
            yield from copy.rows()

    def put_mark(self, mark: Mark) -> None:
        try:
            self._db.execute("UPDATE broker.state SET moved = %s, arrived = %s", mark)
            self._db.commit()
        except psycopg.Error as error:
            raise SettingsError(f"{self._database.refusal(error)}; {AGAIN}") from error

    def fill(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        if table == "records":
            rows = ((number, uuid.hex(), *more) for number, uuid, *more in rows)
        names = ", ".join(_name(table, name) for name in COPIED[table])
        query = f"COPY broker.{table} ({names}) FROM STDIN"
        with self._telling(), self._db.cursor() as cursor, cursor.copy(query) as copy:
            for row in rows:
                copy.write_row(row)

    def finish(self, content: Content, secret: str | None) -> None:
        with self._telling():
            self._db.execute("DELETE FROM broker.epochs")
            # On no cluster yet: the node that starts first says on which. So it is no fail-over, and the epoch stays.
            self._db.cursor().executemany("INSERT INTO broker.epochs VALUES (%s, %s, NULL)", content.epochs.items())
            self._db.execute(
                """UPDATE broker.state SET last_number = %s, head = %s, total_bytes = %s, event_names = %s,
                   reserved_bytes = %s, token_secret = coalesce(%s, token_secret)""",
                (*content.counters, secret),
            )

    def commit(self) -> None:
        try:
            self._db.commit()
        except psycopg.Error as error:
            if self._db.info.transaction_status == TransactionStatus.IDLE:  # the server lives, and has refused it
                raise NotCommitted(str(self._database.refusal(error))) from error
            raise SettingsError(f"{self._database.refusal(error)}; {AGAIN}") from error

    def _row(self, query: str) -> Any:
        row = self._db.execute(query).fetchone()
        assert row is not None, query
        return row

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, OSError) as error:
            raise self._database.refusal(error) from error


def _name(table: str, column: str) -> str:
    """``user`` is a word of PostgreSQL's own."""
    return "username" if column == "user" and table != "users" else column
