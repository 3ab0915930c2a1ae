"""The store's contract. ``tests/test_store.py`` runs it over every implementation.

All that a store promises:

* A call that writes returns after its transaction is on disk, and what was committed is then in every later read.
* Positions are 1, 2, 3 … without holes, given in the transaction that publishes, under the store's write lock.
* Every writing transaction first publishes all that is due by the store's clock, ordered by (due time, number).
* A record is published at most once, and a cancelled one never.
* Calls may come from many tasks at a time. What cannot be done for now raises Unavailable, and may be asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from broker.records import NewRecord, Published, Record
from broker.users import User

LOOK = 2**62  # as the head of a Commit: that is not known, so the relay shall look
RECORD_BYTES = 512  # what a record costs in memory besides its data, or a page of tiny ones would be millions


@dataclass(frozen=True, slots=True)
class Head:
    """The position of the newest published record, as the store has it."""

    epoch: str
    position: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A wake-up hint: told in the event loop after each writing transaction, before its callers go on.

    ``published`` has its records in position order, or is empty where they were too many. Losing a hint costs latency,
    never a record."""

    published: list[Published]
    head: int
    next_due_us: int | None
    epoch: str = ""  # that of the positions; empty if it is not known, as with another node's commit


class Store(Protocol):
    """Append-only log, schedule and users."""

    @property
    def place(self) -> str:
        """Where the log is, to be shown."""
        ...

    @property
    def waiting(self) -> int:
        """How many records and other writes are accepted and not yet done."""
        ...

    def clock(self) -> int:
        """The time by which it publishes, as well as it is known without asking; in microseconds since the epoch."""
        ...

    async def start(self, on_commit: Callable[[Commit], None]) -> None:
        """Opens and migrates; raises SettingsError if the data cannot be used. ``on_commit`` is called in the loop."""
        ...

    async def stop(self) -> None:
        """Finishes what was accepted, then closes."""
        ...

    async def append(self, news: Sequence[NewRecord]) -> list[tuple[Record, bool]]:
        """All of them in one transaction, or none; those published at once have contiguous positions, in this order.

        For each the record and True; or, for a repetition of a known uuid, the first record and False. Raises, with
        the ``index`` of the first bad one: Conflict (uuid known with other content), InsufficientStorage; and
        Unavailable."""
        ...

    async def cancel(self, uuid: UUID, user: str) -> Record:
        """Cancels a pending record; again is fine. Raises NotFound, or Conflict if it is published, due or log-only."""
        ...

    async def publish_due(self) -> None:
        """An empty writing transaction: it publishes what is due."""
        ...

    async def next_due(self) -> int | None:
        """The due time of the earliest pending record, in microseconds."""
        ...

    async def token_secret(self) -> str:
        """What signs the tokens, for all nodes; made with the log. Raises SettingsError."""
        ...

    async def check(self) -> None:
        """Raises Unavailable if it cannot be reached, or takes no writes any more."""
        ...

    async def head(self) -> Head:
        """The head now."""
        ...

    async def epochs(self) -> dict[str, int | None]:
        """Every epoch of this log, with the position at which it ended (None: the current one)."""
        ...

    async def snapshot(self) -> tuple[Head, list[Published]]:
        """The latest of every event, in position order, and the head, at one moment."""
        ...

    async def read(self, after: int, upto: int, records_max: int, bytes_max: int) -> tuple[Head, list[Published]]:
        """Published records with ``after`` < position <= ``upto``: at least one if there is one, as many as fit. With
        them the head as of then, or a little before."""
        ...

    async def span_bytes(self, after: int, upto: int) -> int:
        """How many bytes of data were published after one position, up to and with another. O(log n)."""
        ...

    async def number_of(self, event: str, uuid: UUID) -> int | None:
        """The number of an event's record, to page the log after it; None if there is no such record."""
        ...

    async def log_end(self, event: str, after: int | None, records_max: int | None, descending: bool) -> LogPage:
        """Where a page of an event's log ends: it starts behind the number ``after`` (None: at its start)."""
        ...

    async def log(self, event: str, after: int | None, last: int, bytes_max: int, descending: bool) -> list[Record]:
        """An event's records behind the number ``after``, up to and with ``last``: at least one, as many as fit."""
        ...

    async def add_user(self, user: User) -> None:
        """Raises Conflict if the name is taken, without regard to case."""
        ...

    async def user_by_name(self, username: str) -> User | None:
        """Without regard to case."""
        ...

    async def user_by_id(self, user_id: str) -> User | None:
        """The user as of now."""
        ...


@dataclass(frozen=True, slots=True)
class LogPage:
    """The number of a page's last record (None: the page is empty), its uuid, and whether more follow."""

    last: int | None
    last_uuid: UUID | None
    more: bool
