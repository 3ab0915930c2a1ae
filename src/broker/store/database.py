"""An SQLite file: how it is opened, migrated, and what its errors mean."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from broker.errors import BrokerError, InsufficientStorage, SettingsError, Unavailable

logger = logging.getLogger("broker.store")

_SQLITE_MIN = (3, 35, 0)
_BUSY_MS = 5_000  # another program (a backup, a shell) may hold the lock this long before a write is refused


def connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        file,
        isolation_level=None,
        check_same_thread=False,  # used by one thread, closed by another after that one has ended
        timeout=_BUSY_MS / 1000,
        cached_statements=512,  # a statement for each number of rows; 128 by default: fewer than there are
    )


def open_database(file: Path) -> sqlite3.Connection:
    """The writer's connection, migrated. Raises SettingsError."""
    if sqlite3.sqlite_version_info < _SQLITE_MIN:
        raise SettingsError(f"SQLite is {sqlite3.sqlite_version}; Broker needs 3.35 or newer")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Password hashes are in it: for this user alone. SQLite gives its other files the same mode.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        connection = connect(file)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # durable before told: also when the power goes
            _migrate(connection, file)
        except BaseException:
            connection.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(f"cannot use {file}: {error}") from error
    return connection


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
        roll_back(connection)
        raise


def _statements(script: str) -> Iterable[str]:
    """``executescript`` would commit the transaction first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            logger.exception("rolling back")


def translate(error: Exception) -> BrokerError:
    """What a caller may know of a failure; the log has it all."""
    logger.error("the store failed: %s: %s", type(error).__name__, error)
    if isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
        return InsufficientStorage("the disk is full; free some space", retry_after_s=10)
    return Unavailable("the store cannot be used for now; send this again in a moment (it may have been stored)")
