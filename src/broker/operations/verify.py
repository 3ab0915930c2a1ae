"""``broker verify``: walks an SQLite log and checks every invariant that its rows can show (DESIGN section 3)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from broker import raw_json
from broker.errors import BadRequest, SettingsError
from broker.names import RULES_EVENT, USER_EVENT, check_name
from broker.operations.content import COPIED, empty_log
from broker.operations.faults import FAULTS, ORDER
from broker.records import JSON_NUMBER, REMOVAL, parse_timestamp
from broker.rules.rights import is_rights_event, read_rules, read_state
from broker.store.sqlite.errors import Meaning, meaning_of
from broker.store.sqlite.file import MIGRATIONS, connect, schema_version
from broker.store.sqlite.statements import CHECKPOINT, RECORD_COLUMNS, RECORD_TABLES, record_of
from broker.store.users import read_keys
from broker.users import check_username, username_key

RESTORE = "put your last good backup in its place with `broker restore`"

_REPORT_EVERY = 1_000  # records; the progress is reported each time that this many are checked
_TABLES = {*COPIED, "checkpoints", "epochs", "state"}
_MAGIC = b"SQLite format 3\0"
# The exceptions that are raised when the values of a damaged row are read.
_UNREADABLE = (BadRequest, ValueError, TypeError, AttributeError, msgspec.MsgspecError)

# The form in which argon2 writes a hash (with less than 1 GiB of memory). If a user had any other text as the hash,
# each login of that user would fail with an internal error.
_PASSWORD_HASH = re.compile(
    r"\$argon2(?:id|i|d)\$v=(?:16|19)\$m=([1-9][0-9]{0,5}),t=[1-9][0-9]{0,2},p=([1-9][0-9]?)"
    r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{6,86})\Z"
)
# The digest of a name that an erased user had
_ERASED = re.compile(r"#[0-9a-f]{64}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")

# In older schemas than this one, null was data like any other, and no version had an end.
_WITH_REMOVALS = 3
# In older schemas than this one, nothing was counted for users.
_WITH_USAGE = 6
# In older schemas than this one, no user had API keys.
_WITH_KEYS = 7
# A log with an older schema can be verified, backed up, exported and restored all the same: temporary tables and views
# show it in the newest form. For each table: the schema since which it exists, and what takes its place in older ones.
_NEWER_TABLES = {
    "endings": (
        _WITH_REMOVALS,
        "CREATE TEMP TABLE endings (number INTEGER PRIMARY KEY, until TEXT, until_us INTEGER, ends BLOB)",
    ),
    "checkpoints": (4, "CREATE TEMP TABLE checkpoints (position INTEGER PRIMARY KEY, events, earliest_us, latest)"),
    "usage": (_WITH_USAGE, "CREATE TEMP TABLE usage (user TEXT PRIMARY KEY, names, bytes, pending)"),
}
# For each column: its table, the schema since which it exists, and its value in older ones.
_NEWER_COLUMNS = (
    ("events", _WITH_REMOVALS, "0 AS removed"),
    ("events", _WITH_REMOVALS, "NULL AS until_us"),
    ("state", _WITH_REMOVALS, "0 AS removals"),
    ("state", _WITH_REMOVALS, "0 AS removals_floor"),
    ("events", 5, """(SELECT count(*) FROM main.publications p JOIN main.records r USING (number)
                      WHERE p.position = old.position AND r.data = 'false') AS falsy"""),
    ("events", _WITH_USAGE, "NULL AS owner"),
    ("pending", _WITH_USAGE, "NULL AS event"),
    ("pending", _WITH_USAGE, "NULL AS size"),
    ("state", 5, "0 AS rights"),
    ("users", 5, "'[]' AS roles"),
    ("users", 5, "'[]' AS ended"),
    ("users", _WITH_KEYS, "'[]' AS keys"),
    ("cancellations", 5, "NULL AS reason"),
)  # fmt: skip

_json = msgspec.json.Decoder(msgspec.Raw)

# Each row is one of RECORD_COLUMNS, followed by who cancelled the record, and when.
RECORDS = f"SELECT {RECORD_COLUMNS}, c.user, c.cancelled_us FROM {RECORD_TABLES} ORDER BY r.number"  # noqa: S608 (constants)

# This query returns one row for each column of each table, and for each column of each index.
_SCHEMA = """
    SELECT m.type, m.name, c.name, c.type || iif(c."notnull", ' NOT NULL', '') || iif(c.pk, ' KEY ' || c.pk, '')
    FROM sqlite_master m, pragma_table_info(m.name, 'main') c WHERE m.type = 'table'
    UNION ALL
    SELECT m.type, m.name, c.name, 'on ' || m.tbl_name || ' ' || c.seqno
    FROM sqlite_master m, pragma_index_info(m.name, 'main') c WHERE m.type = 'index'
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
        for (text,) in log.execute("PRAGMA integrity_check(20)"):
            if text != "ok":
                yield Fault("the file is damaged", text)
        yield from _compare_schema(log)
        yield from find_faults(log, done)


