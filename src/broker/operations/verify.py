"""``broker verify``: walks an SQLite log and checks every invariant that its rows can show (DESIGN section 3)."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import msgspec

from broker import raw_json
from broker.errors import BadRequest, SettingsError
from broker.names import check_name
from broker.records import parse_timestamp
from broker.store.sqlite.file import connect, migrations, schema_version
from broker.users import check_username, username_key

RESTORE = "put your last good backup in its place with `broker restore`"

_TELL_EVERY = 1_000  # records
_TABLES = frozenset({"records", "publications", "cancellations", "pending", "events", "state", "epochs", "users"})
_MAGIC = b"SQLite format 3\0"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_NOT_PERMITTED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
# What the values of a damaged row raise when they are read.
_UNREADABLE = (BadRequest, ValueError, TypeError, AttributeError)

# As argon2 writes it (its memory below 1 GiB): what it cannot take, it answers with an error at each login.
_PASSWORD_HASH = re.compile(
    r"\$argon2(?:id|i|d)\$v=(?:16|19)\$m=([1-9][0-9]{0,5}),t=[1-9][0-9]{0,2},p=([1-9][0-9]?)"
    r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{6,86})\Z"
)

_json = msgspec.json.Decoder(msgspec.Raw)

# Each finds what must not be: a row of its text for each fault.
_FAULTS = (
    ("a record is log-only neither with 0 nor with 1",
     "SELECT number FROM records WHERE log_only NOT IN (0, 1)"),
    ("a record is published and cancelled",
     "SELECT number FROM publications JOIN cancellations USING (number)"),
    ("a log-only record is published or cancelled",
     """SELECT number FROM records WHERE log_only AND (number IN (SELECT number FROM publications)
        OR number IN (SELECT number FROM cancellations))"""),
    ("a publication or a cancellation has no record",
     """SELECT number FROM (SELECT number FROM publications UNION ALL SELECT number FROM cancellations)
        WHERE number NOT IN (SELECT number FROM records)"""),
    ("a record was published before its time",
     "SELECT number FROM publications JOIN records USING (number) WHERE published_us < due_us"),
    ("a record was cancelled when it was due already",
     "SELECT number FROM cancellations JOIN records USING (number) WHERE cancelled_us >= due_us"),
    ("a record waits that was published, cancelled or log-only",
     """SELECT number FROM pending WHERE number IN (SELECT number FROM publications)
        OR number IN (SELECT number FROM cancellations) OR number IN (SELECT number FROM records WHERE log_only)"""),
    ("a record waits for another time than its own, or is none",
     "SELECT p.number FROM pending p LEFT JOIN records r USING (number) WHERE p.due_us IS NOT r.due_us"),
    ("a record is neither published, cancelled, log-only nor waiting",
     """SELECT number FROM records WHERE NOT log_only AND number NOT IN (SELECT number FROM publications)
        AND number NOT IN (SELECT number FROM cancellations) AND number NOT IN (SELECT number FROM pending)"""),
    ("an event's latest is not its record with the highest position",
     """SELECT event FROM events e WHERE position IS NOT
        (SELECT max(p.position) FROM records r JOIN publications p USING (number) WHERE r.event = e.event)"""),
    ("an event's latest has another length than it says",
     """SELECT e.event FROM events e LEFT JOIN publications p USING (position) LEFT JOIN records r USING (number)
        WHERE e.bytes != coalesce(length(CAST(r.data AS BLOB)), 0)"""),
    ("an event has another number of waiting records than it says",
     """SELECT event FROM events LEFT JOIN
        (SELECT r.event, count(*) AS waiting FROM pending p JOIN records r USING (number) GROUP BY r.event)
        USING (event) WHERE pending != coalesce(waiting, 0)"""),
    ("an event has records that go out, and no row",
     "SELECT DISTINCT event FROM records WHERE NOT log_only AND event NOT IN (SELECT event FROM events) "
     "AND number NOT IN (SELECT number FROM cancellations)"),
    ("an event has a row, and no record that goes out",
     "SELECT event FROM events WHERE position IS NULL AND pending = 0"),
    # With nothing pending the latest's bytes. Else the most since something waits, which may have been cancelled, or
    # be the latest no more: what it was cannot be told from the rows, but it is the length of one of them.
    ("an event reserves another number of bytes than its records may need",
     """SELECT event FROM events e LEFT JOIN (
            SELECT r.event, max(length(CAST(r.data AS BLOB))) AS largest
            FROM pending p JOIN records r USING (number) GROUP BY r.event
        ) w USING (event)
        WHERE reserved < max(bytes, coalesce(largest, 0)) OR (pending = 0 AND reserved != bytes)
        OR (pending AND NOT EXISTS (
            SELECT 1 FROM records r
            WHERE r.event = e.event AND NOT r.log_only AND length(CAST(r.data AS BLOB)) = e.reserved
        ))"""),
    ("an epoch is not 8 hexadecimal digits",
     """SELECT epoch FROM epochs WHERE epoch IS NULL OR length(CAST(epoch AS BLOB)) != 8
        OR length(epoch) != 8 OR epoch GLOB '*[^0-9a-f]*'"""),
    ("an epoch ended at what is no position",
     "SELECT epoch FROM epochs WHERE ended < 0 OR typeof(ended) NOT IN ('integer', 'null')"),
    ("there is not exactly one current epoch",
     "SELECT count(*) FROM epochs WHERE ended IS NULL HAVING count(*) != 1"),
    ("an epoch ended beyond the head",
     "SELECT epoch FROM epochs, state WHERE ended > head"),
    ("there is not exactly one row of counters",
     "SELECT count(*) FROM state HAVING count(*) != 1"),
    ("the counters of the log are wrong (last_number, head, total_bytes, event_names, reserved_bytes)",
     """SELECT 'state' FROM state WHERE last_number != (SELECT coalesce(max(number), 0) FROM records)
        OR head != (SELECT coalesce(max(position), 0) FROM publications)
        OR total_bytes != coalesce((SELECT p.total_bytes FROM publications p ORDER BY position DESC LIMIT 1), 0)
        OR event_names != (SELECT count(*) FROM events)
        OR reserved_bytes != (SELECT coalesce(sum(reserved), 0) FROM events)"""),
)  # fmt: skip

# Each table with its columns, and each index with its: a row for each column.
_SCHEMA = """
    SELECT m.type, m.name, c.name, c.type || iif(c."notnull", ' NOT NULL', '') || iif(c.pk, ' KEY ' || c.pk, '')
    FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'
    UNION ALL
    SELECT m.type, m.name, c.name, 'on ' || m.tbl_name || ' ' || c.seqno
    FROM sqlite_master m, pragma_index_info(m.name) c WHERE m.type = 'index'
