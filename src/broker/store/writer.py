"""Group commit: one thread writes, and puts all writes that are waiting into one transaction.

A commit costs a sync of the disk or a round trip to PostgreSQL, whatever the size of the transaction. During a commit,
further writes gather, and share the next transaction. So the more there is to write, the less each write costs."""

from __future__ import annotations

import asyncio
import copy
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from broker.errors import BrokerError, TooManyRequests, Unavailable
from broker.records import NewRecord
from broker.settings import MIB, Settings
from broker.store.base import Commit, Item, Result
from broker.store.batch import Batch
from broker.store.transaction import Transaction
from broker.users import Actor

logger = logging.getLogger("broker.store")

# No further writes are added to a transaction that has this many bytes of data. Writes that were handed over together
# are never divided, so a transaction may exceed this size.
_COMMIT_BYTES_MAX = 16 * MIB

# For how long writes are gathered at most before they are handed over to the thread. A commit takes as long.
_GATHERING_S = 0.005

# A write consists either of the items of a batch, or of a function that is called with the transaction. Items are not
# carried out by such a function, because all items of a transaction are carried out by one call, with one look-up of
# their uuids.
_Work = Batch | Callable[[Transaction], Any]

_T = TypeVar("_T")


class Session(Protocol):
    """The writer thread's connection to its database."""

    def run(self, work: Callable[[Transaction], _T]) -> _T:
        """Runs ``work`` in a transaction that holds the write lock. Returns what ``work`` returned, after the
        transaction is on disk.

        Raises only BrokerErrors, which may be passed on to callers. After an error nothing was stored; but after
        Unavailable it is not known whether anything was stored. The session can be used again after any error."""
        ...

    def close(self) -> None: ...


class _Write(msgspec.Struct, gc=False):
    """One call that is waiting for its transaction."""

    work: Any  # _Work
    count: int  # the number of items; a function counts as one
    bytes: int  # the size of the new records' data
    user: str  # under what the items are counted; "": they are not counted for a user
    future: asyncio.Future[Any]  # gets the result, for which the caller waits