def find_faults(log: sqlite3.Connection, done: Callable[[int], None]) -> Iterator[Fault]:
    """Yields the faults in the rows, within the transaction that the connection has begun."""
    yield from _walk_users(log)
    yield from _walk_records(log, done)
    for select in ORDER:
        yield from (Fault(what, str(where)) for what, where in log.execute(select))
    for table, row, *_ in log.execute("PRAGMA foreign_key_check"):
        yield Fault(f"a row of the table {table} has no record", str(row))
    yield from _walk_checkpoints(log)
    (version,) = log.execute("PRAGMA user_version").fetchone()
    removal = REMOVAL.decode() if version >= _WITH_REMOVALS else ""  # no record has empty data
    for what, select in FAULTS:
        try:
            for (where,) in log.execute(f"{select} LIMIT 5", {"removal": removal}):
                yield Fault(what, str(where))
        except sqlite3.OperationalError as error:
            # ``_compare_schema`` says which columns are missing.
            if "no such column" not in str(error):
                raise


def check_account(username: str, password_hash: str, erased: str = "") -> None:
    """Raises BadRequest if a user's name or password hash cannot be right. ``erased`` is what is left of the name of a
    user who was erased."""
    if erased:
        if username or password_hash or not _ERASED.match(erased):
            raise BadRequest("erased: a user who was erased has a digest in place of the name, and no password")
        return
    check_username(username)
    if not password_hash:
        return  # a program, which has API keys
    match = _PASSWORD_HASH.match(password_hash)
    if not match or int(match[1]) < 8 * int(match[2]) or not (_is_base64(match[3]) and _is_base64(match[4])):
        raise BadRequest("password_hash: this is no Argon2 hash")


def check_stored_name(event: str) -> None:
    """Raises BadRequest if this is no name of an event, and none of Broker's own events either."""
    if not is_rights_event(event):
        check_name(event)


def check_author(username: str) -> None:
    """Raises BadRequest if nobody with this name can have inserted or cancelled a record. "" stands for a stranger, for
    the operator, and for the server."""
    if username:
        check_username(username)


def check_times(timestamp: str | None, due_us: int, inserted_us: int) -> None:
    """Checks that a record is due at its timestamp, or, if it has no timestamp, when it was inserted. Raises
    BadRequest."""
    if timestamp is None:
        if due_us != inserted_us:
            raise BadRequest(f"timestamp: there is none, and due_us ({due_us}) is not inserted_us ({inserted_us})")
        return
    timestamp_us = _parse_stored(timestamp, "timestamp")
    if due_us != timestamp_us:
        raise BadRequest(f"timestamp: {timestamp} is {timestamp_us} in microseconds, and due_us is {due_us}")


def check_until(until: str, due_us: int, inserted_us: int) -> int:
    """Checks that a version ends after it is due, and after it was inserted. Returns ``until`` in microseconds since
    1970. Raises BadRequest."""
    until_us = _parse_stored(until, "until")
    if until_us <= max(due_us, inserted_us):
        raise BadRequest(f"until: {until} is not later than due_us ({due_us}) and inserted_us ({inserted_us})")
    return until_us


def _parse_stored(text: str, field: str) -> int:
    """Returns the microseconds since 1970 for a number of seconds in the form in which it was sent. Raises
    BadRequest."""
    microseconds = parse_timestamp(text, field)
    if not JSON_NUMBER.match(text):
        raise BadRequest(f"{field}: {text} is not written as a number of JSON")
    return microseconds


def _compare_schema(log: sqlite3.Connection) -> Iterator[Fault]:
    """Compares the schema with the one that the migrations make, up to the version that the log says it has. Further
    columns or indexes that the log has do no harm."""
    (version,) = log.execute("PRAGMA user_version").fetchone()
    if not 0 < version <= MIGRATIONS.newest:
        yield Fault(f"the schema's version is none that this Broker knows (1 to {MIGRATIONS.newest})", str(version))
        return
    with empty_log(version) as made:
        missing = set(made.execute(_SCHEMA)) - set(log.execute(_SCHEMA))
    for kind, name in sorted({row[:2] for row in missing}):
        columns = ", ".join(sorted(column for *both, column, _ in missing if both == [kind, name]))
        yield Fault(f"the schema lacks (a part of) the {kind}", f"{name} ({columns})")


