"""One write transaction, for both databases. This is the only place where records get their numbers and positions.

The transaction runs on the writer's thread, between BEGIN and COMMIT, while that thread holds the store's write lock.
All data that determines the order of the log is read after the lock is acquired, and written before it is released. No
data is kept from one transaction to the next, because another node may write in between."""

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

# Due records are read from the database in pages, and these are the limits of one page. They are also the limits of the
# published records that a transaction passes to the relay, in the wake-up hint ``Commit``. If the transaction publishes
# more records, the hint has none of them, and the relay reads the records from the store, page by page.
_PAGE_RECORDS_MAX = 1_000
_PAGE_BYTES_MAX = 8 * MIB

Due = tuple[int, int, str, bytes]  # a pending record's due time, number, event and data
# A row of the table ``events``: the event's name, position, bytes, pending and reserved (see _Event).
EventRow = tuple[str, int | None, int, int, int]


class Counters(NamedTuple):
    """The one row of the table ``state``."""

    last_number: int
    head: int
    total_bytes: int
    event_names: int
    reserved_bytes: int


class Tables(Protocol):
    """The SQL of one kind of database, within a transaction that holds the write lock.

    ``add_records``, ``add_publications``, ``add_pending`` and ``put_events`` accept the values of many rows as one flat
    list, row after row, because the parameters of a statement have that form. ``due`` returns pending records in the
    order of (due time, number): as many as the two limits allow, but at least one if any is due. Later queries see the
    rows that were added earlier."""

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
    """The state of one event: a row of ``events``."""

    position: int | None = None  # the position of its latest record; None: no record of it was published yet
    bytes: int = 0  # the size of the latest record's data
    pending: int = 0  # the number of its pending records
    reserved: int = 0  # how many bytes of the snapshot are reserved for it: see Transaction._reserve


