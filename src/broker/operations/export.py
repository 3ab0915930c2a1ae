"""A whole log as lines of JSON: ``broker export`` and ``broker import``. The format is in ``docs/operations.md``."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import UUID

import msgspec

from broker import raw_json
from broker.errors import BadRequest, SettingsError
from broker.operations.backup import new_file, open_epoch
from broker.operations.faults import COUNT, LATEST, OWNER, USAGE, WAITING
from broker.operations.verify import (
    RECORDS,
    check_account,
    check_author,
    check_stored_name,
    check_times,
    check_until,
    find_faults,
    reading,
)
from broker.records import REMOVAL, parse_timestamp, parse_uuid
from broker.store.sqlite.file import locked, open_database, roll_back
from broker.store.sqlite.statements import SQLiteTables, record_of
from broker.store.tables import Counters
from broker.store.users import read_keys
from broker.users import Key, User, UserState

FORMAT = 4
_WITH_RIGHTS = 3
# Those that can be imported. The first one had no ``until`` and no ``ends``; the second one had no records of Broker's
# own events, and neither roles, ended sessions nor reasons; the third one had no API keys and no erased users.
_FORMATS = (1, 2, _WITH_RIGHTS, FORMAT)
_REPORT_EVERY = 1_000  # records; the progress is reported each time that this many are done
_FAULTS_MAX = 3  # how many faults an import reports: an early one often causes the others

Done = Callable[[int], None]  # is called with the number of records that were done since its last call

_T = TypeVar("_T")

# The integers that SQLite can store. msgspec does not support larger bounds either.
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Ordinal = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
_Microseconds = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Epoch = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}\Z")]


class Head(msgspec.Struct, forbid_unknown_fields=True):
    """The first line of an export, which says what follows."""

    broker: int
    epochs: dict[_Epoch, _Count | None]
    users: _Count
    records: _Count


class UserLine(msgspec.Struct, forbid_unknown_fields=True):
    """The line of a user."""

    user: str
    id: str
    info: msgspec.Raw
    password_hash: str
    gen: _Count
    disabled: bool
    created_us: _Microseconds
    roles: list[str] = []
    ended: list[str] = []
    keys: tuple[Key, ...] = ()
    erased: str = ""  # what is left of the name of a user who was erased

    def check(self) -> None:
        """Raises BadRequest."""
        check_account(self.user, self.password_hash, self.erased)
        parse_uuid(self.id)


class RecordLine(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The line of a record. The lines are in the order of the records' numbers. ``data`` is written as it was sent."""

    number: _Ordinal
    uuid: UUID
    event: str
    by: str
    timestamp: str | None
    due_us: _Microseconds
    log_only: bool
    inserted_us: _Microseconds
    until: str | None = None
    ends: UUID | None = None
    position: _Ordinal | None
    published_us: _Microseconds | None
    cancelled_by: str | None
    cancelled_us: _Microseconds | None
    reason: str | None = None
    data: msgspec.Raw

    def check(self) -> None:
        """Raises BadRequest."""
        check_stored_name(self.event)
        check_author(self.by)
        check_times(self.timestamp, self.due_us, self.inserted_us)
        if self.until is not None:
            check_until(self.until, self.due_us, self.inserted_us)
        if (self.position is None) != (self.published_us is None):
            raise BadRequest("position and published_us: one of them is null")
        if (self.cancelled_by is None) != (self.cancelled_us is None):
            raise BadRequest("cancelled_by and cancelled_us: one of them is null")
        if self.cancelled_by is not None:
            check_author(self.cancelled_by)
        if self.log_only + (self.position is not None) + (self.cancelled_us is not None) > 1:
            raise BadRequest("a record is one of published, cancelled and log-only")
        if self.published_us is not None and self.published_us < self.due_us:
            raise BadRequest(f"published_us: {self.published_us} is before due_us ({self.due_us})")


_encode = msgspec.json.Encoder().encode
_head = msgspec.json.Decoder(Head)
_user = msgspec.json.Decoder(UserLine)
_record = msgspec.json.Decoder(RecordLine)