class Writer:
    """Accepts writes in the event loop, and carries them out in its thread.

    The path of a write: ``_put`` counts the write, and gathers it with other writes. ``_hand_over`` gives all of them
    to the thread. There ``_take`` and ``_transact`` commit them. ``_done`` runs in the event loop again, and sets the
    results. Each write that was counted reaches ``_done`` exactly once. A write that is to be carried out alone waits
    in a queue of its own, which is emptied after each transaction.

    Mutable state: the counters and the gathered writes, which belong to the event loop, and the queue between the event
    loop and the thread. The session belongs to the thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # What belongs to the event loop
        self._loop: asyncio.AbstractEventLoop
        self._on_commit: Callable[[Commit], None]
        self.waiting = 0  # records and functions that were accepted, and have no result yet
        self._waiting_bytes = 0  # the bytes of their data
        self._waiting_of: dict[str, int] = {}  # the number of each user's records among them
        self._gathered: list[_Write] = []  # the writes that were not handed over yet
        self._gathered_count = 0  # the number of their records
        # The queue is shared with the thread. None in it asks the thread to stop.
        self._writes: queue.SimpleQueue[list[_Write] | None] = queue.SimpleQueue()
        self._alone: deque[_Write] = deque()  # writes that get a transaction of their own
        self._thread: threading.Thread

    def start(self, session: Session, on_commit: Callable[[Commit], None]) -> None:
        """Starts the thread. From here on the session belongs to the thread, which closes it at its end."""
        self._loop = asyncio.get_running_loop()
        self._on_commit = on_commit
        self._thread = threading.Thread(target=self._run, args=(session,), name="broker-writer", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Finishes the writes that were accepted. The caller makes sure that no more writes are submitted."""
        self._hand_over()
        self._writes.put(None)
        await asyncio.to_thread(self._thread.join)
        # Before the thread ended, it scheduled the last call of ``_done`` in the event loop. So that call is made
        # before this task continues.
        assert self.waiting == 0, "a write was neither done nor refused"

    # These methods run in the event loop

    def append(self, items: Sequence[Item], actor: Actor, user: str) -> asyncio.Future[list[Result]]:
        size = 0
        for item in items:
            if type(item) is NewRecord:
                size += len(item.data)
        waiting = self._waiting_of.get(user, 0)
        if user and waiting + len(items) > self._settings.inserts_waiting_per_user_max:
            raise TooManyRequests(
                f"{waiting} inserts of this user are waiting for the disk; send this again in a moment",
                retry_after_s=1,
            )
        future = self._submit(Batch(items, actor), len(items), size, user)
        if user:
            self._waiting_of[user] = waiting + len(items)
        return future

    async def call(self, work: Callable[[Transaction], Any], *, alone: bool = False) -> Any:
        """Calls ``work`` with a transaction, and returns its result. If ``work`` raises a BrokerError, that is raised
        here. In this case ``work`` must have changed nothing, because its transaction continues, and is committed with
        the other writes. ``alone``: the transaction has no other writes, which would have to wait for ``work``."""
        return await self._submit(work, 1, 0, alone=alone)

    async def publish_due(self) -> None:
        """Commits a transaction, which publishes the records that are due. It is never refused because of a full queue:
        pending records must be published also under overload."""
        await self._put(lambda transaction: None, 1, 0)

    def _submit(
        self, work: _Work, count: int, size: int, user: str = "", *, alone: bool = False
    ) -> asyncio.Future[Any]:
        settings = self._settings
        if (
            self.waiting + count > settings.insert_queue_max
            or self._waiting_bytes + size > settings.insert_queue_bytes_max
        ):
            raise Unavailable(f"{self.waiting} writes are waiting for the disk; send this one again in a moment")
        return self._put(work, count, size, user, alone=alone)

    def _put(self, work: _Work, count: int, size: int, user: str = "", *, alone: bool = False) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self.waiting += count
        self._waiting_bytes += size
        write = _Write(work, count, size, user, future)
        if alone:
            self._alone.append(write)
            self._writes.put([])  # wakes the thread
            return future
        if not self._gathered:
            self._loop.call_soon(self._hand_over_soon, 0, self._loop.time() + _GATHERING_S)
        self._gathered.append(write)
        self._gathered_count += count
        return future

    def _hand_over(self) -> None:
        """Gives the gathered writes to the thread at once. Waking the thread for each write would cost more than the
        commit."""
        if self._gathered:
            self._writes.put(self._gathered)
            self._gathered, self._gathered_count = [], 0

    def _hand_over_soon(self, seen: int, until_s: float) -> None:
        """Waits for an iteration of the event loop that brings no further write, until a time of the loop's clock at
        most. Under load this makes transactions larger, of which each costs as much as many writes. And the thread then
        runs while the event loop has little to do, so that the two do not wait for the interpreter's lock in turns."""
        count = self._gathered_count
        if seen < count < self._settings.commit_records_max and self._loop.time() < until_s:
            self._loop.call_soon(self._hand_over_soon, count, until_s)
        else:
            self._hand_over()

    def _done(self, writes: list[_Write], results: list[Any], commit: Commit | None) -> None:
        """Reports the end of one transaction. The hint comes first, so that durable records are written to the
        subscribers without delay. Then the callers get their results."""
        for write in writes:
            self.waiting -= write.count
            self._waiting_bytes -= write.bytes
            if write.user:
                self._waiting_of[write.user] -= write.count
                if not self._waiting_of[write.user]:
                    del self._waiting_of[write.user]
        if commit is not None:
            try:
                self._on_commit(commit)
            # A lost hint only delays records, and the callers are still waiting for their results.
            except Exception:
                logger.exception("a wake-up hint failed; the relay finds the records at its next poll")
        for write, result in zip(writes, results, strict=True):
            if write.future.cancelled():  # the caller does not wait any more; the write is committed all the same
                continue
            if isinstance(result, Exception):
                write.future.set_exception(result)
            else:
                write.future.set_result(result)

    # These methods run in the thread

    def _run(self, session: Session) -> None:
        stop = False
        while not stop:
            writes, stop = self._take()
            if writes:
                self._carry_out(session, writes)
            while self._alone:
                self._carry_out(session, [self._alone.popleft()])
        session.close()

    def _carry_out(self, session: Session, writes: list[_Write]) -> None:
        results, commit = _transact(session, writes)
        self._loop.call_soon_threadsafe(self._done, writes, results, commit)

    def _take(self) -> tuple[list[_Write], bool]:
        """Waits for writes, and takes those that are in the queue until they are enough for a transaction. Returns
        them, and whether the thread must stop after them. There may be none, if a write waits to be carried out
        alone."""
        writes: list[_Write] = []
        count = size = 0
        try:
            while count < self._settings.commit_records_max and size <= _COMMIT_BYTES_MAX:
                more = self._writes.get(block=not (writes or self._alone))
                if more is None:
                    return writes, True
                writes += more
                count += sum(write.count for write in more)
                size += sum(write.bytes for write in more)
        except queue.Empty:
            pass
        return writes, False


def _transact(session: Session, writes: list[_Write]) -> tuple[list[Any], Commit | None]:
    """Carries out the writes in one transaction. Returns one result or error for each write. If the transaction failed,
    there is no Commit: the writes were not stored, or, after Unavailable, it is not known whether they were."""

    def work(transaction: Transaction) -> tuple[list[Any], Commit]:
        # The docstring of Transaction says why the calls have this order.
        transaction.publish_due()
        appended = iter(transaction.append([write.work for write in writes if not callable(write.work)]))
        results = [_attempt(write.work, transaction) if callable(write.work) else next(appended) for write in writes]
        return results, transaction.finish()

    try:
        return session.run(work)
    except BrokerError as refusal:
        # Each request gets a copy of the error, because raising it in a request adds the traceback of that request to
        # it.
        return [copy.copy(refusal) for _ in writes], None


def _attempt(work: Callable[[Transaction], Any], transaction: Transaction) -> Any:
    """Returns the result of one function, or the error with which it refused its write. That error does not concern the
    other writes. Any exception that is not a BrokerError is raised, and ends the transaction."""
    try:
        return work(transaction)
    except BrokerError as error:
        return error