def _is_base64(text: str) -> bool:
    """Returns whether argon2 accepts the text: Base64 without padding, and without bits left over at its end."""
    try:
        return base64.b64encode(base64.b64decode(text + "=" * (-len(text) % 4))).decode().rstrip("=") == text
    except ValueError:
        return False


def _walk_users(log: sqlite3.Connection) -> Iterator[Fault]:
    for user_id, username, key, password_hash, info, keys in log.execute(
        "SELECT id, username, username_key, password_hash, CAST(info AS BLOB), keys FROM users"
    ):
        try:
            check_account(username, password_hash, key if not username else "")
            raw_json.decode(_json, info, "info")
            if username and key != username_key(username):
                raise BadRequest(f"username_key: {key}, and the name is {username}")
            end = user_id.replace("-", "")
            if not all(each.id.endswith(end) and _DIGEST.match(each.digest) for each in read_keys(keys)):
                raise BadRequest("keys: an API key has no digest, or is another user's")
        except _UNREADABLE as error:
            yield Fault(f"user {user_id} cannot be used", str(error))


def _walk_records(log: sqlite3.Connection, done: Callable[[int], None]) -> Iterator[Fault]:
    for *row, cancelled_by, _ in log.execute(RECORDS):
        number = row[0]
        try:
            record = record_of(row)
            check_stored_name(record.event)
            check_author(record.user)
            check_times(record.timestamp, record.due_us, record.inserted_us)
            if record.until is not None:
                until_us = check_until(record.until, record.due_us, record.inserted_us)
                if record.until_us != until_us:
                    raise BadRequest(
                        f"until: {record.until} is {until_us} in microseconds, and until_us is {record.until_us}"
                    )
            if cancelled_by is not None:
                check_author(cancelled_by)
            if record.event == RULES_EVENT:
                read_rules(record.data)
            elif record.event.startswith(USER_EVENT):
                read_state(record.data)
            raw_json.decode(_json, record.data, "data")
        except _UNREADABLE as error:
            yield Fault(f"record {number} cannot be read", str(error))
        if number % _REPORT_EVERY == 0:
            done(_REPORT_EVERY)


def _comparable(events: int, earliest_us: int, latest: str) -> tuple[int, int, list[int]]:
    return events, earliest_us, sorted(json.loads(latest))


def _walk_checkpoints(log: sqlite3.Connection) -> Iterator[Fault]:
    """Makes each checkpoint again, from the one before it and the records since."""
    for position, *stored in log.execute("SELECT * FROM checkpoints ORDER BY position"):
        try:
            made = log.execute(CHECKPOINT, {"position": position}).fetchone()  # None: there is no such position
            if made is None or _comparable(*stored) != _comparable(*made[2:]):
                yield Fault("a checkpoint is not the state of the log at its position", str(position))
        except (sqlite3.OperationalError, *_UNREADABLE) as error:
            yield Fault(f"the checkpoint {position} cannot be read", str(error))


@contextlib.contextmanager
def reading(file: Path, advice: str = RESTORE) -> Iterator[sqlite3.Connection]:
    """Yields a connection that only reads, in one read transaction: whoever uses it sees the log at one moment, even
    while a server writes. Raises SettingsError if the file cannot be read.

    ``advice`` is added to the message only if the file is damaged. Otherwise the operator could be led to put a backup
    in place of a log that this user only has no permission to read, or of a file that never was a log."""
    magic = _magic(file)
    try:
        with contextlib.closing(connect(file)) as log:
            # Text that is not UTF-8 is a fault that is reported, and must not end the reading.
            log.text_factory = lambda text: text.decode(errors="surrogateescape")
            tables = {name for (name,) in log.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            missing = _TABLES - tables
            if not missing - _NEWER_TABLES.keys():
                missing -= _show_newest_form(log, schema_version(log, file))
            if missing:
                raise SettingsError(f"{file} is no log of Broker: it has no table {min(missing)!r}")
            log.execute("PRAGMA query_only = ON")
            log.execute("BEGIN")
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


def _show_newest_form(log: sqlite3.Connection, version: int) -> set[str]:
    """Makes temporary tables and views of what a log with this schema does not have. Returns the names of the tables
    that it does not have."""
    missing = {table: form for table, (since, form) in _NEWER_TABLES.items() if version < since}
    for form in missing.values():
        log.execute(form)
    columns: dict[str, list[str]] = {}
    for table, since, column in _NEWER_COLUMNS:
        if version < since:
            columns.setdefault(table, []).append(column)
    for table, values in columns.items():
        log.execute(f"CREATE TEMP VIEW {table} AS SELECT *, {', '.join(values)} FROM main.{table} AS old")  # noqa: S608
    return set(missing)


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
