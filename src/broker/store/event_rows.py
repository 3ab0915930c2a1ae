"""The rows of the table ``events`` in a write transaction: which record is the latest of each event, and how much room
of the snapshot it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from broker.errors import InsufficientStorage
from broker.records import FALSE, REMOVAL
from broker.settings import Settings
from broker.store.tables import Counters, Tables


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

    @property
    def has_state(self) -> bool:
        return self.position is not None and not self.removed


class EventRows:
    """An event that has no latest and no pending record has no row. Broker's own events, whose names begin with ``$``,
    have rows, but count neither as names nor in bytes, and are never removed. A row without state and without pending
    records is kept only because of the removal, and does not count as a name.

    Mutable state: the rows that were read and may have been changed, the names of the rows to delete, and the counters
    that follow from the rows. All of it is written by ``flush``, and the counters by the transaction."""

    def __init__(self, tables: Tables, settings: Settings, counters: Counters) -> None:
        self._tables = tables
        self._settings = settings
        self.names = counters.event_names
        self.reserved = counters.reserved_bytes
        self.removals = counters.removals
        self.until_dropped = False  # whether a version that was to end is not the latest any more
        self._rows: dict[str, EventRow] = {}
        self._read: set[str] = set()  # the names that were looked for, also those of events that have no row
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

    def reserve(self, event: str, size: int, *, removal: bool, immediate: bool) -> None:
        """Reserves space for a record, so that the snapshot stays within its limits, whatever is published later.

        The danger: the publication of a pending record cannot be refused, and could exceed a limit. So the space
        for a pending record is reserved when it is inserted. An event without pending records reserves the size of its
        latest record. An event with pending records reserves the largest size that its latest record may have in
        future. A removal needs no space.

        If this raises InsufficientStorage, nothing was changed. The error messages name the setting, but contain no
        numbers, because numbers would reveal to a user how much other users have inserted."""
        row = self._rows.get(event)
        if event[0] == "$":
            if row is None:
                self._rows[event] = EventRow()
            return
        if removal:
            if immediate and (row is None or not row.pending):
                return  # the event gives its space back when the removal is published
            size = 0
        if row is None:
            row = EventRow()
        # This is ``has_state``, written out because it runs for every record.
        named = (row.position is not None and not row.removed) or row.pending > 0
        if not named and self.names >= self._settings.event_names_max:
            raise InsufficientStorage(
                "there is no room for another event name (event_names_max is reached); insert under a name that is "
                "in use"
            )
        reserved = size if immediate and not row.pending else max(row.reserved, size)
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

    def publish(self, event: str, position: int, data: bytes, until_us: int | None, *, was_pending: bool) -> None:
        """Makes a record the latest of its event. ``was_pending``: the record was pending until now.

        null on an event without state is a record like any other, and changes nothing else. So it does not replace an
        earlier removal either: otherwise, anybody could displace known removals with null on names that nobody uses."""
        row = self._rows.get(event)
        if row is None:
            return
        size, removal = len(data), data == REMOVAL
        if removal or event[0] == "$":
            size = 0
        if was_pending:
            row.pending -= 1
        if not removal or row.has_state:
            if row.until_us is not None:
                self.until_dropped = True
            row.position, row.bytes, row.removed, row.until_us = position, size, removal, until_us
            row.falsy = size == 5 and data == FALSE
        elif not was_pending:
            return
        if not row.pending:
            self._settle(event, row)

    def add_pending(self, event: str) -> None:
        self._rows[event].pending += 1

    def remove_pending(self, event: str) -> None:
        """Called when a pending record is cancelled."""
        row = self._rows[event]
        row.pending -= 1
        if not row.pending:
            self._settle(event, row)

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

    def undo(self, names: set[str]) -> Callable[[], None]:
        """Returns a function that restores the rows of these events, and everything that follows from them."""
        counters, length = (self.names, self.reserved, self.removals, self.until_dropped), len(self._forgotten)
        rows = {name: replace(self._rows[name]) for name in names & self._rows.keys()}

        def undo() -> None:
            self.names, self.reserved, self.removals, self.until_dropped = counters
            del self._forgotten[length:]
            for name in names:
                self._rows.pop(name, None)
            self._rows |= rows

        return undo

    def flush(self) -> None:
        """Writes the rows, and forgets them."""
        # An event may have been forgotten, and then got a new record, so its old row is removed first.
        if self._forgotten:
            self._tables.remove_events(self._forgotten)
            self._forgotten = []
        values: list[Any] = []
        for event, row in self._rows.items():
            values += (
                event, row.position, row.bytes, row.pending, row.reserved, row.removed, row.until_us, row.falsy
            )  # fmt: skip
        if values:
            self._tables.put_events(values)
        self._rows, self._read = {}, set()
