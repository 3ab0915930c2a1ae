"""``broker move`` from and to PostgreSQL."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterable, Iterator
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus

from broker.errors import SettingsError
from broker.operations.content import AGAIN, COPIED, Content, Mark, NotCommitted, Signing
from broker.store.postgres.database import LOCK, MOVE_LOCK, Database, one_row, open_log
from broker.store.postgres.statements import PostgresTables
from broker.store.tables import Counters

# The command reports each failure once, as an error. Without a handler, Python would also print psycopg's warnings.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

# A move may take long, so the timeouts of the role must not end it. But it waits for the lock for 5 s only. The nodes
# use SET_UP in store/postgres/database.py instead.
_SET_UP = """SELECT set_config('idle_in_transaction_session_timeout', '0', true),
    set_config('statement_timeout', '0', true), set_config('lock_timeout', '5s', true),
    set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), true)"""


class PostgresLog:
    """Implements ``move.Source`` and ``move.Target``.

    Mutable state: the connection, with the one transaction that reads the source, or fills the target."""

    def __init__(self, url: str, *, new: bool) -> None:
        """``new`` says whether the tables of a log are made if there are none."""
        self._database = Database(url)
        self._new = new
        self.address = self._database.address
        self._db: Connection[Any]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Holds LOCK until the transaction ends, so that no node writes, and MOVE_LOCK until the session ends."""
        with self._refusing():
            self._db, _ = open_log(self._database, new=self._new)
        with contextlib.closing(self._db):
            with self._refusing():
                if one_row(self._db, f"SELECT pg_try_advisory_lock({MOVE_LOCK})") == (False,):
                    raise SettingsError(
                        f"another `broker move` works on {self._database.name}; wait until it has ended"
                    )
                self._db.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                self._db.execute(_SET_UP)
                self._db.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            yield

    def begin(self) -> Content | None:
        content = self.content()
        return content if content.rows["records"] or content.rows["users"] else None

    def content(self) -> Content:
        with self._refusing():
            return Content(
                {table: one_row(self._db, f"SELECT count(*) FROM broker.{table}")[0] for table in COPIED},  # noqa: S608
                one_row(self._db, "SELECT coalesce(sum(octet_length(data)), 0)::bigint FROM broker.records")[0],
                Counters(*one_row(self._db, f"SELECT {', '.join(Counters._fields)} FROM broker.state")),  # noqa: S608 (constants)
                dict(self._db.execute("SELECT label, ended FROM broker.epochs").fetchall()),
            )

    def mark(self) -> Mark:
        with self._refusing():
            return Mark(*one_row(self._db, "SELECT moved, arrived FROM broker.state"))

    def signing(self) -> Signing:
        with self._refusing():
            return Signing(*one_row(self._db, "SELECT token_secret, token_salt FROM broker.state"))

    def rows(self, table: str) -> Generator[tuple[Any, ...]]:
        select = f"SELECT {_names(table)} FROM broker.{table}"  # noqa: S608 (constants only)
        with self._refusing(), self._db.cursor() as cursor:
            types = [column.type_code for column in cursor.execute(f"{select} LIMIT 0").description or ()]
            with cursor.copy(f"COPY ({select}) TO STDOUT") as copy:
                copy.set_types(types)
                for row in copy.rows():
                    yield tuple(value.bytes if isinstance(value, UUID) else value for value in row)

    def put_mark(self, mark: Mark) -> None:
        with self._refusing(AGAIN):
            self._db.execute("UPDATE broker.state SET moved = %s, arrived = %s", mark)
            self._db.commit()

    def fill(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        query = f"COPY broker.{table} ({_names(table)}) FROM STDIN"
        with self._refusing(), self._db.cursor() as cursor, cursor.copy(query) as copy:
            for row in rows:
                # The only values in bytes are uuids. PostgreSQL reads them in hexadecimal.
                copy.write_row([value.hex() if isinstance(value, bytes) else value for value in row])

    def finish(self, content: Content, signing: Signing) -> None:
        with self._refusing():
            self._db.execute("DELETE FROM broker.epochs")
            # No cluster is stored with the epoch. The node that starts first stores its own, so that the move does not
            # count as a fail-over, and the epoch continues.
            self._db.cursor().executemany("INSERT INTO broker.epochs VALUES (%s, %s, NULL)", content.epochs.items())
            PostgresTables(self._db, content.counters, None).put_counters(content.counters)
            self._db.execute(
                "UPDATE broker.state SET token_secret = coalesce(%s, token_secret), token_salt = %s", signing
            )

    def commit(self) -> None:
        try:
            self._db.commit()
        except psycopg.Error as error:
            # IDLE means that the server has responded, and that its response was an error. If the connection was lost
            # instead, the commit may have succeeded.
            if self._db.info.transaction_status == TransactionStatus.IDLE:
                raise NotCommitted(str(self._database.refusal(error))) from error
            raise SettingsError(f"{self._database.refusal(error)}; {AGAIN}") from error

    @contextlib.contextmanager
    def _refusing(self, advice: str = "") -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, OSError) as error:
            raise SettingsError(f"{self._database.refusal(error)}{advice and f'; {advice}'}") from error


def _names(table: str) -> str:
    """Returns the names of the columns on PostgreSQL, where ``user`` is a reserved word."""
    return ", ".join("username" if name == "user" else name for name in COPIED[table])
