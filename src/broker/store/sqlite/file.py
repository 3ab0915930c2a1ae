"""An SQLite file: how it is opened, locked, migrated and watched, and what becomes of its errors."""

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
_BUSY_MS = 5_000  # another program (a backup, a shell) may hold the lock for so long before a write is refused


def connect(file: Path) -> sqlite3.Connection:
    """Never makes the file: in place of a log that was removed, an empty one would only hide that."""
    return sqlite3.connect(
        f"file://{quote(str(file.absolute()))}?mode=rw",  # // and no host before the path, which may begin with // too
        uri=True,
        isolation_level=None,
        check_same_thread=False,  # one thread uses it, and another closes it after that one has ended
        timeout=_BUSY_MS / 1000,
        # There is a statement for each number of rows, which are more than the 128 that sqlite3 keeps by default.
        cached_statements=512,
    )


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Holds the folder's lock, so that one server, import, restore or move works on the log at a time: none of them
    expects another writer. The system releases the lock with the process, however that ends. Raises SettingsError."""
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
    """The writer's connection, to a log of the newest schema. Makes the file if there is none.

    Raises SettingsError if the file cannot be used; also, without ``also_moved``, if the log has moved away."""
    if sqlite3.sqlite_version_info < _SQLITE_MIN:
        raise SettingsError(f"SQLite is {sqlite3.sqlite_version}; Broker needs 3.35 or newer")
    if_damaged = (
        f"keep a copy of it and of {file.name}-wal, see what is wrong with `broker verify`, "
        "and put back your last backup with `broker restore`"
    )
    with refusing(f"use {file}", if_damaged=if_damaged), contextlib.ExitStack() as on_failure:
        file.parent.mkdir(parents=True, exist_ok=True)
        # For this user alone, because password hashes are in it. SQLite gives its other files the same mode.
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
        # Lets the file shrink when rows are removed from it, a little at a time. SQLite heeds this only before the
        # first page is written, which the next statement does. Not on a log that exists: it would be written to before
        # it was checked, and a damaged file must stay as it is for those who examine it.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    # Each commit is synced before it returns, so that what is acknowledged also survives a power cut.
    connection.execute("PRAGMA synchronous = FULL")


def _check_ends(connection: sqlite3.Connection) -> None:
    """Compares the counters with the ends of the log, which takes no time. ``broker verify`` checks all of it."""
    last_number, head, top_number, top_position = connection.execute(
        """SELECT last_number, head, (SELECT coalesce(max(number), 0) FROM records),
                  (SELECT coalesce(max(position), 0) FROM publications) FROM state"""
    ).fetchone()
    if (last_number, head) != (top_number, top_position):
        raise damage(
            f"it counts {last_number} records and {head} publications, and has {top_number} and {top_position}"
        )


class Identity:
    """Which files a connection writes to. Linux continues to write into a file that was removed or replaced, so what is
    acknowledged from then on would be lost when the process ends."""

    def __init__(self, file: Path) -> None:
        self._inodes = {path: _inode(path) for path in (file, file.with_name(file.name + "-wal"))}

    def check(self) -> None:
        """Raises Replaced if the paths lead to other files now. It costs two system calls."""
        for path, inode in self._inodes.items():
            if _inode(path) != inode:
                raise Replaced(
                    f"{path} is not the file any more that this server has open: put it back, or start again"
                )

    def holds(self) -> bool:
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
    """The version of the log's schema. Raises SettingsError if a newer Broker has written it."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    MIGRATIONS.check(version, str(file), "update Broker, or give another --data folder")
    return int(version)


def _migrate(connection: sqlite3.Connection, file: Path) -> None:
    """All that is missing in one transaction: a crash leaves the version that was there, or the newest."""
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
    """The script's statements one by one, because ``executescript`` would first commit the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def roll_back(connection: sqlite3.Connection) -> None:
    """Ends the transaction, if there is one. Raises nothing: the caller has an error of its own to raise."""
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            logger.exception("rolling back")


class SQLiteOutage(Outage):
    """Mutable state, beside that of ``Outage``: the error that showed that the database is damaged. Several threads set
    it; any one of their errors will do."""

    def __init__(self, file: Path) -> None:
        super().__init__(str(file))
        self._file = file
        self._damage: Exception | None = None
        self._identity: Identity | None = None

    def watch(self, identity: Identity) -> None:
        """From now on damage is remembered as long as these are the files. If another file was put in their place for a
        time, its damage does not matter."""
        self._identity = identity

    def check(self) -> None:
        """Raises the error again that showed damage. A damaged database does not heal, and whatever would still be
        acknowledged in it would be lost with it."""
        if self._damage is not None:
            raise self._damage.with_traceback(None)

    def translate(self, error: Exception) -> BrokerError:
        """Returns what a caller may know about a failure. The details are in the log."""
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
        """Whether a file can still grow. SQLite reports an exhausted quota or a limit of file size as it reports any
        other write that failed, so only a write of our own can tell them apart."""
        try:
            # The probe must be as long as the largest of the files, or a limit of file size does not concern it.
            end = max(path.stat().st_size for path in self._file.parent.glob(self._file.name + "*"))
            with tempfile.TemporaryFile(dir=self._file.parent) as probe:
                probe.seek(end)
                probe.write(bytes(_PROBE_BYTES))
                probe.flush()
                os.fsync(probe.fileno())
        except (OSError, ValueError) as error:
            return getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return True