class Transaction:
    """Reads the counters under the lock, assigns numbers and positions, and writes all rows in few statements.

    The order of calls is ``publish_due``, then ``append``, then ``cancel`` and ``add_user``, then ``finish``, and then
    COMMIT:

    * ``publish_due`` is called first, so that records inserted now get positions after the records that were due
      earlier.
    * ``append`` is called at most once, and before ``cancel``. It reads known uuids and the rows of events from the
      database. The danger: rows that an earlier ``append`` has added, or that ``cancel`` has removed, may not be
      written to the database yet, so a second call could read old data.
    * If ``finish`` is not called, or fails, the caller must roll back. Before ``finish`` the database may contain rows
      that its counters do not include.

    Mutable state: the counters, the rows of the events that were read, and the rows that are not written yet. All of it
    belongs to the writer's thread, and is in the database after ``finish``. ``head`` and ``next_due_us`` are correct
    at any time."""

    def __init__(self, tables: Tables, now_us: int, settings: Settings, epoch: str) -> None:
        self._tables = tables
        self._now_us = now_us
        self._settings = settings
        self._epoch = epoch  # read under the lock, because another node may have begun a new epoch
        self._before = tables.counters()
        self._last_number, self.head, self._total_bytes, self._event_names, self._reserved = self._before
        self.next_due_us = tables.next_due()
        self._events: dict[str, _Event] = {}
        # The values of the rows that are not written yet, row after row.
        self._records: list[Any] = []
        self._publications: list[int] = []
        self._pending: list[int] = []
        self._removed: list[str] = []  # the names of events that have no latest and no pending record any more
        # The published records that the relay receives with the commit, in position order, and the number of all
        # published records. The danger: the relay would treat an incomplete hint as all records of the commit. So if
        # more records were published than the hint has, the hint is sent without any records.
        self._hint: list[Published] = []
        self._hint_bytes = 0
        self._published = 0

    def publish_due(self) -> None:
        """Publishes all records that are due, in the order of (due time, number)."""
        if self.next_due_us is None or self.next_due_us > self._now_us:
            return
        while rows := list(self._tables.due(self._now_us, _PAGE_RECORDS_MAX, _PAGE_BYTES_MAX)):
            self._load_events({event for _, _, event, _ in rows})
            for _, number, event, data in rows:
                self._events[event].pending -= 1
                self._publish(event, number, data)
            # This must be done before the next page is read. Otherwise ``due`` would return the same records again, and
            # they would be published twice.
            self._tables.remove_pending([row[:2] for row in rows])
            self._flush()
        self.next_due_us = self._tables.next_due()

    def append(self, batches: Sequence[Sequence[NewRecord]]) -> list[list[tuple[Record, bool]] | BrokerError]:
        """Returns one result for each batch: either a list with a pair (record, whether it is new) for each of its
        records, or the error because of which the whole batch was refused. An error in one batch does not affect the
        other batches, which belong to other requests."""
        # A uuid that the server generated is new, so the database is not searched for it.
        uuids = {new.uuid for batch in batches for new in batch if new.uuid_given}
        by_uuid = {record.uuid: record for record in self._tables.records(list(uuids))} if uuids else {}
        self._load_events({new.event for batch in batches for new in batch if not new.log_only})
        return [self._append_batch(batch, by_uuid) for batch in batches]

    def _append_batch(
        self, batch: Sequence[NewRecord], by_uuid: dict[UUID, Record]
    ) -> list[tuple[Record, bool]] | BrokerError:
        """Appends all records of the batch, or none: if one is refused, the changes of those before it are undone.

        ``by_uuid`` contains the stored records whose uuids occur in these batches. Each appended record with a given
        uuid is added to it, so that a repeated insert is also recognised within one transaction."""
        # A batch of one record needs no undo, because a record that is refused has changed nothing: see _append.
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
        """Returns a function that restores all state that ``_append`` may change for this batch.

        The danger: if some of this state were not restored, the numbers, positions or reserved bytes of a refused batch
        would be committed with the other batches. For example, without the old ``head`` the positions would have a gap.
        So if ``_append`` is extended to change more state, that state must be restored here, too."""
        counters, published, hint_bytes = self._counters(), self._published, self._hint_bytes
        next_due_us = self.next_due_us
        # Nothing is flushed while a batch is appended, so these lists only grow. Cutting them to their old length is
        # enough.
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
        """Cancels a pending record. If the record is already cancelled, returns it unchanged. If this raises NotFound
        or Conflict, no record was changed."""
        self._flush()  # the record may have been appended in this transaction
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
        """Adds a user. Raises Conflict if there is a user with this name; upper and lower case are not
        distinguished."""
        if self._tables.has_user(username_key(user.username)):
            raise Conflict(f"the user name {user.username} is taken")
        self._tables.add_user(user, self._now_us)

    def finish(self) -> Commit:
        """Writes all changes that are not written yet. COMMIT comes next.

        The danger: if COMMIT fails, the records in the returned hint do not exist. So the caller must not pass the hint
        on before COMMIT has succeeded."""
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
        """Appends one record, and publishes it if it is due. If this raises InsufficientStorage, nothing was
        changed."""
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
        """Assigns the next position to the record, and makes it the latest of its event. Returns the position."""
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
        """Reserves space for a record, so that the snapshot stays within its limits, whatever is published later.

        The danger: the publication of a pending record cannot be refused, and could exceed a limit. So the space
        for a pending record is reserved when it is inserted. An event without pending records reserves the size of its
        latest record. An event with pending records reserves the largest size that its latest record may have in
        future.

        If this raises InsufficientStorage, nothing was changed. The error messages name the setting, but contain no
        numbers, because numbers would tell a user how much other users have inserted."""
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
        """Called when an event has no pending record, after a publication or a cancellation. From then on only its
        latest record counts. If it has no latest record either, the event is removed, and its name does not count
        against ``event_names_max`` any more."""
        self._reserved += entry.bytes - entry.reserved
        entry.reserved = entry.bytes
        if entry.position is None:
            self._event_names -= 1
            self._removed.append(event)
            del self._events[event]

    def _load_events(self, names: set[str]) -> None:
        """Reads the rows of those events that this transaction has not read yet. An event without a row is new."""
        if missing := sorted(names - self._events.keys()):
            self._events |= {row[0]: _Event(*row[1:]) for row in self._tables.events(missing)}

    def _counters(self) -> Counters:
        return Counters(self._last_number, self.head, self._total_bytes, self._event_names, self._reserved)


def _repeated(first: Record, new: NewRecord) -> Record:
    """Returns ``first`` if ``new`` repeats the same insert. Raises Conflict otherwise."""
    same = (first.user, first.event, first.data, first.log_only, first.timestamp)
    if same != (new.user, new.event, new.data, new.log_only, new.timestamp):
        raise Conflict(f"the uuid {new.uuid} belongs to another insert; make a new one for each record")
    return first
