"""One write transaction, for both databases. This is the only place where records get their numbers and positions.

The transaction runs on the writer's thread, between BEGIN and COMMIT, while that thread holds the store's write lock.
All data that determines the order of the log is read after the lock is acquired, and written before it is released. No
data is kept from one transaction to the next, because another node may write in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import msgspec

from broker.errors import (
    BadRequest,
    BrokerError,
    Conflict,
    InsufficientStorage,
    Late,
    NotFound,
    PreconditionFailed,
)
from broker.records import REMOVAL, Cancel, EventId, NewRecord, Record, Uuids
from broker.settings import MIB, Settings
from broker.store.base import Commit
from broker.users import User, username_key

# Due records are read from the database in pages, and these are the limits of one page. They are also the limits of the
# published records that a transaction passes to the relay, in the wake-up hint ``Commit``. If the transaction publishes
# more records, the hint has none of them, and the relay reads the records from the store, page by page.
_PAGE_RECORDS_MAX = 1_000
_PAGE_BYTES_MAX = 8 * MIB
_LATE_US = 5_000_000  # a record that may not be late is refused if its time passed longer ago than this

# A row of the table ``events``: the event's name, position, bytes, pending, reserved, removed and until_us (see
# _Event).
EventRow = tuple[str, int | None, int, int, int, bool, int | None]


class Counters(NamedTuple):
    """The one row of the table ``state``."""

    last_number: int
    head: int
    total_bytes: int
    event_names: int
    reserved_bytes: int
    removals: int
    removals_floor: int


class Ending(NamedTuple):
    """A version whose ``until`` has come. Endings are sorted by time, and then by the number of their version."""

    until_us: int
    number: int
    position: int
    event: str
    uuid: UUID
    user: str


# An item of a batch, and its result: the record, and whether the item has inserted it.
Item = NewRecord | Cancel
Result = tuple[Record, bool]


class Tables(Protocol):
    """The SQL of one kind of database, within a transaction that holds the write lock.

    The methods ``add_...`` and ``put_events`` accept the values of many rows as one flat list, row after row, because
    the parameters of a statement have that form. ``next_due`` returns the time of the earliest pending record or
    ending. ``due`` returns pending records in the order of (due time, number): as many as the two limits allow, but at
    least one if any is due. ``endings`` returns the latest versions whose ``until`` has come. ``drop_removals`` deletes
    the rows of this many removed events that have nothing pending, those with the lowest positions, and returns the
    highest of these positions. Later queries see the rows that were added earlier."""

    def counters(self) -> Counters: ...
    def epochs(self) -> dict[str, int | None]: ...
    def next_due(self) -> int | None: ...
    def due(self, now_us: int, records_max: int, bytes_max: int) -> Iterable[Record]: ...
    def endings(self, now_us: int) -> Iterable[Ending]: ...
    def events(self, names: Sequence[str]) -> Iterable[EventRow]: ...
    def records(self, uuids: Sequence[UUID]) -> Iterable[Record]: ...
    def record_at(self, position: int) -> Record | None: ...
    def has_user(self, key: str) -> bool: ...
    def add_user(self, user: User, now_us: int) -> None: ...
    def add_records(self, values: Sequence[Any]) -> None: ...
    def add_publications(self, values: Sequence[Any]) -> None: ...
    def add_pending(self, values: Sequence[Any]) -> None: ...
    def add_endings(self, values: Sequence[Any]) -> None: ...
    def add_cancellations(self, values: Sequence[Any]) -> None: ...
    def remove_pending(self, pending: Sequence[tuple[int, int]]) -> None: ...
    def put_events(self, values: Sequence[Any]) -> None: ...
    def remove_events(self, names: Sequence[str]) -> None: ...
    def drop_removals(self, count: int) -> int: ...
    def put_counters(self, counters: Counters) -> None: ...


@dataclass(slots=True)
class _Event:
    """The state of one event: a row of ``events``."""

    position: int | None = None  # the position of its latest record; None: no record of it was published yet
    bytes: int = 0  # the size of the latest record's data; 0 if the event is removed
    pending: int = 0  # the number of its pending records
    reserved: int = 0  # how many bytes of the snapshot are reserved for it: see Transaction._reserve
    removed: bool = False  # whether the data of its latest record is null, so that it has no state
    until_us: int | None = None  # when its latest record ends; None: it does not end by itself

    @property
    def has_state(self) -> bool:
        return self.position is not None and not self.removed


class Transaction:
    """Reads the counters under the lock, assigns numbers and positions, and writes all rows in few statements.

    The order of calls is ``publish_due``, then ``append``, then ``add_user``, then ``finish``, and then COMMIT:

    * ``publish_due`` is called first, so that records inserted now get positions after the records that were due
      earlier, and are judged by the state that those have left.
    * ``append`` is called at most once. It reads known uuids and the rows of events from the database. The danger: rows
      that an earlier ``append`` has added may still be missing from the database, so a second call could read old data.
    * If ``finish`` is not called, or fails, the caller must roll back. Before ``finish`` the database may contain rows
      that its counters do not include.

    Mutable state: the counters, the rows of the events that were read, and the rows that are not written yet. All of it
    belongs to the writer's thread, and is in the database after ``finish``. ``head`` is correct at any time, and
    ``next_due_us`` after ``finish``."""

    def __init__(self, tables: Tables, now_us: int, settings: Settings, epoch: str) -> None:
        self._tables = tables
        self._now_us = now_us
        self._settings = settings
        self._epoch = epoch  # read under the lock, because another node may have begun a new epoch
        self._epochs: dict[str, int | None] | None = None  # all epochs, once one of them was asked for
        self._before = tables.counters()
        (
            self._last_number, self.head, self._total_bytes, self._event_names, self._reserved,
            self._removals, self._removals_floor,
        ) = self._before  # fmt: skip
        self.next_due_us = tables.next_due()
        self.pending_changed = False  # correct after ``finish``
        self._next_due_passed = False  # whether something that was to come at ``next_due_us`` may not come any more
        self._uuids = Uuids()  # for endings
        self._events: dict[str, _Event] = {}
        # The values of the rows that are not written yet, row after row.
        self._records: list[Any] = []
        self._publications: list[int] = []
        self._pending: list[int] = []
        self._endings: list[Any] = []
        self._cancellations: list[Any] = []
        self._unpending: list[tuple[int, int]] = []  # the rows of ``pending`` to remove: (due time, number)
        self._forgotten: list[str] = []  # the names of events that have no latest and no pending record any more
        # The published records that the relay receives with the commit, in position order, and the number of all
        # published records. The danger: the relay would treat an incomplete hint as all records of the commit. So if
        # more records were published than the hint has, the hint is sent without any records.
        self._hint: list[Record] = []
        self._hint_bytes = 0
        self._published = 0
        # The records that this transaction has published, by position, if a condition may refer to them.
        self._latest: dict[int, Record] | None = None

    def publish_due(self) -> None:
        """Publishes the pending records that are due, and the endings of versions whose ``until`` has come.

        They take effect in the order of their times, and each is judged by the state that those before it have left. So
        after a downtime over several versions, each version is published, and then its end, before the next one. At the
        same microsecond publications come before endings: then the version that would end was superseded just in
        time."""
        if self.next_due_us is None or self.next_due_us > self._now_us:
            return
        # All endings are read at once. Their number is limited by ``event_names_max``, because only the latest version
        # of an event can end.
        endings = list(self._tables.endings(self._now_us))
        heapify(endings)
        while rows := list(self._tables.due(self._now_us, _PAGE_RECORDS_MAX, _PAGE_BYTES_MAX)):
            self._load_events({record.event for record in rows})
            for record in rows:
                self._publish_endings(endings, before_us=record.due_us)
                self._load_events({record.event})  # it was forgotten if the endings were flushed
                self._events[record.event].pending -= 1
                position = self._publish(record.event, record.number, record.data, record.until_us, was_pending=True)
                published = msgspec.structs.replace(record, position=position, published_us=self._now_us)
                self._add_to_hint(published)
                if record.until_us is not None and record.until_us <= self._now_us:
                    heappush(endings, _ending_of(published))
            # This must be written before the next page is read. Otherwise ``due`` would return the same records again,
            # and they would be published twice.
            self._unpending += [(record.due_us, record.number) for record in rows]
            self._flush()
        self._publish_endings(endings, before_us=None)
        self._flush()
        self.next_due_us = self._tables.next_due()

    def _publish_endings(self, endings: list[Ending], before_us: int | None) -> None:
        """Publishes the endings with a time before ``before_us``, or all of them, if that is None. An ending of a
        version that is not the latest any more has no effect.

        ``endings`` is a heap, from which they are taken."""
        while endings and (before_us is None or endings[0].until_us < before_us):
            page: list[Ending] = []
            while endings and len(page) < _PAGE_RECORDS_MAX and (before_us is None or endings[0].until_us < before_us):
                page.append(heappop(endings))
            self._load_events({ending.event for ending in page})
            for ending in page:
                entry = self._events.get(ending.event)
                if entry is not None and entry.position == ending.position:
                    self._publish_ending(ending)
            if len(self._publications) > 4 * _PAGE_RECORDS_MAX:
                self._flush()

    def _publish_ending(self, ending: Ending) -> None:
        self._last_number = number = self._last_number + 1
        uuid = self._uuids.make(self._now_us // 1_000)
        self._records += (
            number, uuid, ending.event, ending.user, None, ending.until_us, False, self._now_us, REMOVAL.decode()
        )  # fmt: skip
        self._endings += (number, None, None, ending.uuid)
        position = self._publish(ending.event, number, REMOVAL, None)
        self._add_to_hint(
            Record(
                uuid,
                ending.event,
                REMOVAL,
                ending.user,
                None,
                ending.until_us,
                False,
                self._now_us,
                False,
                position,
                self._now_us,
                number,
                self._epoch,
                None,
                None,
                ending.uuid,
            )
        )

    def append(self, batches: Sequence[Sequence[Item]]) -> list[list[Result] | BrokerError]:
        """Returns one result for each batch: either a list with a pair (record, whether it is new) for each of its
        items, or the error because of which the whole batch was refused. An error in one batch does not affect the
        other batches, which belong to other requests."""
        names: set[str] = set()
        # A uuid that the server generated is new, so the database is not searched for it.
        uuids: set[UUID] = set()
        for batch in batches:
            for item in batch:
                if isinstance(item, Cancel):
                    uuids.add(item.uuid)
                    continue
                names.add(item.event)
                if item.uuid_given:
                    uuids.add(item.uuid)
                if item.if_latest is not None:
                    self._latest = {}
                    if isinstance(item.if_latest, UUID):
                        uuids.add(item.if_latest)
        by_uuid = {record.uuid: record for record in self._tables.records(list(uuids))} if uuids else {}
        self._load_events(names.union(record.event for record in by_uuid.values()))
        return [self._append_batch(batch, by_uuid) for batch in batches]

    def _append_batch(self, batch: Sequence[Item], by_uuid: dict[UUID, Record]) -> list[Result] | BrokerError:
        """Carries out all items of the batch, or none: if one is refused, the changes of those before it are undone.

        ``by_uuid`` contains the stored records whose uuids occur in these batches. Each appended record whose uuid the
        publisher chose is added to it, so that a repeated insert is also recognised within one transaction."""
        # A batch of one item needs no undo, because an item that is refused has changed nothing.
        undo = self._undo(batch, by_uuid) if len(batch) > 1 else None
        results: list[Result] = []
        repeated_cancel: int | None = None  # the index of an item that cancels a record which is cancelled already
        try:
            for item in batch:
                if isinstance(item, Cancel):
                    if (found := by_uuid.get(item.uuid)) and found.cancelled:
                        repeated_cancel = len(results)
                        results.append((found, False))
                    else:
                        results.append((self._cancel(item, by_uuid), False))
                elif not item.uuid_given:
                    results.append((self._append(item, by_uuid), True))
                elif first := by_uuid.get(item.uuid):
                    results.append((_repeated(first, item), False))
                else:
                    record = by_uuid[item.uuid] = self._append(item, by_uuid)
                    results.append((record, True))
            if repeated_cancel is not None and any(created for _, created in results):
                raise _at(
                    repeated_cancel,
                    Conflict(
                        "the record is cancelled already, and this batch inserts new records; leave the item out, if "
                        "the other ones still make sense"
                    ),
                )
        except BrokerError as error:
            if error.index is None:
                error.index = len(results)
            if undo is not None:
                undo()
            if isinstance(error, PreconditionFailed):
                error.latest = self._latest_of(error.event)
            return error
        return results

    def _undo(self, batch: Sequence[Item], by_uuid: dict[UUID, Record]) -> Callable[[], None]:
        """Returns a function that restores all state that the items of this batch may change.

        The danger: if some of this state were not restored, the numbers, positions or reserved bytes of a refused batch
        would be committed with the other batches. For example, without the old ``head`` the positions would have a gap.
        So if ``_append`` or ``_cancel`` is extended to change more state, that state must be restored here, too."""
        counters, published, hint_bytes = self._counters(), self._published, self._hint_bytes
        next_due = self.next_due_us, self._next_due_passed
        # Nothing is flushed while a batch is carried out, so these lists only grow. Cutting them to their old length is
        # enough.
        unwritten: list[list[Any]] = [
            self._records, self._publications, self._pending, self._endings, self._cancellations, self._unpending,
            self._forgotten, self._hint,
        ]  # fmt: skip
        lengths = [len(rows) for rows in unwritten]
        uuids = {item.uuid for item in batch}
        known = {uuid: by_uuid[uuid] for uuid in uuids & by_uuid.keys()}
        names = {item.event for item in batch if isinstance(item, NewRecord)}
        names.update(record.event for record in known.values())
        events = {name: replace(self._events[name]) for name in names & self._events.keys()}

        def undo() -> None:
            (
                self._last_number, self.head, self._total_bytes, self._event_names, self._reserved,
                self._removals, self._removals_floor,
            ) = counters  # fmt: skip
            self._published, self._hint_bytes = published, hint_bytes
            self.next_due_us, self._next_due_passed = next_due
            for rows, length in zip(unwritten, lengths, strict=True):
                del rows[length:]
            for uuid in uuids:
                by_uuid.pop(uuid, None)
            by_uuid.update(known)
            for name in names:
                self._events.pop(name, None)
            self._events |= events

        return undo

    def _cancel(self, item: Cancel, by_uuid: dict[UUID, Record]) -> Record:
        """Cancels a pending record. If this raises NotFound or Conflict, nothing was changed."""
        record = by_uuid.get(item.uuid)
        if record is None:
            raise NotFound(f"no record has the uuid {item.uuid}")
        if record.log_only:
            raise Conflict("the record is log-only: it is never published, so there is nothing to cancel")
        if record.position is not None:
            raise Conflict("the record is published already; insert a newer version instead")
        self._unpending.append((record.due_us, record.number))
        self._cancellations += (record.number, item.user, self._now_us)
        self._next_due_passed = True
        entry = self._events[record.event]
        entry.pending -= 1
        if not entry.pending:
            self._settle(record.event, entry)
        cancelled = by_uuid[item.uuid] = msgspec.structs.replace(record, cancelled=True)
        return cancelled

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
        kept = self._settings.removals_kept
        # A tenth more than the limit may be kept, so that rows are not deleted in each transaction.
        if self._removals > kept + kept // 10:
            self._removals_floor = self._tables.drop_removals(self._removals - kept)
            self._removals = kept
        if (counters := self._counters()) != self._before:
            self._tables.put_counters(counters)
        if self._next_due_passed:
            self.next_due_us = self._tables.next_due()
        hint = self._hint if len(self._hint) == self._published else []
        return Commit(hint, self.head, self.next_due_us, self._epoch, self.pending_changed)

    def _flush(self) -> None:
        """Writes the rows that are not written yet, so that queries see them, and forgets the rows of events."""
        if self._records:
            self._tables.add_records(self._records)
        if self._pending or self._unpending:
            self.pending_changed = True
        if self._endings:
            self._tables.add_endings(self._endings)
        if self._pending:
            self._tables.add_pending(self._pending)
        if self._unpending:
            self._tables.remove_pending(self._unpending)
        if self._cancellations:
            self._tables.add_cancellations(self._cancellations)
        if self._publications:
            self._tables.add_publications(self._publications)
        self._records, self._endings, self._pending, self._publications = [], [], [], []
        self._unpending, self._cancellations = [], []
        # An event may have been forgotten, and then got a new record, so its old row is removed first.
        if self._forgotten:
            self._tables.remove_events(self._forgotten)
            self._forgotten = []
        events: list[Any] = []
        for event, entry in self._events.items():
            events += (
                event, entry.position, entry.bytes, entry.pending, entry.reserved, entry.removed, entry.until_us
            )  # fmt: skip
        if events:
            self._tables.put_events(events)
        self._events = {}

    def _append(self, new: NewRecord, by_uuid: dict[UUID, Record]) -> Record:
        """Appends one record, and publishes it if it is due. If this raises an error, nothing was changed."""
        now_us, event, data = self._now_us, new.event, new.data
        due_us = now_us if new.due_us is None else new.due_us
        immediate = due_us <= now_us
        if new.until_us is not None or new.late_refused:
            self._check_times(new, due_us)
        if new.if_latest is not None:
            self._check_latest(new, by_uuid, immediate)
        if not new.log_only:
            self._reserve(event, data, immediate)
        self._last_number = number = self._last_number + 1
        self._records += (
            number, new.uuid, event, new.user, new.timestamp, due_us, new.log_only, now_us, data.decode()
        )  # fmt: skip
        if new.until_us is not None:
            self._endings += (number, new.until, new.until_us, None)
        position = published_us = None
        if not new.log_only and immediate:
            position, published_us = self._publish(event, number, data, new.until_us), now_us
        elif not new.log_only:
            self._pending += (due_us, number)
            self._events[event].pending += 1
            if self.next_due_us is None or due_us < self.next_due_us:
                self.next_due_us = due_us
        record = Record(
            new.uuid, event, data, new.user, new.timestamp, due_us, new.log_only, now_us,
            False, position, published_us, number, self._epoch, new.until, new.until_us,
        )  # fmt: skip
        if position is not None:
            self._add_to_hint(record)
        return record

    def _check_times(self, new: NewRecord, due_us: int) -> None:
        """Raises Late if the record's time has passed, and it must not be published late. Raises BadRequest if the
        record would end before it is published."""
        over = new.until_us is not None and new.until_us <= self._now_us
        if new.late_refused and (over or due_us < self._now_us - _LATE_US):
            raise Late("the time of this record has passed, and it was to be refused then (late)")
        if over:
            raise BadRequest("until: this time has passed already; give a later one, or leave it out")

    def _check_latest(self, new: NewRecord, by_uuid: dict[UUID, Record], immediate: bool) -> None:
        """Raises PreconditionFailed if the latest version of the event is not the one in ``if_latest``."""
        if not immediate:
            raise BadRequest(
                "if_latest: the condition is judged now, so it cannot be used with a timestamp in the future"
            )
        entry = self._events.get(new.event)
        position = None if entry is None else entry.position
        wanted = new.if_latest
        if isinstance(wanted, UUID):
            record = by_uuid.get(wanted)
            met = record is not None and record.position is not None and record.position == position
        elif isinstance(wanted, EventId):
            met = wanted.position == position and self._is_of_this_log(wanted)
        else:
            met = entry is None or not entry.has_state
        if not met:
            raise PreconditionFailed(
                "the latest version of this event is another one than if_latest says (latest); look at it, and insert "
                "again with its id",
                new.event,
            )

    def _is_of_this_log(self, event_id: EventId) -> bool:
        if event_id.epoch == self._epoch:
            return True
        if self._epochs is None:
            self._epochs = self._tables.epochs()
        ended = self._epochs.get(event_id.epoch)
        return ended is not None and event_id.position <= ended

    def _latest_of(self, event: str) -> Record | None:
        """Returns the latest record of an event as it is now, in the middle of this transaction."""
        entry = self._events.get(event)
        if entry is None or entry.position is None:
            return None
        assert self._latest is not None
        return self._latest.get(entry.position) or self._tables.record_at(entry.position)

    def _publish(self, event: str, number: int, data: bytes, until_us: int | None, *, was_pending: bool = False) -> int:
        """Assigns the next position to the record, and makes it the latest of its event. Returns the position.
        ``was_pending``: the record was pending until now, and is not counted in ``_Event.pending`` any more."""
        self.head = position = self.head + 1
        self._total_bytes += len(data)
        self._publications += (position, number, self._now_us, self._total_bytes)
        self._published += 1
        removal = data == REMOVAL
        entry = self._events.get(event)
        # null on an event without state is a record like any other, and changes nothing else. So it does not replace an
        # earlier removal either: otherwise, anybody could displace known removals with null on names that nobody uses.
        becomes_latest = entry is not None and (not removal or entry.has_state)
        if entry is not None and becomes_latest:
            entry.position, entry.bytes, entry.removed = position, 0 if removal else len(data), removal
            if entry.until_us is not None:
                self._next_due_passed = True
            entry.until_us = until_us
            if until_us is not None and (self.next_due_us is None or until_us < self.next_due_us):
                self.next_due_us = until_us
        if entry is not None and not entry.pending and (becomes_latest or was_pending):
            self._settle(event, entry)
        return position

    def _add_to_hint(self, record: Record) -> None:
        if self._latest is not None:
            assert record.position is not None
            self._latest[record.position] = record
        if len(self._hint) < _PAGE_RECORDS_MAX and self._hint_bytes < _PAGE_BYTES_MAX:
            self._hint.append(record)
            self._hint_bytes += len(record.data)

    def _reserve(self, event: str, data: bytes, immediate: bool) -> None:
        """Reserves space for a record, so that the snapshot stays within its limits, whatever is published later.

        The danger: the publication of a pending record cannot be refused, and could exceed a limit. So the space
        for a pending record is reserved when it is inserted. An event without pending records reserves the size of its
        latest record. An event with pending records reserves the largest size that its latest record may have in
        future. A removal needs no space.

        If this raises InsufficientStorage, nothing was changed. The error messages name the setting, but contain no
        numbers, because numbers would tell a user how much other users have inserted."""
        entry = self._events.get(event)
        removal = data == REMOVAL
        if removal and immediate and (entry is None or not entry.pending):
            return  # the event gives its space back when the removal is published
        if entry is None:
            entry = _Event()
        named = entry.has_state or entry.pending > 0
        if not named and self._event_names >= self._settings.event_names_max:
            raise InsufficientStorage(
                "there is no room for another event name (event_names_max is reached); insert under a name that is "
                "in use"
            )
        size = 0 if removal else len(data)
        reserved = size if immediate and not entry.pending else max(entry.reserved, size)
        total = self._reserved + reserved - entry.reserved
        if reserved > entry.reserved and total > self._settings.snapshot_bytes_max:
            raise InsufficientStorage(
                "the latest versions of all events would be too large together (snapshot_bytes_max is reached); "
                "insert smaller data"
            )
        if not named:
            self._event_names += 1
            if entry.removed:
                self._removals -= 1
            else:
                self._events[event] = entry
        self._reserved, entry.reserved = total, reserved

    def _settle(self, event: str, entry: _Event) -> None:
        """Called when an event has no pending record, after a publication or a cancellation. From then on only its
        latest record counts. If it has no state either, its name does not count against ``event_names_max`` any more,
        and its row is only kept if it is a removal."""
        self._reserved += entry.bytes - entry.reserved
        entry.reserved = entry.bytes
        if entry.has_state:
            return
        self._event_names -= 1
        if entry.removed:
            self._removals += 1
        else:
            self._forgotten.append(event)
            del self._events[event]

    def _load_events(self, names: set[str]) -> None:
        """Reads the rows of those events that this transaction has not read yet. An event without a row is new."""
        if missing := sorted(names - self._events.keys()):
            self._events |= {row[0]: _Event(*row[1:]) for row in self._tables.events(missing)}

    def _counters(self) -> Counters:
        return Counters(
            self._last_number, self.head, self._total_bytes, self._event_names, self._reserved,
            self._removals, self._removals_floor,
        )  # fmt: skip


def _ending_of(version: Record) -> Ending:
    assert version.until_us is not None
    assert version.position is not None
    return Ending(version.until_us, version.number, version.position, version.event, version.uuid, version.user)


def _repeated(first: Record, new: NewRecord) -> Record:
    """Returns ``first`` if ``new`` repeats the same insert. Raises Conflict otherwise."""
    same = (first.user, first.event, first.data, first.log_only, first.timestamp, first.until)
    if same != (new.user, new.event, new.data, new.log_only, new.timestamp, new.until):
        raise Conflict(f"the uuid {new.uuid} belongs to another insert; make a new one for each record")
    return first


def _at(index: int, error: BrokerError) -> BrokerError:
    error.index = index
    return error
