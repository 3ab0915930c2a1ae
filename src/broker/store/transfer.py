"""A whole log as lines of JSON: ``broker export`` and ``broker import``. The format is in ``docs/operations.md``."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from broker.errors import BadRequest, SettingsError
from broker.names import check_name
from broker.store.backup import open_epoch
from broker.store.database import connect, open_database, roll_back

FORMAT = 1
_ROWS = 1_000  # written, and told of, at a time

Done = Callable[[int], None]  # so many more records


class Head(msgspec.Struct, forbid_unknown_fields=True):
    """The first line: what follows."""

    broker: int
    epochs: dict[str, int | None]
    users: int
    records: int


class UserLine(msgspec.Struct, forbid_unknown_fields=True):
    """A line for each user."""

    user: str
    id: str
    info: msgspec.Raw
    password_hash: str
    gen: int
    disabled: bool
    created_us: int


class RecordLine(msgspec.Struct, forbid_unknown_fields=True):
    """A line for each record, in the order of their numbers. ``data`` is as it was sent."""

    number: int
    uuid: UUID
    event: str
    by: str
    timestamp: str | None
    due_us: int
    log_only: bool
    inserted_us: int
    position: int | None
    published_us: int | None
    cancelled_by: str | None
    cancelled_us: int | None
    data: msgspec.Raw


_encode = msgspec.json.Encoder().encode
_head = msgspec.json.Decoder(Head).decode
_user = msgspec.json.Decoder(UserLine).decode
_record = msgspec.json.Decoder(RecordLine).decode


def export_log(file: Path, done: Done) -> Iterator[bytes]:
    """Lines without their ends, all of one moment, also while a server writes. Raises SettingsError."""
    if not file.is_file():
        raise SettingsError(f"{file} is not there; give the server's --data folder")
    try:
        with contextlib.closing(connect(file)) as log:
            log.execute("PRAGMA query_only = ON")
            log.execute("BEGIN")
            epochs = dict(log.execute("SELECT epoch, ended FROM epochs"))
            users, records = log.execute(
                "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM records)"
            ).fetchone()
            yield _encode(Head(FORMAT, epochs, users, records))
            for username, user_id, info, *rest in log.execute(
                """SELECT username, id, CAST(info AS BLOB), password_hash, gen, disabled, created_us FROM users
                   ORDER BY created_us"""
            ):
                password_hash, gen, disabled, created_us = rest
                yield _encode(
                    UserLine(username, user_id, msgspec.Raw(info), password_hash, gen, bool(disabled), created_us)
                )
            for row in log.execute(
                """SELECT r.number, r.uuid, r.event, r.user, r.timestamp, r.due_us, r.log_only, r.inserted_us,
                          p.position, p.published_us, c.user, c.cancelled_us, CAST(r.data AS BLOB)
                   FROM records r LEFT JOIN publications p USING (number) LEFT JOIN cancellations c USING (number)
                   ORDER BY r.number"""
            ):
                number, uuid, event, by, timestamp, due_us, log_only, inserted_us, *state, data = row
                position, published_us, cancelled_by, cancelled_us = state
                yield _encode(
                    RecordLine(
                        number, UUID(bytes=uuid), event, by, timestamp, due_us, bool(log_only), inserted_us,
                        position, published_us, cancelled_by, cancelled_us, msgspec.Raw(data),
                    )
                )  # fmt: skip
                if number % _ROWS == 0:
                    done(_ROWS)
    except sqlite3.Error as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error


def read_head(lines: Iterator[bytes]) -> Head:
    """Raises SettingsError."""
    head: Head = _decoded(_head, 1, next(lines, b""))
    if head.broker != FORMAT:
        raise SettingsError(f"line 1: this Broker reads format {FORMAT}, and this is {head.broker}; update Broker")
    return head


def import_log(file: Path, head: Head, lines: Iterator[bytes], done: Done) -> None:
    """All of it, or nothing, into a log that is empty; a new epoch is opened, as the old log may have gone on.

    Raises SettingsError naming the line."""
    with contextlib.closing(open_database(file)) as log:
        if any(log.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in ("records", "users")):  # noqa: S608
            raise SettingsError(f"{file} is not empty; import into another --data folder")
        log.execute("BEGIN IMMEDIATE")
        try:
            _fill(log, head, lines, done)
            log.execute("COMMIT")
        except (sqlite3.Error, BadRequest, UnicodeError) as error:
            raise SettingsError(f"cannot import into {file}: {error}; nothing was stored") from error
        finally:
            roll_back(log)
        open_epoch(log)


def _fill(log: sqlite3.Connection, head: Head, lines: Iterator[bytes], done: Done) -> None:
    numbered = enumerate(lines, 2)
    log.execute("DELETE FROM epochs")
    log.executemany("INSERT INTO epochs VALUES (?, ?)", head.epochs.items())
    for _ in range(head.users):
        number, line = next(numbered, (0, b""))
        user: UserLine = _decoded(_user, number, line)
        log.execute(
            "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (user.id, user.user, user.user.lower(), bytes(user.info).decode(), user.password_hash, user.gen,
             user.disabled, user.created_us),
        )  # fmt: skip
    log.execute("CREATE TEMP TABLE published (position INTEGER PRIMARY KEY, number, published_us)")
    read = 0
    while portion := [_decoded(_record, number, line) for number, line in _some(numbered)]:
        read += len(portion)
        _store(log, portion)
        done(len(portion))
    if read != head.records:
        raise SettingsError(f"there are {read} records, and the first line says {head.records}: the file is cut short")
    _derive(log)


def _some(lines: Iterator[tuple[int, bytes]]) -> Iterable[tuple[int, bytes]]:
    for _, each in zip(range(_ROWS), lines, strict=False):
        yield each


def _store(log: sqlite3.Connection, records: list[RecordLine]) -> None:
    log.executemany(
        "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (each.number, each.uuid.bytes, check_name(each.event), each.by, each.timestamp, each.due_us, each.log_only,
             each.inserted_us, bytes(each.data).decode())
            for each in records
        ],
    )  # fmt: skip
    log.executemany(
        "INSERT INTO temp.published VALUES (?, ?, ?)",
        [(each.position, each.number, each.published_us) for each in records if each.position is not None],
    )
    log.executemany(
        "INSERT INTO cancellations VALUES (?, ?, ?)",
        [(each.number, each.cancelled_by, each.cancelled_us) for each in records if each.cancelled_us is not None],
    )


def _derive(log: sqlite3.Connection) -> None:
    """What follows from the rows of the log: see the schema in ``migrations``."""
    log.execute(
        """INSERT INTO publications
           SELECT position, number, published_us, sum(length(CAST(data AS BLOB))) OVER (ORDER BY position)
           FROM temp.published JOIN records USING (number) ORDER BY position"""
    )
    log.execute("DROP TABLE temp.published")
    log.execute(
        """INSERT INTO pending SELECT due_us, number FROM records WHERE NOT log_only
           AND number NOT IN (SELECT number FROM publications) AND number NOT IN (SELECT number FROM cancellations)"""
    )
    log.execute(
        """INSERT INTO events
           SELECT e.event, latest, coalesce(length(CAST(r.data AS BLOB)), 0), waiting,
                  max(coalesce(length(CAST(r.data AS BLOB)), 0), largest)
           FROM (
               SELECT r.event, max(p.position) AS latest, count(w.number) AS waiting,
                      coalesce(max(length(CAST(r.data AS BLOB))) FILTER (WHERE w.number IS NOT NULL), 0) AS largest
               FROM records r LEFT JOIN publications p USING (number) LEFT JOIN pending w USING (number)
               GROUP BY r.event HAVING latest IS NOT NULL OR waiting
           ) e LEFT JOIN publications p ON p.position = latest LEFT JOIN records r ON r.number = p.number"""
    )
    log.execute(
        """UPDATE state SET last_number = (SELECT coalesce(max(number), 0) FROM records),
                  head = (SELECT coalesce(max(position), 0) FROM publications),
                  total_bytes = (SELECT coalesce(max(total_bytes), 0) FROM publications),
                  event_names = (SELECT count(*) FROM events),
                  reserved_bytes = (SELECT coalesce(sum(reserved), 0) FROM events)"""
    )


def _decoded(decode: Callable[[bytes], Any], number: int, line: bytes) -> Any:
    try:
        return decode(line)
    except (msgspec.DecodeError, UnicodeError, BadRequest) as error:
        where = f"line {number}" if line else "the end of the file"
        raise SettingsError(f"{where}: this is no line of `broker export`: {error}; nothing was stored") from None
