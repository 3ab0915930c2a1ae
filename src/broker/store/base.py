"""The store's contract: what every store promises, and what its callers may rely on.

``tests/contract/test_store.py`` runs one suite over every implementation. What a store promises:

* **Durable.** A call that writes returns after its transaction is on disk. Every read that begins later sees it.
* **One order.** Positions are 1, 2, 3 … without holes. They are given in the transaction that publishes, under the
  store's write lock, which also excludes other nodes.
* **Never early.** Every writing transaction first publishes all that is due by the store's clock, in the order of (due
  time, number).
* **Once.** A record is published at most once, and a cancelled one never.
* **All or nothing.** A call that raises anything but ``Unavailable`` has stored nothing. After ``Unavailable`` it is
  not known whether the write was stored, unless the error was raised because the store does not run or its queue is
  full. So a caller that repeats an insert needs a uuid of its own, which makes the repetition harmless. Beside the
  errors that a call names, each that writes may raise ``Unavailable``, and ``InsufficientStorage`` if the disk is full;
  each that reads may raise ``Unavailable``.
* **Concurrent.** Calls may come from many tasks at a time. They return in any order.

When a call is cancelled, as by a client that has disconnected, only the waiting ends. A write that was accepted is
carried out, and if it is committed, its hint comes as ever. A read that has begun runs to its end in a thread, and its
result is dropped.

Before ``start`` has returned, and after ``stop`` was called, only ``place``, ``waiting`` and ``stop`` may be used, and
``stop`` then does nothing. Calls that read or write raise ``Unavailable``; ``clock`` has no value before ``start``. A
store is started once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from broker.records import NewRecord, Published, Record
from broker.users import User

# As the head of a Commit: the head is not known, and the relay shall read the store. It is larger than any position, so
# whoever compares it with a position of its own finds that records are missing.
LOOK = 2**62
# What a record costs in memory beside its data. Bounds of bytes count it, or a page of tiny records would have
# millions.
RECORD_BYTES = 512


@dataclass(frozen=True, slots=True)
class Head:
    """The position of the newest published record in the store, and the epoch that the position belongs to."""

    epoch: str
    position: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A wake-up hint. ``on_commit`` is called with it in the event loop, after a writing transaction is on disk and
    before the calls that wrote in it return.

    Losing a hint costs latency, and never a record: the relay also reads the store when it has had no hint for a while.
    So a hint may be imprecise, but it must never have a record that is not on disk."""

    published: list[Published]  # all that the transaction published, in position order; empty if they were too many
    head: int  # the head after the transaction, or LOOK
    next_due_us: int | None  # the due time of the earliest pending record, in microseconds; None: nothing is pending
    epoch: str = ""  # the epoch of these positions; empty if it is not known, as of another node's commit


class Store(Protocol):
    """An append-only log, its schedule, and the users."""

    @property
    def place(self) -> str:
        """Where the log is, as it may be shown and logged: without a password."""
        ...

    @property
    def waiting(self) -> int:
        """How many records and other writes were accepted and are not committed or refused yet."""
        ...

    def clock(self) -> int:
        """The time by which the store publishes, in microseconds since the epoch, as well as that is known without
        asking the store. On PostgreSQL it is the database's time, which may differ from this machine's."""
        ...

    async def start(self, on_commit: Callable[[Commit], None]) -> None:
        """Opens the log, and migrates it. Raises SettingsError if the log cannot be used; then nothing stays open.

        ``on_commit`` is called in the event loop, must return at once, and may be called before ``start`` returns."""
        ...

    async def stop(self) -> None:
        """Refuses new calls, finishes the writes that were accepted, then closes. May be called again."""
        ...

    async def append(self, new_records: Sequence[NewRecord]) -> list[tuple[Record, bool]]:
        """Appends all of the records in one transaction, or none. Those that are published at once get contiguous
        positions, in the order given.

        Returns for each its record and True; or, if its uuid is known and this is the same insert again, the first
        record and False. Raises Conflict (the uuid is known, with other content) or InsufficientStorage, with the
        ``index`` of the first record that is refused."""
        ...

    async def cancel(self, uuid: UUID, user: str) -> Record:
        """Cancels a pending record. If it is cancelled already, returns it unchanged. Raises NotFound; Conflict if it
        is published, due or log-only."""
        ...

    async def publish_due(self) -> None:
        """Commits a writing transaction without a write of its own, which publishes what is due. It is never refused
        because of a full queue."""
        ...

    async def next_due(self) -> int | None:
        """The due time of the earliest pending record, in microseconds; None if nothing is pending."""
        ...

    async def token_secret(self) -> str:
        """The secret that signs the tokens, the same for all nodes of this log. It is made with the log, or, on SQLite,
        when it is first asked for. Raises SettingsError if it cannot be used."""
        ...

    async def check(self) -> None:
        """Raises Unavailable if the store cannot be reached, or is read-only because its log has moved."""
        ...

    async def head(self) -> Head:
        """The head now."""
        ...

    async def epochs(self) -> dict[str, int | None]:
        """Every epoch of this log, with the position at which it ended; None for the current one, of which there is
        exactly one."""
        ...

    async def snapshot(self) -> tuple[Head, list[Published]]:
        """The head, and the latest record of every event, in position order, both of one moment."""
        ...

    async def read(self, after: int, upto: int, records_max: int, bytes_max: int) -> tuple[Head, list[Published]]:
        """The published records with ``after`` < position <= ``upto``, in position order: at least one if there is one,
        and as many as fit into the bounds. With them the head, of the same moment or a little before: it is never ahead
        of records that this call would have returned, but for the bounds."""
        ...

    async def span_bytes(self, after: int, upto: int) -> int:
        """How many bytes of data were published at the positions beyond ``after``, up to and with ``upto``. It takes
        the time of two look-ups, however many records there are in between."""
        ...

    async def number_of(self, event: str, uuid: UUID) -> int | None:
        """The number of a record, to page the log of its event behind it. None if that event has no such record."""
        ...

    async def log_end(self, event: str, after: int | None, records_max: int | None, descending: bool) -> LogPage:
        """Where a page of an event's log ends that begins behind the number ``after`` (None: at the log's start) and
        has ``records_max`` records at most (None: all that there are now)."""
        ...

    async def log(self, event: str, after: int | None, last: int, bytes_max: int, descending: bool) -> list[Record]:
        """An event's records, in all states, behind the number ``after`` up to and with ``last``: at least one if there
        is one, and as many as fit."""
        ...

    async def add_user(self, user: User) -> None:
        """Raises Conflict if the name is taken, without regard to case."""
        ...

    async def user_by_name(self, username: str) -> User | None:
        """The user of that name, without regard to case, as of now."""
        ...

    async def user_by_id(self, user_id: str) -> User | None:
        """The user with that id, as of now."""
        ...


@dataclass(frozen=True, slots=True)
class LogPage:
    """Where a page of an event's log ends."""

    last: int | None  # the number of its last record; None: the page is empty
    last_uuid: UUID | None
    more: bool  # whether records follow behind it
