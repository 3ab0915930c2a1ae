"""An SQLite file: how it is opened, locked, migrated and watched, and how its errors are reported."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from broker.errors import BrokerError, SettingsError
from broker.settings import KIB
from broker.store.migrations import Migrations
from broker.store.outage import FULL_ADVICE, Outage, fault, full, relocated_to, unreachable
from broker.store.sqlite.errors import Meaning, advice_for, damage, meaning_of, refusing

logger = logging.getLogger("broker.store")

MIGRATIONS = Migrations("broker.store.sqlite")

_SQLITE_MIN = (3, 35, 0)
_PROBE_BYTES = 64 * KIB
_BUSY_MS = 5_000  # how long a write waits for a lock of another program (a backup, a shell) before it is refused


def connect(file: Path) -> sqlite3.Connection:
    """Opens a file that exists, and never makes one. If a log was removed, an empty file in its place would only hide
    that."""
    return sqlite3.connect(
        # The URL has // and an empty host before the path, because the path may begin with // itself.
        f"file://{quote(str(file.absolute()))}?mode=rw",
        uri=True,
        isolation_level=None,
        # One thread uses the connection, and after that thread has ended, another thread closes it.
        check_same_thread=False,
        timeout=_BUSY_MS / 1000,
        # The statements differ by the number of their rows, so there may be more of them than the 128 that sqlite3
        # keeps by default.
        cached_statements=512,
    )


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Holds the folder's lock, so that only one server, import, restore or move works on the log at a time: none of
    them expects another writer. The system releases the lock when the process ends, in whatever way it ends. Raises
    SettingsError if another process holds the lock, or if the folder cannot be used."""
    path = file.with_name("broker.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"cannot use {file}: {error.strerror} ({path})") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(
                f"another Broker works on {file}; stop it first, or give another --data folder"
            ) from None
        yield
    finally:
        os.close(descriptor)


def open_database(file: Path, *, also_moved: bool = False) -> sqlite3.Connection:
    """Returns the writer's connection, to a log with the newest schema. Makes the file if there is none.

    Raises SettingsError if the file cannot be used, and, unless ``also_moved`` is set, if the log has moved away."""
    if sqlite3.sqlite_version_info < _SQLITE_MIN:
        raise SettingsError(f"SQLite is {sqlite3.sqlite_version}; Broker needs 3.35 or newer")
    if_damaged = (
        f"keep a copy of it and of {file.name}-wal, see what is wrong with `broker verify`, "
        "and put back your last backup with `broker restore`"
    )
    with refusing(f"use {file}", if_damaged=if_damaged), contextlib.ExitStack() as on_failure:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Only this user can read the file, because it contains password hashes. SQLite gives its other files the same
        # mode.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        connection = connect(file)
        on_failure.callback(connection.close)
        _set_up(connection)
        _migrate(connection, file)
        _check_ends(connection)
        moved, arrived = connection.execute("SELECT moved, arrived FROM state").fetchone()
        if moved is not None and not also_moved:
            raise SettingsError(relocated_to(str(file.parent), moved, bool(arrived)))
        on_failure.pop_all()
    return connection