"""


class Fault(NamedTuple):
    """What is wrong, and where."""

    what: str
    where: str

    def __str__(self) -> str:
        # What is no UTF-8 in a damaged file cannot be printed as it is.
        return f"{self.what}: {self.where}".encode(errors="backslashreplace").decode()


def count(file: Path) -> int:
    """The records of a log. Raises SettingsError."""
    with reading(file) as log:
        return int(log.execute("SELECT count(*) FROM records").fetchone()[0])


def verify(file: Path, done: Callable[[int], None]) -> Iterator[Fault]:
    """All that is wrong. ``done`` hears of so many more records that were looked at. Raises SettingsError."""
    with reading(file) as log:
        log.execute("BEGIN")  # one moment for all, also while a server writes
        for (text,) in log.execute("PRAGMA integrity_check(20)"):
            if text != "ok":
                yield Fault("the file is damaged", text)
        yield from _compare_schema(log)
        yield from find_faults(log, done)


def find_faults(log: sqlite3.Connection, done: Callable[[int], None]) -> Iterator[Fault]:
    """What is wrong with the rows, in the transaction that the connection has begun."""
    yield from _walk_users(log)
    yield from _walk_records(log, done)
    yield from _walk_positions(log)
    for what, select in _FAULTS:
        for (where,) in log.execute(f"{select} LIMIT 5"):
            yield Fault(what, str(where))


def check_account(username: str, password_hash: str) -> None:
    """Raises BadRequest."""
    check_username(username)
    match = _PASSWORD_HASH.match(password_hash)
    if not match or int(match[1]) < 8 * int(match[2]) or not (_is_base64(match[3]) and _is_base64(match[4])):
        raise BadRequest("password_hash: this is no Argon2 hash")


def check_times(timestamp: str | None, due_us: int, inserted_us: int) -> None:
    """A record is due when its timestamp says, or else when it is inserted. Raises BadRequest."""
    if timestamp is None:
        if due_us != inserted_us:
            raise BadRequest(f"timestamp: there is none, and due_us ({due_us}) is not inserted_us ({inserted_us})")
        return
    says_us = parse_timestamp(timestamp)
    if not _is_json(timestamp):
        raise BadRequest(f"timestamp: {timestamp} is not written as a number of JSON")
    if due_us != says_us:
        raise BadRequest(f"timestamp: {timestamp} is {says_us} in microseconds, and due_us is {due_us}")


def _compare_schema(log: sqlite3.Connection) -> Iterator[Fault]:
    """With what the migrations make, up to the version that the log says it has."""
    scripts = migrations()
    (version,) = log.execute("PRAGMA user_version").fetchone()
    if not 0 < version <= len(scripts):
        yield Fault(f"the schema's version is none that this Broker knows (1 to {len(scripts)})", str(version))
        return
    with contextlib.closing(sqlite3.connect(":memory:")) as made:
        for migration in scripts[:version]:
            made.executescript(migration)
        missing = set(made.execute(_SCHEMA)) - set(log.execute(_SCHEMA))
    for kind, name in sorted({row[:2] for row in missing}):
        columns = ", ".join(sorted(column for *both, column, _ in missing if both == [kind, name]))
        yield Fault(f"the schema lacks (a part of) the {kind}", f"{name} ({columns})")


def _is_json(text: str) -> bool:
    try:
        return bytes(_json.decode(text)).decode() == text  # it takes away white space
    except msgspec.DecodeError:
        return False


def _is_base64(text: str) -> bool:
    """Without padding, and without bits that are left over: argon2 takes nothing else."""
    try:
        return base64.b64encode(base64.b64decode(text + "=" * (-len(text) % 4))).decode().rstrip("=") == text
    except ValueError:
        return False


def _walk_users(log: sqlite3.Connection) -> Iterator[Fault]:
    for user_id, username, key, password_hash, info in log.execute(
        "SELECT id, username, username_key, password_hash, CAST(info AS BLOB) FROM users"
    ):
        try:
            check_account(username, password_hash)
            raw_json.decode(_json, info, "info")
            if key != username_key(username):
                raise BadRequest(f"username_key: {key}, and the name is {username}")
        except _UNREADABLE as error:
            yield Fault(f"user {user_id} cannot be used", str(error))


def _walk_records(log: sqlite3.Connection, done: Callable[[int], None]) -> Iterator[Fault]:
    expected = 0
    for number, uuid, event, user, timestamp, due_us, inserted_us, cancelled_by, data in log.execute(
        """SELECT r.number, r.uuid, r.event, r.user, r.timestamp, r.due_us, r.inserted_us, c.user,
                  CAST(r.data AS BLOB) FROM records r LEFT JOIN cancellations c USING (number) ORDER BY r.number"""
    ):
        expected += 1
        if number != expected:
            yield Fault("records are missing before number", str(number))
            expected = number
        try:
            UUID(bytes=uuid)
            check_name(event)
            check_username(user)
            check_times(timestamp, due_us, inserted_us)
            if cancelled_by is not None:
                check_username(cancelled_by)
            raw_json.decode(_json, data, "data")
        except _UNREADABLE as error:
            yield Fault(f"record {number} cannot be read", str(error))
        if number % _TELL_EVERY == 0:
            done(_TELL_EVERY)


def _walk_positions(log: sqlite3.Connection) -> Iterator[Fault]:
    expected = total = 0
    for position, size, total_bytes in log.execute(
        """SELECT position, length(CAST(data AS BLOB)), total_bytes FROM publications LEFT JOIN records USING (number)
           ORDER BY position"""
    ):
        expected += 1
        total += size or 0
        if position != expected:
            yield Fault("positions are missing before", str(position))
            expected = position
        if total_bytes != total:
            yield Fault("the sum of bytes is wrong at position", str(position))
            total = total_bytes


@contextlib.contextmanager
def reading(file: Path, advice: str = RESTORE) -> Iterator[sqlite3.Connection]:
    """A connection that only reads. Raises SettingsError: only what is damaged is to be restored, and ``advice`` says
    how."""
    magic = _magic(file)
    try:
        with contextlib.closing(connect(file)) as log:
            # Text that is no UTF-8 is a fault to tell of, not the end of the reading.
            log.text_factory = lambda text: text.decode(errors="surrogateescape")
            log.execute("PRAGMA query_only = ON")
            tables = {name for (name,) in log.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables >= _TABLES:
                raise SettingsError(f"{file} is no log of Broker: it has no table {min(_TABLES - tables)!r}")
            schema_version(log, file)
            yield log
    except sqlite3.Error as error:
        code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB and magic != _MAGIC:
            raise SettingsError(f"{file} is no log of Broker (or its beginning is lost): {error}") from error
        if code in _DAMAGED:
            raise SettingsError(f"{file} is damaged: {error}; {advice}") from error
        if code in _NOT_PERMITTED:
            raise _not_permitted(file, str(error)) from error
        raise SettingsError(f"{file} cannot be read: {error}") from error


def _magic(file: Path) -> bytes:
    """The first bytes. SQLite says little of why it cannot open a file."""
    try:
        with file.open("rb") as content:
            return content.read(len(_MAGIC))
    except (FileNotFoundError, NotADirectoryError):
        raise SettingsError(f"{file} is not there; give the server's --data folder, or the name of the file") from None
    except IsADirectoryError:
        raise SettingsError(f"{file} is a folder; give the name of a file") from None
    except PermissionError as error:
        raise _not_permitted(file, os.strerror(error.errno or 0)) from None


def _not_permitted(file: Path, why: str) -> SettingsError:
    return SettingsError(
        f"this user has no permission to read {file} ({why}): run this as the user that Broker runs as, "
        "who may write to its folder, too"
    )
