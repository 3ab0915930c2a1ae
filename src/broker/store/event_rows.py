"""The rows of the table ``events`` in a write transaction: which record is the latest of each event, how much room of
the snapshot it takes, and for whom that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from broker.errors import InsufficientStorage
from broker.records import FALSE, REMOVAL, NewRecord, Record
from broker.settings import Settings
from broker.store.tables import Counters, Tables
from broker.store.usage import Usage


@dataclass(slots=True)
class EventRow:
    """The state of one event."""

    position: int | None = None  # the position of its latest record; None: no record of it was published yet
    bytes: int = 0  # the size of the latest record's data; 0 if the event is removed
    pending: int = 0  # the number of its pending records
    reserved: int = 0  # how many bytes of the snapshot are reserved for it: see EventRows.reserve
    removed: bool = False  # whether the data of its latest record is null, so that it has no state
    until_us: int | None = None  # when its latest record ends; None: it does not end by itself
    falsy: bool = False  # whether the data of its latest record is ``false``
    owner: str = ""  # who has inserted the latest record, if the event has state; "" otherwise, and for strangers

    @property
    def has_state(self) -> bool:
        return self.position is not None and not self.removed


class EventRows:
    """An event that has no latest and no pending record has no row. Broker's own events, whose names begin with ``$``,
    have rows, but count neither as names nor in bytes, and are never removed. A row without state and without pending
    records is kept only because of the removal, and does not count as a name.

    Mutable state: the rows that were read and may have been changed, the names of the rows to delete, the counters that
    follow from the rows, and what each user takes of them. All of it is written by ``flush``, and the counters by the
    transaction."""

    def __init__(self, tables: Tables, settings: Settings, counters: Counters) -> None:
        self._tables = tables
        self._settings = settings
        self._usage = Usage(tables, settings)
        self.names = counters.event_names
        self.reserved = counters.reserved_bytes
        self.removals = counters.removals
        self.until_dropped = False  # whether a version that was to end is not the latest any more
        self._rows: dict[str, EventRow] = {}
        self._read: set[str] = set()  # the names that were looked for, also those of events that have no row
        # The names of events with pending records whose reserved bytes may be fewer now
        self._over_reserved: set[str] = set()
        self._forgotten: list[str] = []  # the names of events that have no latest and no pending record any more

    def load(self, names: Iterable[str]) -> None:
        """Reads the rows of those events that were not read yet. An event without a row is new."""
        # Nothing is read twice. The danger: until ``flush`` the database has the old rows of events that were changed,
        # and of those that were forgotten.
        if missing := {*names} - self._read:
            self._read |= missing
            self._rows |= {values[0]: EventRow(*values[1:]) for values in self._tables.events(sorted(missing))}

    def get(self, event: str) -> EventRow | None:
        return self._rows.get(event)

    def expect(self, users: Iterable[str]) -> None:
        """Says whose inserts come next, so that what these users take is read by one query, if it has to be read."""
        self._usage.expected = users

    def reserve(self, new: NewRecord, *, immediate: bool, limited: bool) -> None:
        """Reserves space for a record, so that the snapshot stays within its limits, whatever is published later.
        ``limited``: whether the limits of one user apply to its author.

        The danger: the publication of a pending record cannot be refused, and could exceed a limit. So the space
        for a pending record is reserved when it is inserted. An event without pending records reserves the size of its
        latest record. An event with pending records reserves the largest size that its latest record may have in
        future. A removal needs no space.

        If this raises InsufficientStorage or QuotaExceeded, nothing was changed. The error messages name the setting,
        but contain no numbers but those of the user, because others would reveal how much other users have
        inserted."""
        event, size, removal, user = new.event, len(new.data), new.data == REMOVAL, new.user
        row = self._rows.get(event)
        if event[0] == "$":
            if row is None:
                self._rows[event] = EventRow()
            return
        if removal:
            if immediate:
                return  # the event gives its space back when the removal is published
            size = 0
        if row is None:
            row = EventRow()
        # This is ``has_state``, written out because it runs for every record.
        named = (row.position is not None and not row.removed) or row.pending > 0
        replaces = immediate and row.owner == user and row.position is not None and not row.removed
        reserved = size if immediate and not row.pending else max(row.reserved, size)
        if replaces and size == row.bytes and reserved == row.reserved:
            return  # most inserts replace a version of the same user by one of the same size
        if limited:  # first, so that users learn of their own limits
            self._usage.check(user, int(not replaces), size - row.bytes if replaces else size, int(not immediate))
        if not named and self.names >= self._settings.event_names_max:
            raise InsufficientStorage(
                "there is no room for another event name (event_names_max is reached); insert under a name that is "
                "in use"
            )
        total = self.reserved + reserved - row.reserved
        if reserved > row.reserved and total > self._settings.snapshot_bytes_max:
            raise InsufficientStorage(
                "the latest versions of all events would be too large together (snapshot_bytes_max is reached); "
                "insert smaller data"
            )
        if not named:
            self.names += 1
            if row.removed:
                self.removals -= 1
            else:
                self._rows[event] = row
        self.reserved, row.reserved = total, reserved

    def publish(
        self, event: str, position: int, data: bytes, until_us: int | None, user: str, *, was_pending: bool
    ) -> None:
        """Makes a record of this user the latest of its event. ``was_pending``: the record was pending until now.

        null on an event without state is a record like any other, and changes nothing else. So it does not replace an
        earlier removal either: otherwise, anybody could displace known removals with null on names that nobody uses."""
        row = self._rows.get(event)
        if row is None:
            return
        size, removal, own = len(data), data == REMOVAL, event[0] == "$"
        if removal or own:
            size = 0
        if was_pending:
            self._end_pending(event, row, size, user)
        had_state = row.position is not None and not row.removed
        if not removal or had_state:
            if row.until_us is not None:
                self.until_dropped = True
            if not own and (removal or row.owner != user or not had_state or row.bytes != size):
                if had_state:
                    self._usage.add(row.owner, -1, -row.bytes, 0)
                if not removal:
                    self._usage.add(user, 1, size, 0)
                row.owner = "" if removal else user
            if row.pending and not own and row.bytes == row.reserved:
                self._over_reserved.add(event)
            row.position, row.bytes, row.removed, row.until_us = position, size, removal, until_us
            row.falsy = size == 5 and data == FALSE
        elif not was_pending:
            return
        # After most inserts, nothing is left to do.
        if not row.pending and (removal or row.reserved != row.bytes):
            self._settle(event, row)

    def add_pending(self, new: NewRecord) -> None:
        self._rows[new.event].pending += 1
        if new.event[0] != "$":
            self._usage.add(new.user, 1, 0 if new.data == REMOVAL else len(new.data), 1)

    def remove_pending(self, record: Record) -> None:
        """Called when a pending record is cancelled."""
        event, row = record.event, self._rows[record.event]
        self._end_pending(event, row, 0 if record.data == REMOVAL else len(record.data), record.user)
        if not row.pending:
            self._settle(event, row)

    def _end_pending(self, event: str, row: EventRow, size: int, user: str) -> None:
        row.pending -= 1
        if event[0] != "$":
            self._usage.add(user, -1, -size, -1)
            if row.pending and size == row.reserved:
                self._over_reserved.add(event)

    def _settle(self, event: str, row: EventRow) -> None:
        """Called when an event has no pending record, after a publication or a cancellation. From then on only its
        latest record counts. If it has no state either, its name does not count against ``event_names_max`` any more,
        and its row is only kept if it is a removal."""
        self.reserved += row.bytes - row.reserved
        row.reserved = row.bytes
        if row.position is not None and not row.removed:
            return
        if event[0] != "$":
            self.names -= 1
        if row.removed:
            self.removals += 1
        else:
            self._forgotten.append(event)
            del self._rows[event]

    def _reserve_less(self) -> None:
        """Gives back what was reserved for a pending record, or for a latest version, that was the largest of its
        event. Until here, too much was reserved, which only means that an insert may have been refused in vain."""
        names = [name for name in self._over_reserved if (row := self._rows.get(name)) is not None and row.pending]
        largest = dict(self._tables.largest_pending(names)) if names else {}
        for name in names:
            row = self._rows[name]
            reserved = max(row.bytes, largest[name])
            self.reserved += reserved - row.reserved
            row.reserved = reserved
        self._over_reserved = set()

    def undo(self, names: set[str]) -> Callable[[], None]:
        """Returns a function that restores the rows of these events, and everything that follows from them."""
        counters, length = (self.names, self.reserved, self.removals, self.until_dropped), len(self._forgotten)
        rows = {name: replace(self._rows[name]) for name in names & self._rows.keys()}
        undo_usage, over_reserved = self._usage.undo(), set(self._over_reserved)

        def undo() -> None:
            undo_usage()
            self._over_reserved = over_reserved
            self.names, self.reserved, self.removals, self.until_dropped = counters
            del self._forgotten[length:]
            for name in names:
                self._rows.pop(name, None)
            self._rows |= rows

        return undo

    def flush(self) -> None:
        """Writes the rows, and forgets them. The records that became pending, or are not pending any more, are written
        already."""
        if self._over_reserved:
            self._reserve_less()
        # An event may have been forgotten, and then got a new record, so its old row is removed first.
        if self._forgotten:
            self._tables.remove_events(self._forgotten)
            self._forgotten = []
        values: list[Any] = []
        for event, row in self._rows.items():
            values += (
                event, row.position, row.bytes, row.pending, row.reserved, row.removed, row.until_us, row.falsy,
                row.owner,
            )  # fmt: skip
        if values:
            self._tables.put_events(values)
        self._usage.flush()
        self._rows, self._read = {}, set()
