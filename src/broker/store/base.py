"""The store's contract: what every store promises, and what its callers may rely on.

``tests/contract/test_store.py`` runs one suite over every implementation. What a store promises:

* **Durable.** A call that writes returns after its transaction is on disk. Every read that begins later sees what the
  call has written.
* **One order.** Positions are 1, 2, 3 … without gaps. A record gets its position in the transaction that publishes it,
  under the store's write lock, which also excludes the writers of other nodes.
* **Never early.** No record is published before it is due. Every writing transaction first publishes all records that
  are due by the store's clock, and the endings of the versions whose ``until`` has come, in the order of their times.
* **Once.** A record is published at most once, and a cancelled record never.
* **All or nothing.** A call that raises anything but ``Unavailable`` has stored nothing. After ``Unavailable`` it is
  not known whether the write was stored, unless the error was raised because the store does not run or its queue is
  full. So a caller that may repeat an insert must choose the uuid of the record itself, which makes the repetition
  harmless. In addition to the errors that its docstring names, each call that writes may raise ``Unavailable``, and
  ``InsufficientStorage`` if the disk is full; each call that reads may raise ``Unavailable``.
* **Concurrent.** Many tasks may use the store at the same time. Their calls return in any order.

When a call is cancelled, for example because its client has disconnected, only the waiting ends. A write that was
accepted is carried out all the same, and if it is committed, ``on_commit`` is called as usual. A read that has begun
runs to its end in a thread, and its result is dropped.

Before ``start`` has returned, and after ``stop`` was called, only ``place``, ``waiting`` and ``stop`` may be used, and
``stop`` then does nothing. Calls that read or write raise ``Unavailable``, and ``clock`` has no value before ``start``.
A store can be started only once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from uuid import UUID

from broker.records import Cancel, NewRecord, Record
from broker.users import OPERATOR, Actor, User

# An item of a batch, and its result: the record, and whether the item has inserted it.
Item = NewRecord | Cancel
Result = tuple[Record, bool]

# A Commit has this value as its ``head`` if the real head is not known. It is larger than any position, so a relay that
# compares it with its own position finds that records may be missing, and reads the store.
LOOK = 2**62
# How many bytes a record needs in memory in addition to its data. Limits in bytes include them; otherwise a page of
# tiny records could have millions of records.
RECORD_BYTES = 512
BEFORE_ALL = (-(2**62), 0)  # a pair of due time and number that is before that of every record


@dataclass(frozen=True, slots=True)
class Head:
    """The position of the newest published record in the store, and the epoch that the position belongs to."""

    epoch: str
    position: int


class Commit(NamedTuple):
    """A wake-up hint that a transaction was committed. The store calls ``on_commit`` with it in the event loop, after
    the transaction is on disk, and before the calls that wrote in it return.

    If a hint is lost, records are delayed, but never lost, because the relay also reads the store when it has had no
    hint for a while. So a hint may be imprecise, but it must never contain a record that is not on disk."""

    # All records that the transaction published, in position order. The list is empty if there were too many of them.
    published: list[Record]
    head: int  # the head after the transaction, or LOOK
    next_due_us: int | None  # microseconds since 1970, of the earliest pending record or ending; None: there is none
    # The epoch of these positions. It is empty if it is not known, as in the hint of another node's commit.
    epoch: str = ""
    pending_changed: bool = False  # whether records have become pending, or are not pending any more


class Checkpoint(NamedTuple):
    """The state of the log at one position, as it is stored."""

    position: int
    events: int  # how many events have state at this position
    earliest_us: int  # the earliest time at which a record was published since the checkpoint before this one
    latest: str  # the positions of the latest records of these events, as a JSON array


class Version(NamedTuple):
    """The version of an event that is its state at a certain time."""

    event: str
    position: int | None  # None: it is pending, and not published yet
    number: int


# The same as a plain tuple. The state of a long log has many of them, and the garbage collector examines a NamedTuple
# again and again, but not a plain tuple of numbers and texts.
VersionRow = tuple[str, int | None, int]


@dataclass(frozen=True, slots=True)
class State:
    """The state of the log at one moment."""

    head: Head
    # Removals up to this position may not be known any more. Those of later positions are among ``latest``.
    removals_floor: int
    latest: list[Record]  # the latest record of every event, in position order, removals included


class Store(Protocol):
    """An append-only log, its schedule, and the users."""

    @property
    def place(self) -> str:
        """Where the log is, in a form without a password, which may be shown and logged."""
        ...

    @property
    def waiting(self) -> int:
        """How many records and other writes were accepted, and are neither committed nor refused yet."""
        ...

    def clock(self) -> int:
        """Returns the current time of the clock that decides whether a record is due, in microseconds since 1970. The
        database is not asked for it, so on PostgreSQL it is an estimate. The database's time may differ from this
        machine's."""
        ...

    async def start(self, on_commit: Callable[[Commit], None]) -> None:
        """Opens the log, and migrates it to the newest schema. Raises SettingsError if the log cannot be used; then
        nothing stays open.

        ``on_commit`` is called in the event loop, must return at once, and may be called before ``start`` returns."""
        ...

    async def stop(self) -> None:
        """Refuses new calls, finishes the writes that were accepted, and closes the log. It may be called more than
        once."""
        ...

    def append(self, items: Sequence[Item], actor: Actor = OPERATOR, user: str = "") -> asyncio.Future[list[Result]]:
        """Carries out all items, in this order and in one transaction, or none of them, in the name of the actor. The
        rights are judged in the transaction, by the rules and the state of the actor as they are there. The records
        that are published at once get contiguous positions, in the order given.

        The write is accepted, or refused because of a full queue, at the call, and not when the future is awaited.
        ``user`` is under what the items are counted until they are committed, so that no user fills the queue; if it is
        "", they are not. Raises TooManyRequests if too many items of this user wait.

        Returns a pair for each item: the record and True, or, if the same insert was made before with this uuid, the
        first record and False. For a cancellation it returns the cancelled record and False.

        Raises Conflict if a uuid belongs to a record with other content, if a record to cancel is published, due or
        log-only, or, in a batch that inserts new records, if it is cancelled already; NotFound if there is no record to
        cancel, or the actor may not cancel it; Forbidden if the actor has no right to an insert, or Unauthorized, if a
        valid token could give it; TooLarge; Late; PreconditionFailed; BadRequest; InsufficientStorage if a limit on
        what is kept is exceeded; and QuotaExceeded, if it is one of this user. These errors have the ``index`` of the
        first item that is refused."""
        ...

    async def cancel(self, uuid: UUID, actor: Actor) -> Record:
        """Cancels a pending record, and returns it. If the record is cancelled already, returns it unchanged. Raises
        NotFound if there is no such record, or the actor may not cancel it; Conflict if it is published, due or
        log-only; and Unauthorized."""
        ...

    async def publish_due(self) -> None:
        """Commits a writing transaction that has no write of its own, and so only publishes what is due. Every writing
        transaction does that first, unless nobody can say by which rights (``Judge.holds_due``). It is never refused
        because of a full queue."""
        ...

    async def next_due(self) -> int | None:
        """Returns the time of the earliest pending record or ending, in microseconds since 1970. Returns None if there
        is none."""
        ...

    async def token_secret(self) -> str:
        """Returns the secret that signs the tokens. It is the same for all nodes of this log. On PostgreSQL it is made
        together with the log, and on SQLite when it is first asked for. Raises SettingsError if it cannot be used."""
        ...

    async def token_salt(self) -> str:
        """Returns what is added to the secret, which a restore changes, so that older tokens are not valid any more."""
        ...

    async def check(self) -> None:
        """Raises Unavailable if the store cannot be reached, or is read-only because its log has moved."""
        ...

    async def head(self) -> Head:
        """Returns the head as it is now."""
        ...

    async def epochs(self) -> dict[str, int | None]:
        """Returns every epoch of this log, with the position at which it ended. The current epoch, of which there is
        exactly one, has None as its end."""
        ...

    async def snapshot(self) -> State:
        """Returns the state of the log as it is now."""
        ...

    async def newest_checkpoint(self) -> tuple[int, int]:
        """Returns the position of the newest checkpoint, and how many events have state there. Both are 0 if there is
        no checkpoint."""
        ...

    async def make_checkpoint(self, position: int) -> None:
        """Stores a checkpoint at this position, in a transaction of its own. It does nothing if another node has stored
        the checkpoint already, or if the log has no such position (any more)."""
        ...

    async def head_at(self, time_us: int) -> Head:
        """Returns the head as it was at a time: the highest position that was published at or before this time, which
        is in microseconds since 1970. The clock may have been set back, so positions before this one may have later
        times. The cost depends on the distance from the newest checkpoint to the head.

        A transaction that is not committed yet may still publish records with this time. So if the time may be later
        than the beginning of such a transaction, the caller first calls ``publish_due``."""
        ...

    async def state_at(self, position: int) -> list[VersionRow]:
        """Returns the version of each event that had state at this position, in the order of the names. The cost
        depends on the number of events, and on the distance to the checkpoint before the position."""
        ...

    async def planned(self, time_us: int, *, pending: bool, user: str | None = None) -> list[VersionRow]:
        """Returns the version of each event that will have state at a time in the future, if nothing is inserted or
        cancelled until then, in the order of the names. The time is in microseconds since 1970. ``pending``: whether
        pending records count, and ``user``: only those that this user has inserted; versions that end do so in any
        case."""
        ...

    async def records(self, numbers: Sequence[int], bytes_max: int) -> list[Record]:
        """Returns the records with these numbers, in this order: as many as fit into ``bytes_max``, but at least one if
        there is one."""
        ...

    async def read(self, after: int, upto: int, records_max: int, bytes_max: int) -> tuple[Head, list[Record]]:
        """Returns the head, and the published records with ``after`` < position <= ``upto`` in position order: as many
        as the two limits allow, but at least one if there is one.

        The head is of the same moment as the records, or of a moment just before. So no record up to the head is left
        out, unless ``upto`` or a limit excludes it."""
        ...

    async def span_bytes(self, after: int, upto: int) -> int:
        """Returns how many bytes of data were published with ``after`` < position <= ``upto``. It takes only two
        look-ups, however many records there are in between."""
        ...

    async def due_of(self, uuid: UUID) -> tuple[int, int] | None:
        """Returns the time at which the record with this uuid is or was due, in microseconds since 1970, and its
        number, so that a page of pending records can begin after it. Returns None if there is no such record."""
        ...

    async def pending(self, after: tuple[int, int] | None, records_max: int, bytes_max: int) -> list[Record]:
        """Returns the pending records in the order of (due time, number), after the given pair of these, or from the
        first one: as many as the two limits allow, but at least one if there is one.

        A record whose time has come is among them until a transaction publishes it."""
        ...

    async def number_of(self, event: str, uuid: UUID) -> int | None:
        """Returns the number of the record with this uuid, so that a page of the event's log can begin after it.
        Returns None if the event has no such record."""
        ...

    async def log_end(self, event: str, after: int | None, records_max: int | None, descending: bool) -> LogPage:
        """Returns where a page of an event's log ends. The page begins after the record with the number ``after``, or,
        if that is None, with the first record in the given order. It has at most ``records_max`` records, or, if that
        is None, all that there are now."""
        ...

    async def log(self, event: str, after: int | None, last: int, bytes_max: int, descending: bool) -> list[Record]:
        """Returns an event's records, in all states, after the number ``after``, up to and including the number
        ``last``: as many as fit into ``bytes_max``, but at least one if there is one."""
        ...

    async def add_user(self, user: User, actor: Actor = OPERATOR) -> None:
        """Adds a user in the name of the actor. If the user has another state than the default, ``$user/<id>`` is
        published in the same transaction. Raises Conflict if the name is or was that of another user, erased ones
        included; upper and lower case are not distinguished. Raises Forbidden, unless the actor is an administrator or
        the operator; and Unauthorized."""
        ...

    async def change_user(self, user_id: str, change: Callable[[User], User], actor: Actor) -> User:
        """Changes a user as ``change`` says, which must have no side effects: it is called with the user as stored, in
        the writer's thread. If the user's state changes, ``$user/<id>`` is published in the same transaction, so that
        all nodes learn of it. Returns the user.

        Raises NotFound; Forbidden, unless the actor is this user, an administrator or the operator; Unauthorized; and
        what ``change`` raises."""
        ...

    async def users(self, after: str, limit: int) -> list[User]:
        """Returns the users whose names, in lower case, come after this one, in order: ``limit`` at most. Users who
        were erased are not among them."""
        ...

    async def users_with_keys(self) -> list[User]:
        """Returns the users who have API keys, in the order of their names."""
        ...

    async def user_by_name(self, username: str) -> User | None:
        """Returns the user with this name as it is stored now; upper and lower case are not distinguished."""
        ...

    async def user_by_id(self, user_id: str) -> User | None:
        """Returns the user with this id as it is stored now."""
        ...


@dataclass(frozen=True, slots=True)
class LogPage:
    """Where a page of an event's log ends."""

    last: int | None  # the number of the page's last record; None: the page is empty
    last_uuid: UUID | None
    more: bool  # whether more records follow after this page
