"""``broker verify``: walks an SQLite log and checks every invariant that its rows can show (DESIGN section 3)."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from broker.errors import BadRequest, SettingsError
from broker.names import check_name
from broker.store.database import connect

_TELL_EVERY = 1_000  # records

# Each finds what must not be: a row of its text for each fault.
_FAULTS = (
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
     """SELECT e.event FROM events e JOIN publications p USING (position) JOIN records r USING (number)
        WHERE e.bytes != length(CAST(r.data AS BLOB))"""),
    ("an event has another number of waiting records than it says",
     """SELECT event FROM events e WHERE pending !=
        (SELECT count(*) FROM pending p JOIN records r USING (number) WHERE r.event = e.event)"""),
    ("an event has records that go out, and no row",
     "SELECT DISTINCT event FROM records WHERE NOT log_only AND event NOT IN (SELECT event FROM events) "
     "AND number NOT IN (SELECT number FROM cancellations)"),
    ("there is not exactly one current epoch",
     "SELECT count(*) FROM epochs WHERE ended IS NULL HAVING count(*) != 1"),
    ("an epoch ended beyond the head",
     "SELECT epoch FROM epochs, state WHERE ended > head"),
    ("the counters of the log are wrong (last_number, head, event_names, reserved_bytes)",
     """SELECT 'state' FROM state WHERE last_number != (SELECT coalesce(max(number), 0) FROM records)
        OR head != (SELECT coalesce(max(position), 0) FROM publications)
        OR event_names != (SELECT count(*) FROM events)
        OR reserved_bytes != (SELECT coalesce(sum(reserved), 0) FROM events)"""),
)  # fmt: skip


class Fault(NamedTuple):
    """What is wrong, and where."""

    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.what}: {self.where}"


def count(file: Path) -> int:
    """The records of a log. Raises SettingsError."""
    with _reading(file) as log:
        return int(log.execute("SELECT count(*) FROM records").fetchone()[0])


def verify(file: Path, done: Callable[[int], None]) -> Iterator[Fault]:
    """All that is wrong. ``done`` hears of so many more records that were looked at. Raises SettingsError."""
    with _reading(file) as log:
        log.execute("BEGIN")  # one moment for all, also while a server writes
        for (text,) in log.execute("PRAGMA integrity_check(20)"):
            if text != "ok":
                yield Fault("the file is damaged", text)
        yield from _walk_records(log, done)
        yield from _walk_positions(log)
        for what, select in _FAULTS:
            for (where,) in log.execute(f"{select} LIMIT 5"):
                yield Fault(what, str(where))


def _walk_records(log: sqlite3.Connection, done: Callable[[int], None]) -> Iterator[Fault]:
    expected = 0
    for number, event, data in log.execute("SELECT number, event, CAST(data AS BLOB) FROM records ORDER BY number"):
        expected += 1
        if number != expected:
            yield Fault("records are missing before number", str(number))
            expected = number
        try:
            check_name(event)
            msgspec.json.decode(data, type=msgspec.Raw)
        except (BadRequest, msgspec.DecodeError, UnicodeError) as error:
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
def _reading(file: Path) -> Iterator[sqlite3.Connection]:
    if not file.is_file():
        raise SettingsError(f"{file} is not there; give the server's --data folder, or a backup's file")
    try:
        with contextlib.closing(connect(file)) as log:
            log.execute("PRAGMA query_only = ON")
            yield log
    except sqlite3.Error as error:
        raise SettingsError(
            f"{file} cannot be read: {error}; put your last backup back with `broker restore`"
        ) from error
