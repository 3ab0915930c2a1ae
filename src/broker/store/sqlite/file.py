"""An SQLite file: how it is opened, migrated, and what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from broker.errors import BrokerError, SettingsError
from broker.settings import KIB
from broker.store.outage import FULL_ADVICE, Outage, away, fault, full, moved_to

logger = logging.getLogger("broker.store")

_SQLITE_MIN = (3, 35, 0)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_ADVICE = {
    sqlite3.SQLITE_BUSY: "another program holds the database's lock: close it",
    sqlite3.SQLITE_READONLY: "make the folder and its files writable for this user",
    **dict.fromkeys(_DAMAGED, "stop Broker, look with `broker verify`, and put your last backup back"),
}
_PROBE_BYTES = 64 * KIB
_BUSY_MS = 5_000  # another program (a backup, a shell) may hold the lock this long before a write is refused


def connect(file: Path) -> sqlite3.Connection:
    """Never makes the file: in place of one that was removed, an empty one would only hide that."""
    return sqlite3.connect(
        f"file://{quote(str(file.absolute()))}?mode=rw",  # // and no host before the path, which may begin with // too
        uri=True,
        isolation_level=None,
        check_same_thread=False,  # used by one thread, closed by another after that one has ended
        timeout=_BUSY_MS / 1000,
        cached_statements=512,  # a statement for each number of rows; 128 by default: fewer than there are
    )


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """One server, import or restore at a time: each knows of no other writer. The system lets go of it with the
    process. Raises SettingsError."""
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
    """The writer's connection, migrated. Raises SettingsError, unless ``also_moved`` also for a log that has moved."""
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
            _look_over(connection)
            moved, arrived = connection.execute("SELECT moved, arrived FROM state").fetchone()
            if moved is not None and not also_moved:
                raise SettingsError(moved_to(str(file.parent), moved, bool(arrived)))
        except BaseException:
            connection.close()
            raise
    except (OSError, sqlite3.Error) as error:
        if _code(error) in _DAMAGED:
            raise SettingsError(
                f"{file} is damaged ({error}). Keep a copy of it and of {file.name}-wal, see what is wrong with "
                "`broker verify`, and put back your last backup with `broker restore`"
            ) from error
        raise SettingsError(f"cannot use {file}: {error}") from error
    return connection


def _look_over(connection: sqlite3.Connection) -> None:
    """The ends of the log, which costs nothing; all of it is for ``broker verify``."""
    last_number, head, top_number, top_position = connection.execute(
        """SELECT last_number, head, (SELECT coalesce(max(number), 0) FROM records),
                  (SELECT coalesce(max(position), 0) FROM publications) FROM state"""
    ).fetchone()
    if (last_number, head) != (top_number, top_position):
        error = sqlite3.DatabaseError(
            f"it counts {last_number} records and {head} publications, and has {top_number} and {top_position}"
        )
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


class Identity:
    """Which files a connection writes to. Linux goes on writing into a file that was removed or replaced, and what is
    acknowledged then would be gone with the process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._files = {path: _inode(path) for path in (file, file.with_name(file.name + "-wal"))}

    def check(self) -> None:
        """Raises Gone; two system calls."""
        for path, inode in self._files.items():
            if _inode(path) != inode:
                raise Gone(f"{path} is not the file any more that this server has open: put it back, or start again")

    def holds(self) -> bool:
        return all(_inode(path) == inode for path, inode in self._files.items())


class Gone(Exception):
    """The database was removed or replaced."""


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def migrations() -> list[str]:
    """The scripts that make the schema, from the first version to the newest."""
    folder = resources.files("broker.store.sqlite") / "migrations"
    return [each.read_text("utf-8") for each in sorted(folder.iterdir(), key=lambda each: each.name)]


def schema_version(connection: sqlite3.Connection, file: Path) -> int:
    """Of the log. Raises SettingsError for one that a newer Broker has written: there may be what this one would
    overlook, in a copy, too."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    known = len(migrations())
    if version > known:
        raise SettingsError(
            f"{file} was written by a newer Broker (schema {version}, this one knows {known}); "
            "update Broker, or give another --data folder"
        )
    return int(version)


def _migrate(connection: sqlite3.Connection, file: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = schema_version(connection, file)
        for number, migration in enumerate(migrations()[version:], version + 1):
            for statement in _statements(migration):
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


class SQLiteOutage(Outage):
    """Mutable state: whether the database is damaged; set by several threads."""

    def __init__(self, file: Path) -> None:
        super().__init__(str(file))
        self._file = file
        self._damage: Exception | None = None
        self._identity: Identity | None = None

    def watch(self, identity: Identity) -> None:
        """Damage counts while these are the files: one that was put in their place for a time does not matter."""
        self._identity = identity

    def check(self) -> None:
        """Raises what was once found damaged: it does not heal, and what would be acknowledged from there on would
        be lost with it."""
        if self._damage is not None:
            raise self._damage.with_traceback(None)

    def translate(self, error: Exception) -> BrokerError:
        """What a caller may know of a failure; the log has it all."""
        code = _code(error)
        if isinstance(error, sqlite3.DataError | sqlite3.IntegrityError | ValueError | TypeError | OverflowError):
            return fault(error)
        if code in _DAMAGED and self._identity is not None and self._identity.holds():
            self._damage = error
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and not self._has_room()):
            self.tell(error, FULL_ADVICE)
            return full()
        self.tell(error, _ADVICE.get(code, "inserts go on by themselves when it can be written again"))
        return away()

    def _has_room(self) -> bool:
        """SQLite tells a quota and a limit of file size as any other failure to write; the disk tells them apart."""
        try:
            end = max(each.stat().st_size for each in self._file.parent.glob(self._file.name + "*"))
            with tempfile.TemporaryFile(dir=self._file.parent) as probe:
                probe.seek(end)
                probe.write(bytes(_PROBE_BYTES))
                probe.flush()
                os.fsync(probe.fileno())
        except (OSError, ValueError) as error:
            return getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return True


def _code(error: Exception) -> int:
    """SQLite's primary result code; 0 for other errors."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF if isinstance(error, sqlite3.Error) else 0