def _set_up(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA page_count").fetchone() == (0,):
        # This setting lets the file shrink in small steps when rows are removed. SQLite accepts it only before the
        # first page is written, which the next statement does. It is not set on a log that exists: that would write to
        # the log before it was checked, and a damaged file must stay as it is for those who examine it.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    # Each commit is synced before it returns, so that what is acknowledged also survives a power cut.
    connection.execute("PRAGMA synchronous = FULL")


def _check_ends(connection: sqlite3.Connection) -> None:
    """Compares the counters with the last record and the last publication, which takes hardly any time. ``broker
    verify`` checks the whole log."""
    last_number, head, top_number, top_position = connection.execute(
        """SELECT last_number, head, (SELECT coalesce(max(number), 0) FROM records),
                  (SELECT coalesce(max(position), 0) FROM publications) FROM state"""
    ).fetchone()
    if (last_number, head) != (top_number, top_position):
        raise damage(
            f"it counts {last_number} records and {head} publications, and has {top_number} and {top_position}"
        )


class Identity:
    """Which files a connection writes to. If a file is removed or replaced, Linux lets the connection continue to write
    into the old file, so whatever is acknowledged from then on would be lost when the process ends."""

    def __init__(self, file: Path) -> None:
        self._inodes = {path: _inode(path) for path in (file, file.with_name(file.name + "-wal"))}

    def check(self) -> None:
        """Raises Replaced if the paths no longer lead to the same files. It costs two system calls."""
        for path, inode in self._inodes.items():
            if _inode(path) != inode:
                raise Replaced(
                    f"{path} is not the file any more that this server has open: put it back, or start again"
                )

    def holds(self) -> bool:
        """Returns whether the paths still lead to the same files."""
        return all(_inode(path) == inode for path, inode in self._inodes.items())


class Replaced(Exception):
    """The database, or its write-ahead log, was removed or replaced while it was open."""


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def schema_version(connection: sqlite3.Connection, file: Path) -> int:
    """Returns the version of the log's schema. Raises SettingsError if a newer Broker has written the log."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    MIGRATIONS.check(version, str(file), "update Broker, or give another --data folder")
    return int(version)


def _migrate(connection: sqlite3.Connection, file: Path) -> None:
    """Runs all missing scripts in one transaction, so that a crash leaves either the old version of the schema or the
    newest."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number, script in MIGRATIONS.after(schema_version(connection, file)):
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
            logger.debug("migrated %s to schema %d", file, number)
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def _statements(script: str) -> Iterable[str]:
    """Yields the script's statements one by one, because ``executescript`` would first commit the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def roll_back(connection: sqlite3.Connection) -> None:
    """Rolls back the transaction, if there is one. Raises nothing, because the caller may have an error of its own to
    raise."""
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            logger.exception("rolling back")


class SQLiteOutage(Outage):
    """Translates and reports the failures of an SQLite file.

    Mutable state, in addition to that of ``Outage``: the files that are watched, and the error that showed that the
    database is damaged. Several threads set that error without a lock, because it does not matter which of their errors
    is kept."""

    def __init__(self, file: Path) -> None:
        super().__init__(str(file))
        self._file = file
        self._damage: Exception | None = None
        self._identity: Identity | None = None

    def watch(self, identity: Identity) -> None:
        """From now on, damage is remembered if the paths still lead to these files. If another file was put in their
        place for a time, its damage does not matter."""
        self._identity = identity

    def check(self) -> None:
        """If an error has shown that the database is damaged, raises that error again. A damaged database does not
        repair itself, and whatever would still be acknowledged in it would be lost with it."""
        if self._damage is not None:
            raise self._damage.with_traceback(None)

    def translate(self, error: Exception) -> BrokerError:
        """Returns the error that a caller gets after a failure, and reports the details in the server's log."""
        if isinstance(error, sqlite3.DataError | sqlite3.IntegrityError | ValueError | TypeError | OverflowError):
            return fault(error)
        meaning = meaning_of(error)
        if meaning is Meaning.DAMAGED and self._identity is not None and self._identity.holds():
            self._damage = error
        if meaning is Meaning.FULL or (meaning is Meaning.NOT_WRITTEN and not self._has_room()):
            self.report(error, FULL_ADVICE)
            return full()
        self.report(error, advice_for(meaning))
        return unreachable()

    def _has_room(self) -> bool:
        """Returns whether a file can still grow. SQLite reports an exhausted quota, or a limit of the file size, in the
        same way as any other write that failed, so only an attempt to write can distinguish them."""
        try:
            # A limit of the file size affects only a file that reaches it, so the probe must be as long as the largest
            # of the files.
            end = max(path.stat().st_size for path in self._file.parent.glob(self._file.name + "*"))
            with tempfile.TemporaryFile(dir=self._file.parent) as probe:
                probe.seek(end)
                probe.write(bytes(_PROBE_BYTES))
                probe.flush()
                os.fsync(probe.fileno())
        except (OSError, ValueError) as error:
            return getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return True
