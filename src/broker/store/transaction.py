"""One writing transaction on SQLite: where positions are given. On the writer thread, under SQLite's write lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID

from broker.errors import BrokerError, Conflict, InsufficientStorage, NotFound
from broker.records import NewRecord, Published, Record
from broker.settings import MIB, Settings
from broker.store.base import Commit
from broker.users import User, username_key

# What is in memory at a time of many due records, and carried by a hint; the rest the relay reads, page by page.
_PAGE_RECORDS_MAX = 1_000
_PAGE_BYTES_MAX = 8 * MIB
# Rows in one statement: so many, and below the last of these as many as there are. Few different statements, so that
# SQLite has each ready; and SQLite takes 32,766 values at most.
_ROWS = (512, 128)
_NEXT_DUE = "SELECT min(due_us) FROM pending"

_T = TypeVar("_T")

RECORD_COLUMNS = """
    r.number, r.uuid, r.event, r.user, r.timestamp, r.due_us, r.log_only, r.inserted_us, CAST(r.data AS BLOB),
    p.position, p.published_us, c.number IS NOT NULL
"""
RECORD_TABLES = """
    records r LEFT JOIN publications p ON p.number = r.number LEFT JOIN cancellations c ON c.number = r.number
"""


def record_of(row: Sequence[Any]) -> Record:
    """A row of RECORD_COLUMNS."""
    number, uuid, event, user, timestamp, due_us, log_only, inserted_us, data, position, published_us, cancelled = row
    return Record(
        UUID(bytes=uuid), event, data, user, timestamp, due_us, bool(log_only), inserted_us,
        bool(cancelled), position, published_us, number,
    )  # fmt: skip


@dataclass(slots=True)
class _Event:
    """A row of ``events``."""

    position: int | None = None
    bytes: int = 0
    pending: int = 0
    reserved: int = 0


class Transaction:
    """Reads the head under the lock, gives positions, and writes all rows at the end in few statements.

    Owned by the writer thread; lives for one transaction. What it counts is in the database again after ``finish``."""

    def __init__(self, connection: sqlite3.Connection, now_us: int, settings: Settings) -> None:
        self._db = connection
        self._now_us = now_us
        self._settings = settings
        state: tuple[int, int, int, int, int, int | None] = connection.execute(
            f"SELECT last_number, head, total_bytes, event_names, reserved_bytes, ({_NEXT_DUE}) FROM state"  # noqa: S608
        ).fetchone()
        self._last_number, self._head, self._total_bytes, self._event_names, self._reserved = state[:5]
        self._next_due_us = state[5]
        self._before = self._counters()
        self._events: dict[str, _Event] = {}
        # Rows not written yet, one value after the other, as a statement takes them.
        self._records: list[Any] = []
        self._publications: list[int] = []
        self._pending: list[int] = []
        self._gone: list[tuple[str]] = []
        self._hint: list[Published] = []
        self._hint_bytes = 0
        self._published = 0

    def publish_due(self) -> None:
        """Publishes all that is due, ordered by (due time, number)."""
        if self._next_due_us is None or self._next_due_us > self._now_us:
            return
        while rows := self._due():
            self._load_events({event for _, _, event, _ in rows})
            for _, number, event, data in rows:
                self._events[event].pending -= 1
                self._publish(event, number, data)
            self._db.executemany("DELETE FROM pending WHERE due_us = ? AND number = ?", [row[:2] for row in rows])
            self._flush()
        (self._next_due_us,) = self._db.execute(_NEXT_DUE).fetchone()

    def append(self, batches: Sequence[Sequence[NewRecord]]) -> list[list[tuple[Record, bool]] | BrokerError]:
        """One result for each batch: a bad record leaves its batch out, and the others go through."""
        known = self._known({new.uuid for batch in batches for new in batch if new.uuid_given})
        self._load_events({new.event for batch in batches for new in batch if not new.log_only})
        return [self._append_batch(batch, known) for batch in batches]

    def _append_batch(
        self, batch: Sequence[NewRecord], known: dict[UUID, Record]
    ) -> list[tuple[Record, bool]] | BrokerError:
        """All of its records, or none: what the first ones changed is taken back."""
        undo = self._undo(batch) if len(batch) > 1 else None  # a single one that is refused has changed nothing
        results: list[tuple[Record, bool]] = []
        try:
            for new in batch:
                if not new.uuid_given:  # made by the server, so it is new
                    results.append((self._append(new), True))
                elif first := known.get(new.uuid):
                    results.append((_repeated(first, new), False))
                else:
                    record = known[new.uuid] = self._append(new)
                    results.append((record, True))
        except BrokerError as error:
            error.index = len(results)
            if undo is not None:
                undo()
            for record, created in results:
                if created:
                    known.pop(record.uuid, None)
            return error
        return results

    def _undo(self, batch: Sequence[NewRecord]) -> Callable[[], None]:
        """What puts back all that ``_append`` changes."""
        counters, published, hint_bytes = self._counters(), self._published, self._hint_bytes
        next_due_us = self._next_due_us
        gathered: list[list[Any]] = [self._records, self._publications, self._pending, self._hint]
        lengths = [len(rows) for rows in gathered]
        names = {new.event for new in batch}
        events = {name: replace(self._events[name]) for name in names & self._events.keys()}

        def undo() -> None:
            self._last_number, self._head, self._total_bytes, self._event_names, self._reserved = counters
            self._published, self._hint_bytes = published, hint_bytes
            self._next_due_us = next_due_us
            for rows, length in zip(gathered, lengths, strict=True):
                del rows[length:]
            for name in names:
                self._events.pop(name, None)
            self._events |= events

        return undo

    def cancel(self, uuid: UUID, user: str) -> Record:
        self._flush()
        row = self._db.execute(
            f"SELECT {RECORD_COLUMNS} FROM {RECORD_TABLES} WHERE r.uuid = ?",  # noqa: S608 (constants only)
            (uuid.bytes,),
        ).fetchone()
        if row is None:
            raise NotFound(f"no record has the uuid {uuid}")
        record = record_of(row)
        if record.cancelled:
            return record
        if record.log_only:
            raise Conflict("the record is log-only: it never goes out, so there is nothing to cancel")
        if record.position is not None:
            raise Conflict("the record is published already; insert a newer version instead")
        self._db.execute("DELETE FROM pending WHERE due_us = ? AND number = ?", (record.due_us, record.number))
        self._db.execute("INSERT INTO cancellations VALUES (?, ?, ?)", (record.number, user, self._now_us))
        self._load_events({record.event})
        entry = self._events[record.event]
        entry.pending -= 1
        if not entry.pending:
            self._settle(record.event, entry)
        (self._next_due_us,) = self._db.execute(_NEXT_DUE).fetchone()
        return record_of((*row[:-1], True))

    def add_user(self, user: User) -> None:
        key = username_key(user.username)
        if self._db.execute("SELECT 1 FROM users WHERE username_key = ?", (key,)).fetchone():
            raise Conflict(f"the user name {user.username} is taken")
        self._db.execute(
            "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (user.id, user.username, key, user.info.decode(), user.password_hash, user.gen, user.disabled,
             self._now_us),
        )  # fmt: skip

    def finish(self) -> Commit:
        """Writes what is left; after it comes COMMIT."""
        self._flush()
        events: list[Any] = []
        for event, entry in self._events.items():
            events += (event, entry.position, entry.bytes, entry.pending, entry.reserved)
        self._write("REPLACE INTO events", 5, events)
        if self._counters() != self._before:
            self._db.execute(
                "UPDATE state SET last_number = ?, head = ?, total_bytes = ?, event_names = ?, reserved_bytes = ?",
                self._counters(),
            )
        return Commit(self._hint if len(self._hint) == self._published else [], self._head, self._next_due_us)

    def _flush(self) -> None:
        """Writes the rows gathered so far, so that queries see them."""
        self._write("INSERT INTO records", 9, self._records)
        self._write("INSERT INTO pending", 2, self._pending)
        self._write("INSERT INTO publications", 4, self._publications)
        self._records, self._pending, self._publications = [], [], []
        if self._gone:
            self._db.executemany("DELETE FROM events WHERE event = ?", self._gone)
            self._gone = []

    def _due(self) -> list[tuple[int, int, str, bytes]]:
        rows, size = [], 0
        for row in self._db.execute(
            """SELECT p.due_us, p.number, r.event, CAST(r.data AS BLOB)
               FROM pending p JOIN records r ON r.number = p.number
               WHERE p.due_us <= ? ORDER BY p.due_us, p.number LIMIT ?""",
            (self._now_us, _PAGE_RECORDS_MAX),
        ):
            rows.append(row)
            size += len(row[3])
            if size > _PAGE_BYTES_MAX:
                break
        return rows

    def _append(self, new: NewRecord) -> Record:
        """Raises InsufficientStorage, with nothing changed."""
        now_us, event, data = self._now_us, new.event, new.data
        due_us = now_us if new.due_us is None else new.due_us
        immediate = due_us <= now_us
        if not new.log_only:
            self._reserve(event, len(data), immediate)
        self._last_number = number = self._last_number + 1
        self._records += (
            number, new.uuid.bytes, event, new.user, new.timestamp, due_us, new.log_only, now_us, data.decode()
        )  # fmt: skip
        position = published_us = None
        if not new.log_only and immediate:
            position, published_us = self._publish(event, number, data), now_us
        elif not new.log_only:
            self._pending += (due_us, number)
            self._events[event].pending += 1
            if self._next_due_us is None or due_us < self._next_due_us:
                self._next_due_us = due_us
        return Record(
            new.uuid, event, data, new.user, new.timestamp, due_us, new.log_only, now_us,
            False, position, published_us, number,
        )  # fmt: skip

    def _publish(self, event: str, number: int, data: bytes) -> int:
        self._head = position = self._head + 1
        size = len(data)
        self._total_bytes += size
        self._publications += (position, number, self._now_us, self._total_bytes)
        self._published += 1
        if len(self._hint) < _PAGE_RECORDS_MAX and self._hint_bytes < _PAGE_BYTES_MAX:
            self._hint.append(Published(position, event, data))
            self._hint_bytes += size
        entry = self._events[event]
        entry.position, entry.bytes = position, size
        if not entry.pending:
            self._settle(event, entry)
        return position

    def _reserve(self, event: str, size: int, immediate: bool) -> None:
        """Makes sure that the snapshot stays within its bounds whatever is published later: a pending record counts
        from its insert on, since publishing it cannot be refused any more."""
        entry = self._events.get(event)
        if entry is None:
            if self._event_names >= self._settings.event_names_max:
                raise InsufficientStorage(
                    f"there are {self._event_names} different events already (event_names_max); use known names"
                )
            entry = _Event()
        reserved = size if immediate and not entry.pending else max(entry.reserved, size)
        total = self._reserved + reserved - entry.reserved
        if reserved > entry.reserved and total > self._settings.snapshot_bytes_max:
            raise InsufficientStorage(
                f"the latest of all events would be {total} bytes (snapshot_bytes_max); insert smaller data"
            )
        if event not in self._events:
            self._events[event] = entry
            self._event_names += 1
        self._reserved, entry.reserved = total, reserved

    def _settle(self, event: str, entry: _Event) -> None:
        """After a publication or a cancellation that leaves nothing pending: only the latest counts."""
        self._reserved += entry.bytes - entry.reserved
        entry.reserved = entry.bytes
        if entry.position is None:
            self._event_names -= 1
            self._gone.append((event,))
            del self._events[event]

    def _load_events(self, names: set[str]) -> None:
        for some in _portions(sorted(names - self._events.keys())):
            rows = self._db.execute(
                f"SELECT * FROM events WHERE event IN ({_marks(len(some))})",  # noqa: S608 (marks only)
                some,
            )
            self._events |= {event: _Event(*rest) for event, *rest in rows}

    def _known(self, uuids: set[UUID]) -> dict[UUID, Record]:
        known: dict[UUID, Record] = {}
        for some in _portions([uuid.bytes for uuid in uuids]):
            rows = self._db.execute(
                f"SELECT {RECORD_COLUMNS} FROM {RECORD_TABLES} WHERE r.uuid IN ({_marks(len(some))})",  # noqa: S608
                some,
            )
            known |= {record.uuid: record for record in map(record_of, rows)}
        return known

    def _write(self, insert: str, columns: int, values: Sequence[Any]) -> None:
        """Many rows a statement: each one gives up the GIL, and may wait for it as long as the loop is busy."""
        row = f"({_marks(columns)})"
        for some in _portions(values, columns):
            self._db.execute(f"{insert} VALUES {','.join([row] * (len(some) // columns))}", some)

    def _counters(self) -> tuple[int, ...]:
        return self._last_number, self._head, self._total_bytes, self._event_names, self._reserved


def _repeated(first: Record, new: NewRecord) -> Record:
    """``first`` if ``new`` is the same insert again; raises Conflict otherwise."""
    same = (first.user, first.event, first.data, first.log_only, first.timestamp)
    if same != (new.user, new.event, new.data, new.log_only, new.timestamp):
        raise Conflict(f"the uuid {new.uuid} belongs to another insert; make a new one for each record")
    return first


def _portions(values: Sequence[_T], columns: int = 1) -> Iterable[Sequence[_T]]:
    """The values of so many rows as a statement takes."""
    start = 0
    for rows in _ROWS:
        size = rows * columns
        while len(values) - start >= size:
            yield values[start : start + size]
            start += size
    if start < len(values):
        yield values[start:]


def _marks(count: int) -> str:
    return ",".join("?" * count)
