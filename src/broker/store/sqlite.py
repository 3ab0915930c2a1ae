"""The store on SQLite: one writer thread that commits in groups, and a few reader threads."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from broker.errors import BrokerError, InsufficientStorage, SettingsError, Unavailable
from broker.records import NewRecord, Published, Record
from broker.settings import MIB, Settings
from broker.store.base import Commit, Head, LogPage
from broker.store.transaction import RECORD_COLUMNS, RECORD_TABLES, Transaction, record_of
from broker.users import User, username_key

logger = logging.getLogger("broker.store")

_T = TypeVar("_T")

_SQLITE_MIN = (3, 35, 0)
_BUSY_MS = 5_000  # another program (a backup, a shell) may hold the lock this long before a write is refused
_COMMIT_BYTES_MAX = 16 * MIB  # of data in one transaction
_RECORD_BYTES = 512  # what a record costs in memory besides its data, or a page of tiny ones would be millions
_HEAD = "SELECT epoch, head FROM state, epochs WHERE ended IS NULL"
_USER_COLUMNS = "id, username, CAST(info AS BLOB), password_hash, gen, disabled"


@dataclass(slots=True)
class _Write:
    """Something for the writer thread: a NewRecord to append with others, or a call on the transaction."""

    work: NewRecord | Callable[[Transaction], Any]
    bytes: int
    future: asyncio.Future[Any]


class SQLiteStore:
    """See ``store/base.py`` for what it promises.

    Mutable state: the queue of waiting writes, counted in the event loop; the writer's connection belongs to the
    writer thread, each reader's to its thread."""

    def __init__(self, file: Path, settings: Settings, clock: Callable[[], int]) -> None:
        self._file = file
        self._settings = settings
        self._clock = clock  # microseconds since the epoch
        # Of the event loop
        self._loop: asyncio.AbstractEventLoop
        self._on_commit: Callable[[Commit], None]
        self.waiting = 0  # writes accepted and not yet done
        self._waiting_bytes = 0
        self._stopping = False
        # Shared with the threads
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._readers: ThreadPoolExecutor
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []

    async def start(self, on_commit: Callable[[Commit], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_commit = on_commit
        connection = await asyncio.to_thread(self._open)
        self._readers = ThreadPoolExecutor(self._settings.reader_threads, "broker-reader")
        self._writer = threading.Thread(target=self._write_loop, args=(connection,), name="broker-writer", daemon=True)
        self._writer.start()

    async def stop(self) -> None:
        if self._writer is None or self._stopping:
            return
        self._stopping = True
        self._writes.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._connections:
            connection.close()
        # The writer's last results are callbacks that were queued in the loop before this task was woken.
        assert self.waiting == 0, "a write was neither done nor refused"

    # Writing

    async def append(self, new: NewRecord) -> tuple[Record, bool]:
        appended: tuple[Record, bool] = await self._write(new, len(new.data))
        return appended

    async def cancel(self, uuid: UUID, user: str) -> Record:
        record: Record = await self._write(lambda transaction: transaction.cancel(uuid, user))
        return record

    async def publish_due(self) -> None:
        await self._write(lambda transaction: None, bounded=False)

    async def add_user(self, user: User) -> None:
        await self._write(lambda transaction: transaction.add_user(user))

    def _write(
        self, work: NewRecord | Callable[[Transaction], Any], size: int = 0, *, bounded: bool = True
    ) -> asyncio.Future[Any]:
        if self._stopping:
            raise Unavailable("the server is stopping; ask again in a moment")
        settings = self._settings
        if bounded and (
            self.waiting >= settings.insert_queue_max or self._waiting_bytes + size > settings.insert_queue_bytes_max
        ):
            raise Unavailable(f"{self.waiting} writes are waiting for the disk; send this one again in a moment")
        future: asyncio.Future[Any] = self._loop.create_future()
        self.waiting += 1
        self._waiting_bytes += size
        self._writes.put(_Write(work, size, future))
        return future

    def _write_loop(self, connection: sqlite3.Connection) -> None:
        """The writer thread: everything that waits goes into one transaction (group commit)."""
        stop = False
        while not stop:
            writes, stop = self._take()
            if writes:
                results, commit = self._transact(connection, writes)
                self._loop.call_soon_threadsafe(self._done, writes, results, commit)
        connection.close()

    def _take(self) -> tuple[list[_Write], bool]:
        """Waits for a write and takes all that are there, within the bounds of one transaction; True: and then stop."""
        writes: list[_Write] = []
        size = 0
        try:
            while len(writes) < self._settings.commit_records_max and size <= _COMMIT_BYTES_MAX:
                write = self._writes.get(block=not writes)
                if write is None:
                    return writes, True
                writes.append(write)
                size += write.bytes
        except queue.Empty:
            pass
        return writes, False

    def _transact(self, connection: sqlite3.Connection, writes: list[_Write]) -> tuple[list[Any], Commit | None]:
        """One result, or error, for each write. Without a Commit nothing was stored (or it is not known)."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            # The clock is read under the lock: a time read before might order this transaction before another's.
            transaction = Transaction(connection, self._clock(), self._settings)
            transaction.publish_due()
            appended = iter(transaction.append([write.work for write in writes if isinstance(write.work, NewRecord)]))
            results = [
                next(appended) if isinstance(write.work, NewRecord) else _attempt(write.work, transaction)
                for write in writes
            ]
            commit = transaction.finish()
            connection.execute("COMMIT")
        except Exception as error:  # whatever it is, the callers must hear of it and the writer must live on
            _roll_back(connection)
            refusal = _translate(error)
            return [refusal] * len(writes), None
        return results, commit

    def _done(self, writes: list[_Write], results: list[Any], commit: Commit | None) -> None:
        """In the loop: first the hint, so that subscribers hear as soon as it is durable; then the callers."""
        self.waiting -= len(writes)
        self._waiting_bytes -= sum(write.bytes for write in writes)
        if commit is not None:
            try:
                self._on_commit(commit)
            except Exception:  # only a hint: those who wait for their answers must have them
                logger.exception("a wake-up failed")
        for write, result in zip(writes, results, strict=True):
            if write.future.cancelled():  # the caller went away; the write stands
                continue
            if isinstance(result, Exception):
                write.future.set_exception(result)
            else:
                write.future.set_result(result)

    # Reading

    async def next_due(self) -> int | None:
        (due_us,) = await self._row("SELECT min(due_us) FROM pending")
        return due_us if due_us is None else int(due_us)

    async def head(self) -> Head:
        return Head(*await self._row(_HEAD))

    async def epochs(self) -> dict[str, int | None]:
        return dict(await self._read(lambda db: db.execute("SELECT epoch, ended FROM epochs").fetchall()))

    async def snapshot(self) -> tuple[Head, list[Published]]:
        def read(db: sqlite3.Connection) -> tuple[Head, list[Published]]:
            db.execute("BEGIN")  # one moment for both
            try:
                head = Head(*db.execute(_HEAD).fetchone())
                rows = db.execute(
                    """SELECT e.position, e.event, CAST(r.data AS BLOB) FROM events e
                       JOIN publications p ON p.position = e.position JOIN records r ON r.number = p.number
                       ORDER BY e.position"""
                )
                return head, [Published(*row) for row in rows]
            finally:
                db.execute("COMMIT")

        return await self._read(read)

    async def read(self, after: int, upto: int, records_max: int, bytes_max: int) -> list[Published]:
        def read(db: sqlite3.Connection) -> list[Published]:
            rows = db.execute(
                """SELECT p.position, r.event, CAST(r.data AS BLOB) FROM publications p
                   JOIN records r ON r.number = p.number
                   WHERE p.position > ? AND p.position <= ? ORDER BY p.position LIMIT ?""",
                (after, upto, records_max),
            )
            return _page((Published(*row) for row in rows), bytes_max)

        return await self._read(read)

    async def span_bytes(self, after: int, upto: int) -> int:
        (size,) = await self._row(
            """SELECT coalesce((SELECT total_bytes FROM publications WHERE position = ?), 0)
                    - coalesce((SELECT total_bytes FROM publications WHERE position = ?), 0)""",
            upto,
            after,
        )
        return int(size)

    async def number_of(self, event: str, uuid: UUID) -> int | None:
        row = await self._row("SELECT number FROM records WHERE uuid = ? AND event = ?", uuid.bytes, event)
        return None if row is None else int(row[0])

    async def log_end(self, event: str, after: int | None, records_max: int | None, descending: bool) -> LogPage:
        where, order = _direction(after, descending)

        def read(db: sqlite3.Connection) -> LogPage:
            if records_max is None:  # the last of all, found from the other end
                other = "ASC" if descending else "DESC"
                select = f"SELECT number, uuid FROM records WHERE event = ? {where} ORDER BY number {other} LIMIT 1"  # noqa: S608
                rows = db.execute(select, [event, *_given(after)]).fetchall()
                more = False
            else:
                select = f"SELECT number, uuid FROM records WHERE event = ? {where} ORDER BY number {order} LIMIT ?"  # noqa: S608
                rows = db.execute(select, [event, *_given(after), records_max + 1]).fetchall()
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
                [event, *_given(after), last],
            )
            return _page(map(record_of, rows), bytes_max)

        return await self._read(read)

    async def user_by_name(self, username: str) -> User | None:
        return await self._user("username_key = ?", username_key(username))

    async def user_by_id(self, user_id: str) -> User | None:
        return await self._user("id = ?", user_id)

    async def _user(self, where: str, value: str) -> User | None:
        row = await self._row(f"SELECT {_USER_COLUMNS} FROM users WHERE {where}", value)  # noqa: S608
        if row is None:
            return None
        user_id, username, info, password_hash, gen, disabled = row
        return User(user_id, username, info, password_hash, gen, bool(disabled))

    async def _row(self, select: str, *values: Any) -> Any:
        return await self._read(lambda db: db.execute(select, values).fetchone())

    async def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        if self._stopping:
            raise Unavailable("the server is stopping; ask again in a moment")
        try:
            return await self._loop.run_in_executor(self._readers, self._run_read, work)
        except sqlite3.Error as error:
            raise _translate(error) from error

    def _run_read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            self._connections.append(connection)
        return work(connection)

    # Opening

    def _open(self) -> sqlite3.Connection:
        """The writer's connection, migrated."""
        if sqlite3.sqlite_version_info < _SQLITE_MIN:
            raise SettingsError(f"SQLite is {sqlite3.sqlite_version}; Broker needs 3.35 or newer")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # Password hashes are in it: for this user alone. SQLite gives its other files the same mode.
            os.close(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600))
            connection = self._connect()
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")  # durable before told: also when the power goes
                _migrate(connection, self._file)
            except BaseException:
                connection.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise SettingsError(f"cannot use {self._file}: {error}") from error
        return connection

    def _connect(self) -> sqlite3.Connection:
        # Used by one thread, closed by another after that one has ended.
        return sqlite3.connect(self._file, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)


def _migrate(connection: sqlite3.Connection, file: Path) -> None:
    migrations = sorted(
        (each for each in (resources.files("broker.store") / "migrations/sqlite").iterdir()), key=lambda each: each.name
    )
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(migrations):
            raise SettingsError(
                f"{file} was written by a newer Broker (schema {version}, this one knows {len(migrations)}); "
                "update Broker, or start with another --data folder"
            )
        for number, migration in enumerate(migrations[version:], version + 1):
            for statement in _statements(migration.read_text()):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
            logger.debug("migrated %s to schema %d", file, number)
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise


def _statements(script: str) -> Iterable[str]:
    """``executescript`` would commit the transaction first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _attempt(work: Callable[[Transaction], Any], transaction: Transaction) -> Any:
    try:
        return work(transaction)
    except BrokerError as error:
        return error


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            logger.exception("rolling back")


def _translate(error: Exception) -> BrokerError:
    logger.error("the store failed: %s: %s", type(error).__name__, error)
    if isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
        return InsufficientStorage("the disk is full; free some space", retry_after_s=10)
    return Unavailable("the store cannot be used for now; send this again in a moment (it may have been stored)")


def _page(items: Iterable[Any], bytes_max: int) -> list[Any]:
    """At least one, then as many as fit."""
    page, size = [], 0
    for item in items:
        page.append(item)
        size += len(item.data) + _RECORD_BYTES
        if size >= bytes_max:
            break
    return page


def _direction(after: int | None, descending: bool, number: str = "number") -> tuple[str, str]:
    where = "" if after is None else f"AND {number} {'<' if descending else '>'} ?"
    return where, "DESC" if descending else "ASC"


def _given(after: int | None) -> list[int]:
    return [] if after is None else [after]
