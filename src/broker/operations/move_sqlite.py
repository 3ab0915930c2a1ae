"""``broker move`` from and to a folder."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from broker.errors import SettingsError
from broker.operations.backup import new_file, sync
from broker.operations.content import AGAIN, COPIED, Content, Mark, NotCommitted
from broker.operations.verify import reading
from broker.store.sqlite.file import locked, open_database, roll_back
from broker.store.sqlite.secret import keep_secret, read_secret
from broker.store.sqlite.tables import SQLiteTables


class SQLiteSource:
    """See ``copy.Source``. Mutable state: its connection, with the one transaction that reads and marks."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder.resolve())
        self._folder = folder
        self._log: sqlite3.Connection
        with reading(folder / "broker.db"):  # before anything is made or waits
            pass

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        file = self._folder / "broker.db"
        with locked(file), contextlib.closing(open_database(file, also_moved=True)) as self._log:
            with self._telling():
                self._log.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                roll_back(self._log)

    def content(self) -> Content:
        with self._telling():
            return _content(self._log)

    def mark(self) -> Mark:
        with self._telling():
            moved, arrived = self._log.execute("SELECT moved, arrived FROM state").fetchone()
        return Mark(moved, bool(arrived))

    def secret(self) -> str | None:
        file = self._folder / "token-secret"
        return read_secret(file) if file.exists() else None  # it may be given as a setting

    def rows(self, table: str) -> Generator[tuple[Any, ...]]:
        with self._telling("`broker verify` tells more"):
            yield from self._log.execute(f"SELECT {', '.join(COPIED[table])} FROM {table}")  # noqa: S608 (constants)

    def put_mark(self, mark: Mark) -> None:
        with self._telling(AGAIN):
            self._log.execute("UPDATE state SET moved = ?, arrived = ?", mark)
            if self._log.in_transaction:
                self._log.execute("COMMIT")

    @contextlib.contextmanager
    def _telling(self, advice: str = "nothing was moved") -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise SettingsError(f"cannot use {self._folder}: {error}; {advice}") from error


class SQLiteTarget:
    """See ``copy.Target``. A new file is filled, which is given its name at the commit: nothing is left to fail then
    but that. Mutable state: its connection, the file."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder.resolve())
        self._folder = folder
        self._file = folder / "broker.db"
        self._new = contextlib.ExitStack()
        self._log: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with locked(self._file), self._new:
            yield

    def found(self) -> Content | None:
        if not self._file.exists():
            wal = self._file.with_name(self._file.name + "-wal")
            if wal.exists():  # SQLite would take it for the new file's
                raise SettingsError(
                    f"{wal} is there, of another log: move it to that log's broker.db, or give another folder"
                )
            return None
        with reading(self._file) as log:
            return _content(log)

    def fill(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        if self._log is None:
            self._log = self._begin()
        marks = ", ".join("?" * len(COPIED[table]))
        self._log.executemany(
            f"INSERT INTO {table} ({', '.join(COPIED[table])}) VALUES ({marks})",  # noqa: S608 (constants only)
            rows,
        )

    def _begin(self) -> sqlite3.Connection:
        part = self._new.enter_context(new_file(self._file))
        log = self._new.enter_context(contextlib.closing(open_database(part)))
        # It is thrown away if anything goes wrong, and synced as a whole before it has its name.
        log.execute("PRAGMA journal_mode = OFF")
        log.execute("PRAGMA synchronous = OFF")
        log.execute("BEGIN")
        return log

    def finish(self, content: Content, secret: str | None) -> None:
        assert self._log is not None
        self._log.execute("DELETE FROM epochs")
        self._log.executemany("INSERT INTO epochs VALUES (?, ?)", content.epochs.items())
        SQLiteTables(self._log).put_counters(content.counters)
        self._log.execute("COMMIT")
        if secret is not None:
            keep_secret(self._folder / "token-secret", secret)
        for folder in (self._folder, self._folder.resolve().parent):  # it may be new
            sync(folder)

    def content(self) -> Content:
        assert self._log is not None
        return _content(self._log)

    def commit(self) -> None:
        try:
            self._new.close()
        except SettingsError as error:
            if not self._file.exists():
                raise NotCommitted(str(error)) from error
            raise SettingsError(f"{error}; {AGAIN}") from error


def _content(log: sqlite3.Connection) -> Content:
    return Content(
        {table: log.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in COPIED},  # noqa: S608
        log.execute("SELECT coalesce(sum(length(CAST(data AS BLOB))), 0) FROM records").fetchone()[0],
        SQLiteTables(log).counters(),
        dict(log.execute("SELECT epoch, ended FROM epochs")),
    )
