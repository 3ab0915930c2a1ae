"""What a write transaction needs of a database: the types of rows, and the interface of its SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from broker.records import Record
from broker.store.base import Checkpoint
from broker.users import User

# A row of the table ``events``: the event's name, position, bytes, pending, reserved, removed and until_us (see
# ``event_rows.EventRow``).
EventValues = tuple[str, int | None, int, int, int, bool, int | None]


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
    until: str | None  # ``until_us`` as it was sent


class Tables(Protocol):
    """The SQL of one kind of database, within a transaction that holds the write lock.

    The methods ``add_...`` and ``put_events`` accept the values of many rows as one flat list, row after row, because
    the parameters of a statement have that form. ``begin`` returns the counters, and what ``next_due`` returns, as they
    were when the lock was taken. ``next_due`` returns the time of the earliest pending record or
    ending. ``due`` returns pending records in the order of (due time, number): as many as the two limits allow, but at
    least one if any is due. ``endings`` returns the latest versions whose ``until`` has come. ``drop_removals`` deletes
    the rows of this many removed events that have nothing pending, those with the lowest positions, and returns the
    highest of these positions. ``add_checkpoint`` does nothing if there is a checkpoint at this position already. Later
    queries see the rows that were added earlier."""

    def begin(self) -> tuple[Counters, int | None]: ...
    def epochs(self) -> dict[str, int | None]: ...
    def next_due(self) -> int | None: ...
    def due(self, now_us: int, records_max: int, bytes_max: int) -> Iterable[Record]: ...
    def endings(self, now_us: int) -> Iterable[Ending]: ...
    def events(self, names: Sequence[str]) -> Iterable[EventValues]: ...
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
    def add_checkpoint(self, checkpoint: Checkpoint) -> None: ...
    def put_counters(self, counters: Counters) -> None: ...
