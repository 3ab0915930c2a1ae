"""Group commit: one thread writes, and puts everything that is waiting into one transaction.

A commit costs a sync of the disk or a round trip to PostgreSQL, whatever its size. While one is under way, further
writes gather, and share the next one: so the more there is to write, the less each write costs."""

from __future__ import annotations

import asyncio
import copy
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from broker.errors import BrokerError, Unavailable
from broker.records import NewRecord, Record
from broker.settings import MIB, Settings
from broker.store.base import Commit
from broker.store.transaction import Transaction

logger = logging.getLogger("broker.store")

# Bytes of data at which nothing more is added to a transaction. Writes that came in one iteration of the event loop are
# never divided, so it can be exceeded.
_COMMIT_BYTES_MAX = 16 * MIB

# What a write does: records to append, or a call on the transaction. Records are not such a call, because all that come
# together are appended in one go, with one look-up of their uuids.
_Work = Sequence[NewRecord] | Callable[[Transaction], Any]

_T = TypeVar("_T")


class Session(Protocol):
    """The writer thread's connection to its database."""

    def run(self, work: Callable[[Transaction], _T]) -> _T:
        """Runs ``work`` in a transaction that holds the write lock, and returns what it returned when that is on disk.

        Raises only a BrokerError, which callers may be given: then nothing was stored, or, if it is Unavailable, that
        is not known. The session can be used again after any error."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Write:
    """One call that is waiting for its transaction."""

    work: _Work
    count: int  # of records; a call on the transaction counts as one
    bytes: int  # of data
    future: asyncio.Future[Any]  # the result, for the caller


class Writer:
    """Takes writes in the event loop, and carries them out in its thread.

    The path of a write: ``_put`` counts it and gathers it; at the end of the iteration ``_hand_over`` gives all that
    were gathered to the thread; ``_take`` and ``_transact`` commit them there; ``_done`` runs in the loop again, and
    sets the results. Each write that was counted gets to ``_done`` exactly once.

    Mutable state: the counters and the gathered writes, which belong to the event loop, and the queue between the loop
    and the thread. The session belongs to the thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Belongs to the event loop
        self._loop: asyncio.AbstractEventLoop
        self._on_commit: Callable[[Commit], None]
        self.waiting = 0  # records and calls that were accepted and have no result yet
        self._waiting_bytes = 0  # of their data
        self._gathered: list[_Write] = []  # in this iteration of the event loop
        # Shared with the thread; None asks it to stop
        self._writes: queue.SimpleQueue[list[_Write] | None] = queue.SimpleQueue()
        self._thread: threading.Thread

    def start(self, session: Session, on_commit: Callable[[Commit], None]) -> None:
        """The session belongs to the thread from here on, which closes it at its end."""
        self._loop = asyncio.get_running_loop()
        self._on_commit = on_commit
        self._thread = threading.Thread(target=self._run, args=(session,), name="broker-writer", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Finishes what was accepted. The caller makes sure that nothing more is submitted."""
        self._hand_over()
        self._writes.put(None)
        await asyncio.to_thread(self._thread.join)
        # The thread queued the last results in the loop before it ended, so they are set before this task continues.
        assert self.waiting == 0, "a write was neither done nor refused"

    # In the loop

    async def append(self, new_records: Sequence[NewRecord]) -> list[tuple[Record, bool]]:
        size = sum(len(new.data) for new in new_records)
        appended: list[tuple[Record, bool]] = await self._submit(new_records, len(new_records), size)
        return appended

    async def call(self, work: Callable[[Transaction], Any]) -> Any:
        """Raises what ``work`` raises. It must have changed nothing then: its transaction continues, and is committed
        with the other writes."""
        return await self._submit(work, 1, 0)

    async def publish_due(self) -> None:
        """Is never refused because of a full queue: what is pending must be published also under overload."""
        await self._put(lambda transaction: None, 1, 0)

    def _submit(self, work: _Work, count: int, size: int) -> asyncio.Future[Any]:
        settings = self._settings
        if (
            self.waiting + count > settings.insert_queue_max
            or self._waiting_bytes + size > settings.insert_queue_bytes_max
        ):
            raise Unavailable(f"{self.waiting} writes are waiting for the disk; send this one again in a moment")
        return self._put(work, count, size)

    def _put(self, work: _Work, count: int, size: int) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self.waiting += count
        self._waiting_bytes += size
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(_Write(work, count, size, future))
        return future

    def _hand_over(self) -> None:
        """Gives the thread all writes of this iteration at once: to wake it for each would cost more than
        the commit."""
        if self._gathered:
            self._writes.put(self._gathered)
            self._gathered = []

    def _done(self, writes: list[_Write], results: list[Any], commit: Commit | None) -> None:
        """Reports one transaction. The hint comes first, so that subscribers are written what is durable without delay;
        then the callers."""
        self.waiting -= sum(write.count for write in writes)
        self._waiting_bytes -= sum(write.bytes for write in writes)
        if commit is not None:
            try:
                self._on_commit(commit)
            except Exception:  # it was only a hint, and the callers are waiting for their results
                logger.exception("a wake-up hint failed; the relay finds the records at its next poll")
        for write, result in zip(writes, results, strict=True):
            if write.future.cancelled():  # the caller does not wait any more; the write is committed all the same
                continue
            if isinstance(result, Exception):
                write.future.set_exception(result)
            else:
                write.future.set_result(result)

    # In the thread

    def _run(self, session: Session) -> None:
        stop = False
        while not stop:
            writes, stop = self._take()
            if writes:
                results, commit = _transact(session, writes)
                self._loop.call_soon_threadsafe(self._done, writes, results, commit)
        session.close()

    def _take(self) -> tuple[list[_Write], bool]:
        """Waits for a write, and takes what else is there, until it is enough for a transaction. With it, whether to
        stop afterwards."""
        writes: list[_Write] = []
        count = size = 0
        try:
            while count < self._settings.commit_records_max and size <= _COMMIT_BYTES_MAX:
                more = self._writes.get(block=not writes)
                if more is None:
                    return writes, True
                writes += more
                count += sum(write.count for write in more)
                size += sum(write.bytes for write in more)
        except queue.Empty:
            pass
        return writes, False


def _transact(session: Session, writes: list[_Write]) -> tuple[list[Any], Commit | None]:
    """Carries out the writes in one transaction. Returns one result, or error, for each. There is no Commit if the
    transaction failed: then nothing was stored, or that is not known."""

    def work(transaction: Transaction) -> tuple[list[Any], Commit]:
        # In this order: see Transaction.
        transaction.publish_due()
        appended = iter(transaction.append([write.work for write in writes if not callable(write.work)]))
        results = [_attempt(write.work, transaction) if callable(write.work) else next(appended) for write in writes]
        return results, transaction.finish()

    try:
        return session.run(work)
    except BrokerError as refusal:
        # Each is raised in a request of its own, which adds its own traceback to it.
        return [copy.copy(refusal) for _ in writes], None


def _attempt(work: Callable[[Transaction], Any], transaction: Transaction) -> Any:
    """The result, or the refusal, of one call: a refusal concerns no other write. What is not a BrokerError is raised,
    and ends the transaction."""
    try:
        return work(transaction)
    except BrokerError as error:
        return error
