"""``broker move`` from and to a folder."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from broker.errors import SettingsError
from broker.operations.backup import new_file, sync
from broker.operations.content import AGAIN, COPIED, Content, Mark, NotCommitted, Signing
from broker.operations.verify import reading
from broker.store.confirmation import unconfirmed
from broker.store.sqlite.errors import refusing
from broker.store.sqlite.file import locked, open_database, roll_back
from broker.store.sqlite.secret import keep_secret, read_secret
from broker.store.sqlite.statements import SQLiteTables


class _SQLiteLog:
    """What the source and the target have in common. Mutable state: the connection."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder.resolve())
        self._folder = folder
        self._file = folder / "broker.db"
        self._log: sqlite3.Connection

    def content(self) -> Content:
        with self._refusing():
            return _content(self._log)

    def _refusing(self, advice: str = "nothing was moved") -> AbstractContextManager[None]:
        return refusing(f"use {self._folder}", advice)


class SQLiteSource(_SQLiteLog):
    """Implements ``move.Source``.

    The connection has one transaction, which reads the log and sets the mark."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with reading(self._file):  # a folder without a log is refused before anything is made in the target
            pass

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with locked(self._file), contextlib.closing(open_database(self._file, also_moved=True)) as self._log:
            if reason := unconfirmed(self._folder):
                raise SettingsError(reason)
            with self._refusing():
                self._log.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                roll_back(self._log)

    def mark(self) -> Mark:
        with self._refusing():
            return Mark(*self._log.execute("SELECT moved, arrived FROM state").fetchone())

    def signing(self) -> Signing:
        file = self._folder / "token-secret"
        with self._refusing():
            (salt,) = self._log.execute("SELECT token_salt FROM state").fetchone()
        return Signing(read_secret(file) if file.exists() else None, salt)

    def rows(self, table: str) -> Generator[tuple[Any, ...]]:
        with self._refusing("`broker verify` says more"):
            yield from self._log.execute(f"SELECT {', '.join(COPIED[table])} FROM {table}")  # noqa: S608 (constants)

    def put_mark(self, mark: Mark) -> None:
        with self._refusing(AGAIN):
            self._log.execute("UPDATE state SET moved = ?, arrived = ?", mark)
            # The first mark commits the transaction that has read the log. Later ones commit by themselves.
            if self._log.in_transaction:
                self._log.execute("COMMIT")


class SQLiteTarget(_SQLiteLog):
    """Implements ``move.Target``. It fills a new file under another name. The commit gives the file its name, so that
    this is the only step that can still fail then.

    Mutable state, in addition: the new file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._new = contextlib.ExitStack()  # when it is closed without an error, the new file gets its name

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with locked(self._file), self._new:
            yield

    def begin(self) -> Content | None:
        if self._file.exists():
            with reading(self._file) as log:
                return _content(log)
        part = self._new.enter_context(new_file(self._file))
        self._log = self._new.enter_context(contextlib.closing(open_database(part)))
        # The file is discarded if anything fails, and synced as a whole before it gets its name. So it needs neither a
        # journal nor syncs of its own, which makes it faster.
        self._log.execute("PRAGMA journal_mode = OFF")
        self._log.execute("PRAGMA synchronous = OFF")
        self._log.execute("BEGIN")
        return None

    def fill(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * len(COPIED[table]))
        self._log.executemany(
            f"INSERT INTO {table} ({', '.join(COPIED[table])}) VALUES ({marks})",  # noqa: S608 (constants only)
            rows,
        )

    def finish(self, content: Content, signing: Signing) -> None:
        self._log.execute("DELETE FROM epochs")
        self._log.executemany("INSERT INTO epochs VALUES (?, ?)", content.epochs.items())
        SQLiteTables(self._log).put_counters(content.counters)
        self._log.execute("UPDATE state SET token_salt = ?", (signing.salt,))
        self._log.execute("COMMIT")
        if signing.secret is not None:
            keep_secret(self._folder / "token-secret", signing.secret)
        for folder in (self._folder, self._folder.resolve().parent):  # the folder itself may be new
            sync(folder)

    def commit(self) -> None:
        try:
            self._new.close()
        except SettingsError as error:
            if not self._file.exists():  # this is certain, because the folder's lock is held
                raise NotCommitted(str(error)) from error
            raise SettingsError(f"{error}; {AGAIN}") from error


def _content(log: sqlite3.Connection) -> Content:
    return Content(
        {table: log.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in COPIED},  # noqa: S608
        log.execute("SELECT coalesce(sum(length(CAST(data AS BLOB))), 0) FROM records").fetchone()[0],
        SQLiteTables(log).counters(),
        SQLiteTables(log).epochs(),
    )
