"""The store on PostgreSQL: one log for many nodes."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg import Connection

from broker.errors import InsufficientStorage, SettingsError, Unavailable
from broker.records import Record
from broker.rules.rights import Rights
from broker.settings import Settings
from broker.store.base import BEFORE_ALL, RECORD_BYTES, Commit, Head, LogPage, State, VersionRow
from broker.store.common import CommonStore
from broker.store.outage import relocated, relocated_to
from broker.store.postgres.database import Database, TakenOver, check_cluster, one_row
from broker.store.postgres.listener import Listener
from broker.store.postgres.session import NOW_US, PostgresSession
from broker.store.postgres.statements import (
    CHECKPOINT,
    HEAD_AT,
    NEXT_DUE,
    PENDING,
    PLANNED,
    PUBLISHED_JOINS,
    RECORD_COLUMNS,
    RECORD_JOINS,
    RECORDS_OF,
    SIZE,
    STATE_AT,
    USER_COLUMNS,
)
from broker.store.users import user_of
from broker.users import User

logger = logging.getLogger("broker.store")

_T = TypeVar("_T")

_LOG_RECORDS_MAX = 500  # records that one call of ``log`` returns at most
_HEAD = "SELECT label AS epoch, head FROM broker.state, broker.epochs WHERE ended IS NULL"


class PostgresStore(CommonStore):
    """``store/base.py`` says what a store promises.

    Mutable state: whether it runs, and the list of the readers' connections, each of which belongs to its thread."""

    _checkpoint, _head_at, _state_at, _planned = CHECKPOINT, HEAD_AT, STATE_AT, PLANNED
    _salt = "SELECT token_salt FROM broker.state"
    _newest_checkpoint = "SELECT position, events FROM broker.checkpoints ORDER BY position DESC LIMIT 1"

    def __init__(
        self,
        url: str,
        settings: Settings,
        clock: Callable[[], int] | None = None,
        rights: Rights | None = None,
    ) -> None:
        """``clock`` is a clock to use instead of the database's; it returns microseconds since 1970."""
        super().__init__(settings, rights)
        self._database = Database(url, settings.database_answer_s)
        self._session = PostgresSession(self._database, clock, settings, self._rights)
        self._listener = Listener(self._database)
        self._loop: asyncio.AbstractEventLoop
        self._readers: ThreadPoolExecutor
        self._local = threading.local()
        self._connections: list[Connection[Any]] = []

    async def start(self, on_commit: Callable[[Commit], None]) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            state = await asyncio.to_thread(partial(self._session.open, new=True))
        except (psycopg.Error, OSError) as error:
            raise self._database.refusal(error) from error
        if state.moved is not None:
            self._session.close()
            raise SettingsError(relocated_to(self._database.name, state.moved, state.arrived))
        self._readers = ThreadPoolExecutor(self._settings.reader_threads, "broker-reader")
        self._writer.start(self._session, on_commit)
        self._running = True
        await self._writer.call(lambda transaction: None)  # its transaction reads the database's time, for ``clock``
        await self._listener.start(on_commit)

    async def stop(self) -> None:
        if not self._running:
            return
        self._running = False
        await self._listener.stop()
        await self._writer.stop()
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._connections:
            connection.close()

    def clock(self) -> int:
        return self._session.clock.now_us()

    @property
    def place(self) -> str:
        return self._database.name

    # Reading

    async def token_secret(self) -> str:
        (secret,) = await self._row("SELECT token_secret FROM broker.state")
        return str(secret)

    async def next_due(self) -> int | None:
        def read(db: Connection[Any]) -> int | None:
            now_us, due_us = one_row(db, f"SELECT {NOW_US}, ({NEXT_DUE})")
            # On a node that does not write, only this call reads the database's time.
            self._session.clock.received(now_us)
            return due_us if due_us is None else int(due_us)

        return await self._read(read)

    async def check(self) -> None:
        (has_moved,) = await self._row("SELECT moved FROM broker.state")
        if has_moved is not None:
            raise relocated()

    async def head(self) -> Head:
        return Head(*await self._row(_HEAD))

    async def epochs(self) -> dict[str, int | None]:
        return dict(await self._read(lambda db: db.execute("SELECT label, ended FROM broker.epochs").fetchall()))

    async def snapshot(self) -> State:
        def read(db: Connection[Any]) -> State:
            # One statement sees the state of the database at one moment.
            rows = db.execute(
                f"""SELECT head.epoch, head.head, (SELECT removals_floor FROM broker.state), {RECORD_COLUMNS}
                    FROM ({_HEAD}) AS head LEFT JOIN (
                        broker.events l
                        CROSS JOIN LATERAL (
                            SELECT * FROM broker.publications WHERE position = l.position OFFSET 0
                        ) p {PUBLISHED_JOINS}
                    ) ON true ORDER BY p.position""",  # noqa: S608
                binary=True,
            ).fetchall()
            head, latest = _head_and_records([(*row[:2], *row[3:]) for row in rows])
            return State(head, rows[0][2], latest)

        return await self._read(read)

    async def _versions(self, select: str, values: dict[str, Any]) -> list[VersionRow]:
        return await self._read(lambda db: sorted(db.execute(select, values, binary=True)))

    async def records(self, numbers: Sequence[int], bytes_max: int) -> list[Record]:
        values = json.dumps(numbers), bytes_max
        return await self._read(lambda db: [Record(*row) for row in db.execute(RECORDS_OF, values, binary=True)])

    async def read(self, after: int, upto: int, records_max: int, bytes_max: int) -> tuple[Head, list[Record]]:
        def read(db: Connection[Any]) -> tuple[Head, list[Record]]:
            rows = db.execute(
                f"""SELECT head.epoch, head.head, {RECORD_COLUMNS}
                   FROM ({_HEAD}) AS head
                   LEFT JOIN (broker.publications p {PUBLISHED_JOINS})
                   ON p.position > %(after)s AND p.position <= %(upto)s
                   AND p.total_bytes - octet_length(r.data) + {RECORD_BYTES} * (p.position - %(after)s - 1) < %(bytes)s
                       + coalesce((SELECT total_bytes FROM broker.publications WHERE position = %(after)s), 0)
                   ORDER BY p.position""",  # noqa: S608 (constants only)
                {"after": after, "upto": min(upto, after + records_max), "bytes": bytes_max},
                binary=True,
            ).fetchall()
            return _head_and_records(rows)

        return await self._read(read)

    async def span_bytes(self, after: int, upto: int) -> int:
        (size,) = await self._row(
            """SELECT coalesce((SELECT total_bytes FROM broker.publications WHERE position = %s), 0)
                    - coalesce((SELECT total_bytes FROM broker.publications WHERE position = %s), 0)""",
            (upto, after),
        )
        return int(size)

    async def due_of(self, uuid: UUID) -> tuple[int, int] | None:
        row: tuple[int, int] | None = await self._row(
            "SELECT due_us, number FROM broker.records WHERE uuid = %s", (uuid,)
        )
        return row

    async def pending(self, after: tuple[int, int] | None, records_max: int, bytes_max: int) -> list[Record]:
        values = (*(after or BEFORE_ALL), records_max, bytes_max)
        return await self._read(lambda db: [Record(*row) for row in db.execute(PENDING, values, binary=True)])

    async def number_of(self, event: str, uuid: UUID) -> int | None:
        row = await self._row("SELECT number FROM broker.records WHERE uuid = %s AND event = %s", (uuid, event))
        return None if row is None else int(row[0])

    async def log_end(self, event: str, after: int | None, records_max: int | None, descending: bool) -> LogPage:
        beyond, order, other = ("<", "DESC", "ASC") if descending else (">", "ASC", "DESC")
        where = f"WHERE event = %s AND (%s::bigint IS NULL OR number {beyond} %s)"

        def read(db: Connection[Any]) -> LogPage:
            if records_max is None:  # the last record is the first one in the opposite order
                select = f"SELECT number, uuid FROM broker.records {where} ORDER BY number {other} LIMIT 1"  # noqa: S608
                rows = db.execute(select, (event, after, after)).fetchall()
                more = False
            else:
                select = f"SELECT number, uuid FROM broker.records {where} ORDER BY number {order} LIMIT %s"  # noqa: S608
                rows = db.execute(select, (event, after, after, records_max + 1)).fetchall()
                more = len(rows) > records_max
                rows = rows[:records_max]
            return LogPage(rows[-1][0], rows[-1][1], more) if rows else LogPage(None, None, False)

        return await self._read(read)

    async def log(self, event: str, after: int | None, last: int, bytes_max: int, descending: bool) -> list[Record]:
        beyond, within, order = ("<", ">=", "DESC") if descending else (">", "<=", "ASC")

        def read(db: Connection[Any]) -> list[Record]:
            rows = db.execute(
                f"""SELECT {RECORD_COLUMNS} FROM (
                        SELECT *, sum({SIZE}) OVER (ORDER BY number {order}) - {SIZE} AS before
                        FROM (SELECT * FROM broker.records WHERE event = %s
                              AND (%s::bigint IS NULL OR number {beyond} %s) AND number {within} %s
                              ORDER BY number {order} LIMIT {_LOG_RECORDS_MAX}) AS page) AS r {RECORD_JOINS}
                    WHERE before < %s ORDER BY r.number {order}""",  # noqa: S608 (constants only)
                (event, after, after, last, bytes_max),
                binary=True,
            )
            return [Record(*row) for row in rows]

        return await self._read(read)

    async def _user(self, column: str, value: str) -> User | None:
        row = await self._row(f"SELECT {USER_COLUMNS} FROM broker.users WHERE {column} = %s", (value,))  # noqa: S608
        return None if row is None else user_of(row)

    async def users(self, after: str, limit: int) -> list[User]:
        select = f"""SELECT {USER_COLUMNS} FROM broker.users WHERE username_key > %s AND username != ''
                     ORDER BY username_key LIMIT %s"""  # noqa: S608 (constants only)
        return await self._read(lambda db: [user_of(row) for row in db.execute(select, (after, limit))])

    async def users_with_keys(self) -> list[User]:
        select = f"SELECT {USER_COLUMNS} FROM broker.users WHERE keys != '[]' ORDER BY username_key"  # noqa: S608
        return await self._read(lambda db: [user_of(row) for row in db.execute(select)])

    async def _row(self, select: str, values: Sequence[Any] | dict[str, Any] | None = None) -> Any:
        return await self._read(lambda db: db.execute(select, values).fetchone())

    async def _read(self, work: Callable[[Connection[Any]], _T]) -> _T:
        self._check_running()
        try:
            try:
                return await self._loop.run_in_executor(self._readers, self._run_read, work)
            # The next write begins the new epoch. If nobody inserts, that is this empty transaction.
            except TakenOver:
                await self._writer.publish_due()
                return await self._loop.run_in_executor(self._readers, self._run_read, work)
        except (psycopg.Error, OSError, TakenOver) as error:
            refusal = self._database.translate(error)  # ``translate`` also logs the error
            # The error is about writes, and says that the write "may have been stored". A read needs an error of its
            # own.
            if isinstance(refusal, Unavailable | InsufficientStorage):
                refusal = Unavailable("the store cannot be read for now; ask again in a moment")
            raise refusal from error

    def _run_read(self, work: Callable[[Connection[Any]], _T]) -> _T:
        connection: Connection[Any] | None = getattr(self._local, "connection", None)
        if connection is not None and not connection.closed:
            try:
                return work(connection)
            # The connection may have been lost long ago, while it was idle. So the read is tried once more, on a new
            # connection.
            except psycopg.OperationalError:
                connection.close()
        connection = self._database.connect()
        check_cluster(connection)
        self._local.connection = connection
        # The list is replaced in one assignment, because several threads do this without a lock. If two threads do it
        # at the same time, the connection of one of them is missing from the list, and is closed only when its thread
        # has ended.
        self._connections = [other for other in self._connections if not other.closed] + [connection]
        return work(connection)


def _head_and_records(rows: list[Any]) -> tuple[Head, list[Record]]:
    """Returns the head and the records in the rows of one statement, which are of one moment. There is at least one
    row: if there are no records, it has only the head."""
    return Head(*rows[0][:2]), [Record(*row[2:]) for row in rows if row[2] is not None]
