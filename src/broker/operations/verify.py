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
from broker.store.sqlite.errors import Meaning, meaning_of
from broker.store.sqlite.file import MIGRATIONS, connect, schema_version
from broker.users import check_username, username_key

RESTORE = "put your last good backup in its place with `broker restore`"

_REPORT_EVERY = 1_000  # records; the progress is reported each time that this many are checked
_TABLES = frozenset({"records", "publications", "cancellations", "pending", "events", "state", "epochs", "users"})
_MAGIC = b"SQLite format 3\0"
# The exceptions that are raised when the values of a damaged row are read.
_UNREADABLE = (BadRequest, ValueError, TypeError, AttributeError)

# The form in which argon2 writes a hash (with less than 1 GiB of memory). If a user had any other text as the hash,
# each login of that user would fail with an internal error.
_PASSWORD_HASH = re.compile(
    r"\$argon2(?:id|i|d)\$v=(?:16|19)\$m=([1-9][0-9]{0,5}),t=[1-9][0-9]{0,2},p=([1-9][0-9]?)"
    r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{6,86})\Z"
)

_json = msgspec.json.Decoder(msgspec.Raw)

# Each query finds rows that must never exist. It returns one row for each fault, which says where the fault is.
_FAULTS = (
    ("the column log_only of a record is neither 0 nor 1",
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
    ("a record is pending that was published, cancelled or is log-only",
     """SELECT number FROM pending WHERE number IN (SELECT number FROM publications)
        OR number IN (SELECT number FROM cancellations) OR number IN (SELECT number FROM records WHERE log_only)"""),
    ("a pending record has another due time than the record says, or there is no such record",
     "SELECT p.number FROM pending p LEFT JOIN records r USING (number) WHERE p.due_us IS NOT r.due_us"),
    ("a record is neither published, cancelled, log-only nor pending",
     """SELECT number FROM records WHERE NOT log_only AND number NOT IN (SELECT number FROM publications)
        AND number NOT IN (SELECT number FROM cancellations) AND number NOT IN (SELECT number FROM pending)"""),
    ("an event's latest is not its record with the highest position",
     """SELECT event FROM events e WHERE position IS NOT
        (SELECT max(p.position) FROM records r JOIN publications p USING (number) WHERE r.event = e.event)"""),
    ("an event's latest has another length than it says",
     """SELECT e.event FROM events e LEFT JOIN publications p USING (position) LEFT JOIN records r USING (number)
        WHERE e.bytes != coalesce(length(CAST(r.data AS BLOB)), 0)"""),
    ("an event has another number of pending records than it says",
     """SELECT event FROM events LEFT JOIN
        (SELECT r.event, count(*) AS waiting FROM pending p JOIN records r USING (number) GROUP BY r.event)
        USING (event) WHERE pending != coalesce(waiting, 0)"""),
    ("an event has published or pending records, but no row in the table events",
     "SELECT DISTINCT event FROM records WHERE NOT log_only AND event NOT IN (SELECT event FROM events) "
     "AND number NOT IN (SELECT number FROM cancellations)"),
    ("an event has a row in the table events, but no published or pending record",
     "SELECT event FROM events WHERE position IS NULL AND pending = 0"),
    # ``reserved`` is the latest record's size when nothing is pending. Otherwise it is the largest size seen since the
    # first pending record was inserted. That record may have been cancelled or superseded, so all that can be checked
    # is that *some* record of the event has this size.
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

# This query returns one row for each column of each table, and for each column of each index.
_SCHEMA = """
    SELECT m.type, m.name, c.name, c.type || iif(c."notnull", ' NOT NULL', '') || iif(c.pk, ' KEY ' || c.pk, '')
    FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'
    UNION ALL
    SELECT m.type, m.name, c.name, 'on ' || m.tbl_name || ' ' || c.seqno
    FROM sqlite_master m, pragma_index_info(m.name) c WHERE m.type = 'index'
"""


class Fault(NamedTuple):
    """A fault: what is wrong, and where it is."""

    what: str
    where: str

    def __str__(self) -> str:
        # A damaged file may contain text that is not UTF-8, and that cannot be printed as it is.
        return f"{self.what}: {self.where}".encode(errors="backslashreplace").decode()


def count(file: Path) -> int:
    """Returns how many records a log has. Raises SettingsError."""
    with reading(file) as log:
        return int(log.execute("SELECT count(*) FROM records").fetchone()[0])


def verify(file: Path, done: Callable[[int], None]) -> Iterator[Fault]:
    """Yields all faults of a log. ``done`` is called with the number of records that were checked since its last call.
    Raises SettingsError if the file cannot be read."""
    with reading(file) as log:
        # One read transaction is used, so that all checks see the log at one moment, even while a server writes.
        log.execute("BEGIN")
        for (text,) in log.execute("PRAGMA integrity_check(20)"):
            if text != "ok":
                yield Fault("the file is damaged", text)
        yield from _compare_schema(log)
        yield from find_faults(log, done)


def find_faults(log: sqlite3.Connection, done: Callable[[int], None]) -> Iterator[Fault]:
    """Yields the faults in the rows, within the transaction that the connection has begun."""
    yield from _walk_users(log)
    yield from _walk_records(log, done)
    yield from _walk_positions(log)
    for what, select in _FAULTS:
        for (where,) in log.execute(f"{select} LIMIT 5"):
            yield Fault(what, str(where))


def check_account(username: str, password_hash: str) -> None:
    """Raises BadRequest if a user's name or password hash cannot be right."""
    check_username(username)
    match = _PASSWORD_HASH.match(password_hash)
    if not match or int(match[1]) < 8 * int(match[2]) or not (_is_base64(match[3]) and _is_base64(match[4])):
        raise BadRequest("password_hash: this is no Argon2 hash")


def check_times(timestamp: str | None, due_us: int, inserted_us: int) -> None:
    """Checks that a record is due at its timestamp, or, if it has no timestamp, when it was inserted. Raises
    BadRequest."""
    if timestamp is None:
        if due_us != inserted_us:
            raise BadRequest(f"timestamp: there is none, and due_us ({due_us}) is not inserted_us ({inserted_us})")
        return
    timestamp_us = parse_timestamp(timestamp)
    if not _is_json(timestamp):
        raise BadRequest(f"timestamp: {timestamp} is not written as a number of JSON")
    if due_us != timestamp_us:
        raise BadRequest(f"timestamp: {timestamp} is {timestamp_us} in microseconds, and due_us is {due_us}")


def _compare_schema(log: sqlite3.Connection) -> Iterator[Fault]:
    """Compares the schema with the one that the migrations make, up to the version that the log says it has. Further
    columns or indexes that the log has do no harm."""
    (version,) = log.execute("PRAGMA user_version").fetchone()
    if not 0 < version <= MIGRATIONS.newest:
        yield Fault(f"the schema's version is none that this Broker knows (1 to {MIGRATIONS.newest})", str(version))
        return
    with contextlib.closing(sqlite3.connect(":memory:")) as made:
        for script in MIGRATIONS.upto(version):
            made.executescript(script)
        missing = set(made.execute(_SCHEMA)) - set(log.execute(_SCHEMA))
    for kind, name in sorted({row[:2] for row in missing}):
        columns = ", ".join(sorted(column for *both, column, _ in missing if both == [kind, name]))
        yield Fault(f"the schema lacks (a part of) the {kind}", f"{name} ({columns})")


def _is_json(text: str) -> bool:
    try:
        return bytes(_json.decode(text)).decode() == text  # decoding removes white space around the text
    except msgspec.DecodeError:
        return False


def _is_base64(text: str) -> bool:
    """Returns whether argon2 accepts the text: Base64 without padding, and without bits left over at its end."""
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
        if number % _REPORT_EVERY == 0:
            done(_REPORT_EVERY)


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
    """Yields a connection that only reads. Raises SettingsError if the file cannot be read.

    ``advice`` is added to the message only if the file is damaged. Otherwise the operator could be led to put a backup
    in place of a log that this user only has no permission to read, or of a file that never was a log."""
    magic = _magic(file)
    try:
        with contextlib.closing(connect(file)) as log:
            # Text that is not UTF-8 is a fault that is reported, and must not end the reading.
            log.text_factory = lambda text: text.decode(errors="surrogateescape")
            log.execute("PRAGMA query_only = ON")
            tables = {name for (name,) in log.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables >= _TABLES:
                raise SettingsError(f"{file} is no log of Broker: it has no table {min(_TABLES - tables)!r}")
            schema_version(log, file)
            yield log
    except sqlite3.Error as error:
        match meaning_of(error):
            case Meaning.DAMAGED if magic != _MAGIC and error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise SettingsError(f"{file} is no log of Broker (or its beginning is lost): {error}") from error
            case Meaning.DAMAGED:
                raise SettingsError(f"{file} is damaged: {error}; {advice}") from error
            case Meaning.NOT_OPENED | Meaning.READ_ONLY:
                raise _not_permitted(file, str(error)) from error
            case _:
                raise SettingsError(f"{file} cannot be read: {error}") from error


def _magic(file: Path) -> bytes:
    """Returns the first bytes of the file. This is called before SQLite opens the file, because Python's errors say why
    a file cannot be opened, and SQLite's errors do not."""
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
