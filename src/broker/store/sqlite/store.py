"""The store on SQLite: one writer thread that commits in groups, and a few reader threads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from broker.errors import Unavailable
from broker.records import Record
from broker.rules.rights import Rights
from broker.settings import Settings
from broker.store.base import BEFORE_ALL, RECORD_BYTES, Commit, Head, LogPage, State, VersionRow
from broker.store.common import CommonStore
from broker.store.confirmation import unconfirmed
from broker.store.sqlite.file import Identity, SQLiteOutage, connect, locked, open_database
from broker.store.sqlite.secret import read_secret
from broker.store.sqlite.session import SQLiteSession
from broker.store.sqlite.statements import (
    CHECKPOINT,
    HEAD_AT,
    NEXT_DUE,
    PENDING,
    PLANNED,
    PUBLISHED_TABLES,
    RECORD_COLUMNS,
    RECORD_TABLES,
    RECORDS_OF,
    STATE_AT,
    USER_COLUMNS,
    earliest,
    record_of,
)
from broker.store.users import user_of
from broker.users import User

_T = TypeVar("_T")

_HEAD = "SELECT epoch, head FROM state, epochs WHERE ended IS NULL"


class SQLiteStore(CommonStore):
    """``store/base.py`` says what a store promises.

    Mutable state: whether it runs, and the queue of the readers' connections that no thread uses at the moment."""

    _checkpoint, _head_at, _state_at, _planned = CHECKPOINT, HEAD_AT, STATE_AT, PLANNED
    _salt = "SELECT token_salt FROM state"
    _newest_checkpoint = "SELECT position, events FROM checkpoints ORDER BY position DESC LIMIT 1"

    def __init__(self, file: Path, settings: Settings, clock: Callable[[], int], rights: Rights | None = None) -> None:
        super().__init__(settings, rights)
        self._file = file
        self._clock = clock
        self._outage = SQLiteOutage(file)
        self._lock: contextlib.ExitStack  # holds the folder's lock, from start to stop
        self._loop: asyncio.AbstractEventLoop
        self._readers: ThreadPoolExecutor
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()  # as many as there are reader threads

    async def start(self, on_commit: Callable[[Commit], None]) -> None:
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as lock:
            lock.enter_context(locked(self._file))
            self._rights.unconfirmed = unconfirmed(self._file.parent)
            connection = await asyncio.to_thread(open_database, self._file)
            self._lock = lock.pop_all()
        # The readers' connections are opened together with the writer's connection. If they were opened later, the path
        # might lead to another file.
        for _ in range(self._settings.reader_threads):
            self._idle.put(_open_reader(self._file))
        self._readers = ThreadPoolExecutor(self._settings.reader_threads, "broker-reader")
        identity = Identity(self._file)
        self._outage.watch(identity)
        session = SQLiteSession(connection, identity, self._outage, self._clock, self._settings, self._rights)
        self._writer.start(session, on_commit)
        self._running = True

    async def stop(self) -> None:
        if not self._running:
            return
        self._running = False
        await self._writer.stop()
        await asyncio.to_thread(self._readers.shutdown)
        while not self._idle.empty():
            self._idle.get().close()
        self._lock.close()

    def clock(self) -> int:
        return self._clock()

    @property
    def place(self) -> str:
        return str(self._file.parent)

    # Reading

    async def token_secret(self) -> str:
        return await asyncio.to_thread(read_secret, self._file.with_name("token-secret"))

    async def next_due(self) -> int | None:
        return earliest(*await self._row(NEXT_DUE))

    async def check(self) -> None:
        await self.head()

    async def head(self) -> Head:
        return Head(*await self._row(_HEAD))

    async def epochs(self) -> dict[str, int | None]:
        return dict(await self._read(lambda db: db.execute("SELECT epoch, ended FROM epochs").fetchall()))

    async def snapshot(self) -> State:
        def read(db: sqlite3.Connection) -> State:
            db.execute("BEGIN")  # so that all queries see the same moment
            try:
                head = Head(*db.execute(_HEAD).fetchone())
                (removals_floor,) = db.execute("SELECT removals_floor FROM state").fetchone()
                rows = db.execute(
                    f"""SELECT {RECORD_COLUMNS} FROM (SELECT position FROM events WHERE position IS NOT NULL) l
                        JOIN {PUBLISHED_TABLES} WHERE p.position = l.position ORDER BY p.position"""  # noqa: S608
                )
                return State(head, removals_floor, [record_of(row) for row in rows])
            finally:
                db.execute("COMMIT")

        return await self._read(read)

    async def _versions(self, select: str, values: dict[str, Any]) -> list[VersionRow]:
        return await self._read(lambda db: sorted(db.execute(select, values)))

    async def records(self, numbers: Sequence[int], bytes_max: int) -> list[Record]:
        listed = json.dumps(numbers)
        return await self._read(lambda db: _page(map(record_of, db.execute(RECORDS_OF, (listed,))), bytes_max))

    async def read(self, after: int, upto: int, records_max: int, bytes_max: int) -> tuple[Head, list[Record]]:
        def read(db: sqlite3.Connection) -> tuple[Head, list[Record]]:
            # The head is read first. If it were read after the records, it might include records that were published in
            # between and are not among those that are returned.
            head = Head(*db.execute(_HEAD).fetchone())
            rows = db.execute(
                f"""SELECT {RECORD_COLUMNS} FROM {PUBLISHED_TABLES}
                    WHERE p.position > ? AND p.position <= ? ORDER BY p.position LIMIT ?""",  # noqa: S608 (constants)
                (after, upto, records_max),
            )
            return head, _page(map(record_of, rows), bytes_max)

        return await self._read(read)

    async def span_bytes(self, after: int, upto: int) -> int:
        (size,) = await self._row(
            """SELECT coalesce((SELECT total_bytes FROM publications WHERE position = ?), 0)
                    - coalesce((SELECT total_bytes FROM publications WHERE position = ?), 0)""",
            (upto, after),
        )
        return int(size)

    async def due_of(self, uuid: UUID) -> tuple[int, int] | None:
        row: tuple[int, int] | None = await self._row(
            "SELECT due_us, number FROM records WHERE uuid = ?", (uuid.bytes,)
        )
        return row

    async def pending(self, after: tuple[int, int] | None, records_max: int, bytes_max: int) -> list[Record]:
        values = (*(after or BEFORE_ALL), records_max)
        return await self._read(lambda db: _page(map(record_of, db.execute(PENDING, values)), bytes_max))

    async def number_of(self, event: str, uuid: UUID) -> int | None:
        row = await self._row("SELECT number FROM records WHERE uuid = ? AND event = ?", (uuid.bytes, event))
        return None if row is None else int(row[0])

    async def log_end(self, event: str, after: int | None, records_max: int | None, descending: bool) -> LogPage:
        where, order = _direction(after, descending)

        def read(db: sqlite3.Connection) -> LogPage:
            if records_max is None:  # the last record is the first one in the opposite order
                other = "ASC" if descending else "DESC"
                select = f"SELECT number, uuid FROM records WHERE event = ? {where} ORDER BY number {other} LIMIT 1"  # noqa: S608
                rows = db.execute(select, [event, *_bound(after)]).fetchall()
                more = False
            else:
                select = f"SELECT number, uuid FROM records WHERE event = ? {where} ORDER BY number {order} LIMIT ?"  # noqa: S608
                rows = db.execute(select, [event, *_bound(after), records_max + 1]).fetchall()
                more = len(rows) > records_max
                rows = rows[:records_max]
            return LogPage(rows[-1][0], UUID(bytes=rows[-1][1]), more) if rows else LogPage(None, None, False)

        return await self._read(read)

    async def log(self, event: str, after: int | None, last: int, bytes_max: int, descending: bool) -> list[Record]:
        where, order = _direction(after, descending, "r.number")
        within = "r.number >= ?" if descending else "r.number <= ?"

        def read(db: sqlite3.Connection) -> list[Record]:
            rows = db.execute(
                f"""SELECT {RECORD_COLUMNS} FROM {RECORD_TABLES}
                    WHERE r.event = ? {where} AND {within} ORDER BY r.number {order}""",  # noqa: S608
                [event, *_bound(after), last],
            )
            return _page(map(record_of, rows), bytes_max)

        return await self._read(read)

    async def _user(self, column: str, value: str) -> User | None:
        row = await self._row(f"SELECT {USER_COLUMNS} FROM users WHERE {column} = ?", (value,))  # noqa: S608
        return None if row is None else user_of(row)

    async def users(self, after: str, limit: int) -> list[User]:
        select = f"""SELECT {USER_COLUMNS} FROM users WHERE username_key > ? AND username != ''
                     ORDER BY username_key LIMIT ?"""  # noqa: S608 (constants only)
        return await self._read(lambda db: [user_of(row) for row in db.execute(select, (after, limit))])

    async def users_with_keys(self) -> list[User]:
        select = f"SELECT {USER_COLUMNS} FROM users WHERE keys != '[]' ORDER BY username_key"  # noqa: S608
        return await self._read(lambda db: [user_of(row) for row in db.execute(select)])

    async def _row(self, select: str, values: Sequence[Any] | dict[str, Any] = ()) -> Any:
        return await self._read(lambda db: db.execute(select, values).fetchone())

    async def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        self._check_running()
        try:
            self._outage.check()
            return await self._loop.run_in_executor(self._readers, self._run_read, work)
        except sqlite3.Error as error:
            # ``translate`` logs the error. The error that it returns is about writes, so it is not raised here.
            self._outage.translate(error)
            raise Unavailable("the store cannot be read for now; ask again in a moment") from error

    def _run_read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Runs in a reader thread. There are as many connections as threads, so it never waits for a connection."""
        connection = self._idle.get()
        try:
            return work(connection)
        finally:
            self._idle.put(connection)


def _open_reader(file: Path) -> sqlite3.Connection:
    connection = connect(file)
    connection.execute("PRAGMA query_only = ON")
    connection.execute(_HEAD).fetchone()  # SQLite opens its files, the write-ahead log among them, at the first query
    return connection


def _page(items: Iterable[Any], bytes_max: int) -> list[Any]:
    """Returns the first items, until their bytes reach ``bytes_max``; at least one item, if there is one."""
    page, size = [], 0
    for item in items:
        page.append(item)
        size += len(item.data) + RECORD_BYTES
        if size >= bytes_max:
            break
    return page


def _direction(after: int | None, descending: bool, number: str = "number") -> tuple[str, str]:
    """Returns the SQL condition for the records after the number ``after``, and the sort order."""
    where = "" if after is None else f"AND {number} {'<' if descending else '>'} ?"
    return where, "DESC" if descending else "ASC"


def _bound(after: int | None) -> list[int]:
    """The values for the condition that ``_direction`` returns."""
    return [] if after is None else [after]
