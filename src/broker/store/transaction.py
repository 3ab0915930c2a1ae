"""One writing transaction, for both databases: the one place where records get their numbers and positions.

It runs on the writer's thread, between BEGIN and COMMIT, while that thread holds the store's write lock. Everything
that the order of the log depends on is read after the lock was taken, and is written before it is released. Nothing is
kept from one transaction to the next, because another node may have written in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import msgspec

from broker.errors import BrokerError, Conflict, InsufficientStorage, NotFound
from broker.records import NewRecord, Published, Record
from broker.settings import MIB, Settings
from broker.store.base import Commit
from broker.users import User, username_key

# How much of many due records is in memory at a time, and how much a hint carries. Beyond that the relay reads the
# records from the store, page by page.
_PAGE_RECORDS_MAX = 1_000
_PAGE_BYTES_MAX = 8 * MIB

Due = tuple[int, int, str, bytes]  # a pending record's due time, number, event and data
EventRow = tuple[str, int | None, int, int, int]  # a row of ``events``


class Counters(NamedTuple):
    """The row of ``state``."""

    last_number: int
    head: int
    total_bytes: int
    event_names: int
    reserved_bytes: int


class Tables(Protocol):
    """The SQL of one kind of database, within a transaction that holds the write lock.

    ``add_records``, ``add_publications``, ``add_pending`` and ``put_events`` take the values of many rows, one row
    behind the other, because that is how one statement takes them. ``due`` returns pending records in the order of
    (due time, number): one at least if any is due, and as many as fit. What was added is seen by later queries."""

    def counters(self) -> Counters: ...
    def next_due(self) -> int | None: ...
    def due(self, now_us: int, records_max: int, bytes_max: int) -> Iterable[Due]: ...
    def events(self, names: Sequence[str]) -> Iterable[EventRow]: ...
    def records(self, uuids: Sequence[UUID]) -> Iterable[Record]: ...
    def has_user(self, key: str) -> bool: ...
    def add_user(self, user: User, now_us: int) -> None: ...
    def add_records(self, values: Sequence[Any]) -> None: ...
    def add_publications(self, values: Sequence[Any]) -> None: ...
    def add_pending(self, values: Sequence[Any]) -> None: ...
    def add_cancellation(self, number: int, user: str, now_us: int) -> None: ...
    def remove_pending(self, pending: Sequence[tuple[int, int]]) -> None: ...
    def put_events(self, values: Sequence[Any]) -> None: ...
    def remove_events(self, names: Sequence[str]) -> None: ...
    def put_counters(self, counters: Counters) -> None: ...


@dataclass(slots=True)
class _Event:
    """What is known of one event: a row of ``events``."""

    position: int | None = None  # of its latest record; None: nothing of it was published yet
    bytes: int = 0  # of the latest record's data
    pending: int = 0  # how many of its records are pending
    reserved: int = 0  # how many bytes of the snapshot it may come to need: see Transaction._reserve


class Transaction:
    """Reads the counters under the lock, gives numbers and positions, and writes all rows in few statements.

    The order of calls is ``publish_due``, then ``append``, then ``cancel`` and ``add_user``, then ``finish``, and then
    COMMIT:

    * ``publish_due`` comes first, so that what is inserted now is published behind what was due earlier.
    * ``append`` comes once, and before ``cancel``. It looks in the database for known uuids and for the rows of events,
      and what it appended itself, or what ``cancel`` has removed, may not be written there yet.
    * Whoever does not get as far as ``finish`` must roll back. Until then the database may have rows which the counters
      there do not include.

    Mutable state: the counters, the rows of the events that were touched, and the rows that are not written yet. All of
    it belongs to the writer's thread, and is in the database after ``finish``. ``head`` and ``next_due_us`` are correct
    at any time."""

    def __init__(self, tables: Tables, now_us: int, settings: Settings, epoch: str) -> None:
        self._tables = tables
        self._now_us = now_us
        self._settings = settings
        self._epoch = epoch  # as read under the lock: another node may have begun a new one
        self._before = tables.counters()
        self._last_number, self.head, self._total_bytes, self._event_names, self._reserved = self._before
        self.next_due_us = tables.next_due()
        self._events: dict[str, _Event] = {}
        # Rows that are not written yet: their values, one row behind the other.
        self._records: list[Any] = []
        self._publications: list[int] = []
        self._pending: list[int] = []
        self._removed: list[str] = []  # the names of events that have neither a latest nor a pending record any more
        # What the relay is given with the commit, in position order, and how many records were published in all. If
        # these are more than the hint has, no records are given at all: a part of them would look like all of them.
        self._hint: list[Published] = []
        self._hint_bytes = 0
        self._published = 0

    def publish_due(self) -> None:
        """Publishes all that is due, in the order of (due time, number)."""
        if self.next_due_us is None or self.next_due_us > self._now_us:
            return
        while rows := list(self._tables.due(self._now_us, _PAGE_RECORDS_MAX, _PAGE_BYTES_MAX)):
            self._load_events({event for _, _, event, _ in rows})
            for _, number, event, data in rows:
                self._events[event].pending -= 1
                self._publish(event, number, data)
            # Before the next page is read: it begins with what is pending then.
            self._tables.remove_pending([row[:2] for row in rows])
            self._flush()
        self.next_due_us = self._tables.next_due()

    def append(self, batches: Sequence[Sequence[NewRecord]]) -> list[list[tuple[Record, bool]] | BrokerError]:
        """One result for each batch: its records, or the error for which all of it was refused. An error in one batch
        does not concern the others, which are of other requests."""
        # A uuid that the server made is new, so it need not be looked up.
        uuids = {new.uuid for batch in batches for new in batch if new.uuid_given}
        by_uuid = {record.uuid: record for record in self._tables.records(list(uuids))} if uuids else {}
        self._load_events({new.event for batch in batches for new in batch if not new.log_only})
        return [self._append_batch(batch, by_uuid) for batch in batches]

    def _append_batch(
        self, batch: Sequence[NewRecord], by_uuid: dict[UUID, Record]
    ) -> list[tuple[Record, bool]] | BrokerError:
        """Appends all of the batch's records, or none: what the first ones have changed is undone.

        ``by_uuid`` has the known records whose uuids occur in these batches, and gets those that are appended, so that
        a repetition is recognised within one transaction, too."""
        # A single record that is refused has changed nothing: see _append.
        undo = self._undo(batch) if len(batch) > 1 else None
        results: list[tuple[Record, bool]] = []
        try:
            for new in batch:
                if not new.uuid_given:
                    results.append((self._append(new), True))
                elif first := by_uuid.get(new.uuid):
                    results.append((_repeated(first, new), False))
                else:
                    record = by_uuid[new.uuid] = self._append(new)
                    results.append((record, True))
        except BrokerError as error:
            error.index = len(results)
            if undo is not None:
                undo()
            for record, created in results:
                if created:
                    by_uuid.pop(record.uuid, None)
            return error
        return results

    def _undo(self, batch: Sequence[NewRecord]) -> Callable[[], None]:
        """Returns what puts back all that ``_append`` may change for this batch.

        The danger: whatever ``_append`` comes to change later must be put back here, too. Otherwise a batch that was
        refused would leave numbers, positions or reserved bytes behind, which are then committed with the other
        batches. ``head`` must come back, or positions have a hole."""
        counters, published, hint_bytes = self._counters(), self._published, self._hint_bytes
        next_due_us = self.next_due_us
        # Lists only grow while a batch is appended, as nothing is flushed then. So it is enough to cut them.
        unwritten: list[list[Any]] = [self._records, self._publications, self._pending, self._hint]
        lengths = [len(rows) for rows in unwritten]
        names = {new.event for new in batch}
        events = {name: replace(self._events[name]) for name in names & self._events.keys()}

        def undo() -> None:
            self._last_number, self.head, self._total_bytes, self._event_names, self._reserved = counters
            self._published, self._hint_bytes = published, hint_bytes
            self.next_due_us = next_due_us
            for rows, length in zip(unwritten, lengths, strict=True):
                del rows[length:]
            for name in names:
                self._events.pop(name, None)
            self._events |= events

        return undo

    def cancel(self, uuid: UUID, user: str) -> Record:
        """Cancels a pending record. One that is cancelled already is returned unchanged. Raises NotFound or Conflict,
        with nothing changed."""
        self._flush()  # it may have been appended in this transaction
        record = next(iter(self._tables.records([uuid])), None)
        if record is None:
            raise NotFound(f"no record has the uuid {uuid}")
        if record.cancelled:
            return record
        if record.log_only:
            raise Conflict("the record is log-only: it is never published, so there is nothing to cancel")
        if record.position is not None:
            raise Conflict("the record is published already; insert a newer version instead")
        self._tables.remove_pending([(record.due_us, record.number)])
        self._tables.add_cancellation(record.number, user, self._now_us)
        self._load_events({record.event})
        entry = self._events[record.event]
        entry.pending -= 1
        if not entry.pending:
            self._settle(record.event, entry)
        self.next_due_us = self._tables.next_due()
        return msgspec.structs.replace(record, cancelled=True)

    def add_user(self, user: User) -> None:
        """Raises Conflict if the name is taken, without regard to case."""
        if self._tables.has_user(username_key(user.username)):
            raise Conflict(f"the user name {user.username} is taken")
        self._tables.add_user(user, self._now_us)

    def finish(self) -> Commit:
        """Writes what is not written yet. COMMIT comes next; the hint that is returned may be given to nobody before
        that has succeeded."""
        self._flush()
        events: list[Any] = []
        for event, entry in self._events.items():
            events += (event, entry.position, entry.bytes, entry.pending, entry.reserved)
        if events:
            self._tables.put_events(events)
        if (counters := self._counters()) != self._before:
            self._tables.put_counters(counters)
        hint = self._hint if len(self._hint) == self._published else []
        return Commit(hint, self.head, self.next_due_us, self._epoch)

    def _flush(self) -> None:
        """Writes the rows that are not written yet, so that queries see them."""
        if self._records:
            self._tables.add_records(self._records)
        if self._pending:
            self._tables.add_pending(self._pending)
        if self._publications:
            self._tables.add_publications(self._publications)
        self._records, self._pending, self._publications = [], [], []
        if self._removed:
            self._tables.remove_events(self._removed)
            self._removed = []

    def _append(self, new: NewRecord) -> Record:
        """Appends one record, and publishes it if it is due. Raises InsufficientStorage, with nothing changed."""
        now_us, event, data = self._now_us, new.event, new.data
        due_us = now_us if new.due_us is None else new.due_us
        immediate = due_us <= now_us
        if not new.log_only:
            self._reserve(event, len(data), immediate)
        self._last_number = number = self._last_number + 1
        self._records += (
            number, new.uuid, event, new.user, new.timestamp, due_us, new.log_only, now_us, data.decode()
        )  # fmt: skip
        position = published_us = None
        if not new.log_only and immediate:
            position, published_us = self._publish(event, number, data), now_us
        elif not new.log_only:
            self._pending += (due_us, number)
            self._events[event].pending += 1
            if self.next_due_us is None or due_us < self.next_due_us:
                self.next_due_us = due_us
        return Record(
            new.uuid, event, data, new.user, new.timestamp, due_us, new.log_only, now_us,
            False, position, published_us, number, self._epoch,
        )  # fmt: skip

    def _publish(self, event: str, number: int, data: bytes) -> int:
        """Gives the record the next position, and makes it the latest of its event. Returns the position."""
        self.head = position = self.head + 1
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
        """Makes sure that the snapshot stays within its bounds, whatever is published later. A pending record counts
        from its insert on, because its publication cannot be refused any more.

        So an event reserves the size of its latest record; or, while any of its records is pending, the largest size
        that the latest may come to have. Raises InsufficientStorage, with nothing changed. The texts name the setting
        and no numbers: those would show what others have inserted."""
        entry = self._events.get(event)
        if entry is None:
            if self._event_names >= self._settings.event_names_max:
                raise InsufficientStorage(
                    "there is no room for another event name (event_names_max is reached); insert under a name that is "
                    "in use"
                )
            entry = _Event()
        reserved = size if immediate and not entry.pending else max(entry.reserved, size)
        total = self._reserved + reserved - entry.reserved
        if reserved > entry.reserved and total > self._settings.snapshot_bytes_max:
            raise InsufficientStorage(
                "the latest versions of all events would be too large together (snapshot_bytes_max is reached); "
                "insert smaller data"
            )
        if event not in self._events:
            self._events[event] = entry
            self._event_names += 1
        self._reserved, entry.reserved = total, reserved

    def _settle(self, event: str, entry: _Event) -> None:
        """Called when a publication or a cancellation has left nothing pending: only the latest counts from now on. An
        event that has none gives its name back."""
        self._reserved += entry.bytes - entry.reserved
        entry.reserved = entry.bytes
        if entry.position is None:
            self._event_names -= 1
            self._removed.append(event)
            del self._events[event]

    def _load_events(self, names: set[str]) -> None:
        """Reads the rows of the events that are not known yet. An event without a row is new."""
        if missing := sorted(names - self._events.keys()):
            self._events |= {row[0]: _Event(*row[1:]) for row in self._tables.events(missing)}

    def _counters(self) -> Counters:
        return Counters(self._last_number, self.head, self._total_bytes, self._event_names, self._reserved)


def _repeated(first: Record, new: NewRecord) -> Record:
    """Returns ``first`` if ``new`` is the same insert again. Raises Conflict otherwise."""
    same = (first.user, first.event, first.data, first.log_only, first.timestamp)
    if same != (new.user, new.event, new.data, new.log_only, new.timestamp):
        raise Conflict(f"the uuid {new.uuid} belongs to another insert; make a new one for each record")
    return first