def export_log(file: Path, done: Done) -> Iterator[bytes]:
    """Yields the lines, with their line feeds. All of them are of one moment, even while a server writes. Raises
    SettingsError."""
    place = "the first line"  # the row that is being exported, for the message if it cannot be read
    try:
        with reading(file) as log:
            users, records = log.execute(
                "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM records)"
            ).fetchone()
            yield _encode(Head(FORMAT, SQLiteTables(log).epochs(), users, records)) + b"\n"
            for username, user_id, info, *rest in log.execute(
                """SELECT username, id, CAST(info AS BLOB), password_hash, gen, disabled, created_us, roles, ended,
                          keys, username_key FROM users ORDER BY created_us"""
            ):
                place = f"user {user_id}"
                password_hash, gen, disabled, created_us, roles, ended, keys, name_key = rest
                user = UserLine(
                    username, user_id, msgspec.Raw(info), password_hash, gen, bool(disabled), created_us,
                    json.loads(roles), json.loads(ended), read_keys(keys), "" if username else name_key,
                )  # fmt: skip
                yield _encode(user) + b"\n"
            for *row, cancelled_by, cancelled_us in log.execute(RECORDS):
                place = f"record {row[0]}"
                record = record_of(row)
                line = RecordLine(
                    number=record.number, uuid=record.uuid, event=record.event, by=record.user,
                    timestamp=record.timestamp, due_us=record.due_us, log_only=record.log_only,
                    inserted_us=record.inserted_us, until=record.until, ends=record.ends, position=record.position,
                    published_us=record.published_us, cancelled_by=cancelled_by, cancelled_us=cancelled_us,
                    reason=record.reason,
                    data=msgspec.Raw(record.data),
                )  # fmt: skip
                yield _encode(line) + b"\n"
                if record.number % _REPORT_EVERY == 0:
                    done(_REPORT_EVERY)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{file}: {place} cannot be read ({error}); `broker verify` says more") from error


def export_file(source: Path, target: Path, done: Done) -> None:
    """Writes the export into a new file. Raises SettingsError."""
    with new_file(target) as part, part.open("wb") as output:
        output.writelines(export_log(source, done))


def read_head(lines: Iterator[bytes]) -> Head:
    """Reads the first line. Raises SettingsError."""
    line = next(lines, b"").removeprefix(BOM_UTF8)  # some editors put a byte order mark at the beginning of a file
    if not line:
        raise SettingsError("the end of the file, and it has no line; give what `broker export` wrote")
    head, _ = _decoded(_head, 1, line)
    if head.broker not in _FORMATS:
        known = f"{_FORMATS[0]} to {FORMAT}"
        raise SettingsError(f"line 1: this Broker reads the formats {known}, and this is {head.broker}; update Broker")
    return head


def import_log(file: Path, head: Head, lines: Iterator[bytes], done: Done) -> None:
    """Imports the whole log, or nothing, into a log that is empty. It opens a new epoch: the log that was exported may
    have got further records since then, at positions that the imported log will give to other records.

    Raises SettingsError, which names the line."""
    with locked(file), contextlib.closing(open_database(file)) as log:
        try:
            log.execute("BEGIN IMMEDIATE")
            if any(log.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in ("records", "users")):  # noqa: S608
                raise SettingsError(f"{file} is not empty; import into another --data folder")
            _fill(log, head, lines, done)
            # Each line was checked by itself. This check is for the log as a whole, and for what was derived from the
            # lines.
            if faults := list(islice(find_faults(log, lambda _: None), _FAULTS_MAX)):
                raise SettingsError(f"{'; '.join(map(str, faults))}; nothing was stored")
            open_epoch(log)
            log.execute("COMMIT")
        except sqlite3.Error as error:
            raise SettingsError(f"cannot import into {file}: {error}; nothing was stored") from error
        finally:
            roll_back(log)


def _fill(log: sqlite3.Connection, head: Head, lines: Iterator[bytes], done: Done) -> None:
    numbered = ((number, line) for number, line in enumerate(lines, 2) if line.strip())
    log.execute("DELETE FROM epochs")
    log.executemany("INSERT INTO epochs VALUES (?, ?)", head.epochs.items())
    tables = SQLiteTables(log)
    read = 0
    for read, (number, line) in enumerate(islice(numbered, head.users), 1):  # noqa: B007 (counts)
        user, compact = _decoded(_user, number, line)
        with _line(number):
            user.check()
            info = compact(bytes(user.info))
            state = UserState(user.gen, user.disabled, tuple(user.roles), tuple(user.ended))
            made = User(user.id, user.user, info, user.password_hash, state, keys=user.keys, erased_key=user.erased)
            tables.add_user(made, user.created_us)
    if read != head.users:
        raise _cut_short("users", read, head.users)
    log.execute("CREATE TEMP TABLE published (position INTEGER PRIMARY KEY, number, published_us)")
    read = 0
    for read, (number, line) in enumerate(numbered, 1):
        record, compact = _decoded(_record, number, line)
        with _line(number):
            if read > head.records:
                raise BadRequest(f"one line too many: the first line says that there are {head.records} records")
            if record.number != read:
                raise BadRequest(f"number: {record.number} in place of {read}; each record is there once, in order")
            if head.broker == 1 and (record.until, record.ends) != (None, None):
                raise BadRequest("until, ends: the first line says format 1, which has no such fields")
            if head.broker < _WITH_RIGHTS and (record.event[:1] == "$" or record.reason is not None):
                raise BadRequest(f"event, reason: the first line says format {head.broker}, which has no such records")
            record.check()
            _store_record(log, tables, record, compact(bytes(record.data)).decode())
        if read % _REPORT_EVERY == 0:
            done(_REPORT_EVERY)
    if read != head.records:
        raise _cut_short("records", read, head.records)
    _derive(log)


def _store_record(log: sqlite3.Connection, tables: SQLiteTables, record: RecordLine, data: str) -> None:
    tables.add_records(
        [record.number, record.uuid, record.event, record.by, record.timestamp, record.due_us, record.log_only,
         record.inserted_us, data]
    )  # fmt: skip
    if record.until is not None or record.ends is not None:
        until_us = None if record.until is None else parse_timestamp(record.until)
        tables.add_endings([record.number, record.until, until_us, record.ends])
    if record.position is not None:
        log.execute(
            "INSERT INTO temp.published VALUES (?, ?, ?)", (record.position, record.number, record.published_us)
        )
    if record.cancelled_us is not None:
        tables.add_cancellations([record.number, record.cancelled_by, record.cancelled_us, record.reason])


def _derive(log: sqlite3.Connection) -> None:
    """Fills the tables whose rows follow from the imported rows: publications (with their sums of bytes), pending,
    events and state. The schema in ``migrations`` says what they mean."""
    log.execute(
        """INSERT INTO publications
           SELECT position, number, published_us, sum(length(CAST(data AS BLOB))) OVER (ORDER BY position)
           FROM temp.published JOIN records USING (number) ORDER BY position"""
    )
    log.execute("DROP TABLE temp.published")
    removal = {"removal": REMOVAL.decode()}
    log.execute(
        """INSERT INTO pending
           SELECT due_us, number, event, iif(data = :removal, 0, length(CAST(data AS BLOB))) FROM records
           WHERE NOT log_only AND number NOT IN (SELECT number FROM publications)
           AND number NOT IN (SELECT number FROM cancellations)""",
        removal,
    )
    log.execute(
        f"""INSERT INTO events SELECT event, position, bytes, 0, bytes, removed, until_us, falsy, '' FROM (
               SELECT l.*, iif(removed OR l.event GLOB '$*', 0, length(CAST(data AS BLOB))) AS bytes, until_us,
                      data = 'false' AS falsy FROM ({LATEST}) l
               JOIN publications USING (position) JOIN records USING (number) LEFT JOIN endings USING (number)
           )""",  # noqa: S608 (constants)
        removal,
    )
    log.execute(
        f"""INSERT INTO events SELECT event, NULL, 0, waiting, iif(event GLOB '$*', 0, largest), 0, NULL, 0, ''
           FROM ({WAITING}) WHERE true
           ON CONFLICT (event) DO UPDATE SET pending = excluded.pending, reserved = max(reserved, excluded.reserved)""",  # noqa: S608
        removal,
    )
    log.execute(f"UPDATE events SET owner = {OWNER}")  # noqa: S608 (constants)
    log.execute(f"INSERT INTO usage {USAGE}", removal)
    # All removals of the log are kept, so their floor is 0. The server's first transaction forgets those above its
    # limit ``removals_kept``.
    *counters, rights = log.execute(COUNT).fetchone()
    SQLiteTables(log).put_counters(Counters._make((*counters, 0, rights)))


def _cut_short(what: str, read: int, expected: int) -> SettingsError:
    return SettingsError(
        f"the end of the file after {read} of {expected} {what}: it is cut short; export again, nothing was stored"
    )


def _decoded(decoder: msgspec.json.Decoder[_T], number: int, line: bytes) -> tuple[_T, raw_json.Compact]:
    """Decodes a line in the same way as the body of a request, with the same limits of depth and of characters."""
    with _line(number):
        return raw_json.decode(decoder, line, "it")


@contextlib.contextmanager
def _line(number: int) -> Iterator[None]:
    """Makes an error name the line that is refused."""
    try:
        yield
    except BadRequest as error:
        raise SettingsError(f"line {number}: {error}; nothing was stored") from None
    except sqlite3.IntegrityError as error:
        column = str(error).rpartition(" ")[2]
        raise SettingsError(f"line {number}: another line has the same {column} already; nothing was stored") from None
