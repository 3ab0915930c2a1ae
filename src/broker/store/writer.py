"""Group commit: one thread that puts everything that waits into one transaction."""

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

_COMMIT_BYTES_MAX = 16 * MIB  # of data in one transaction; the writes of one turn of the loop are never divided

_Work = Sequence[NewRecord] | Callable[[Transaction], Any]


_T = TypeVar("_T")


class Session(Protocol):
    """The writer thread's connection to its database."""

    def run(self, work: Callable[[Transaction], _T]) -> _T:
        """What ``work`` returns, once its transaction, under the write lock, is on disk. Raises a BrokerError that may
        be told to callers: then nothing was stored, or it is not known."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Write:
    """Something for the writer thread: records to append, all or none, or a call on the transaction."""

    work: _Work
    count: int
    bytes: int
    future: asyncio.Future[Any]


class Writer:
    """Mutable state: the queue of waiting writes, counted in the event loop; the connection belongs to the thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Of the event loop
        self._loop: asyncio.AbstractEventLoop
        self._on_commit: Callable[[Commit], None]
        self.waiting = 0  # records and calls accepted and not yet done
        self._waiting_bytes = 0
        self._gathered: list[_Write] = []  # in this turn of the loop
        # Shared with the thread
        self._writes: queue.SimpleQueue[list[_Write] | None] = queue.SimpleQueue()
        self._thread: threading.Thread

    def start(self, session: Session, on_commit: Callable[[Commit], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_commit = on_commit
        self._thread = threading.Thread(target=self._run, args=(session,), name="broker-writer", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Finishes what was accepted. Nothing may be submitted any more."""
        self._hand_over()
        self._writes.put(None)
        await asyncio.to_thread(self._thread.join)
        # The last results are callbacks that were queued in the loop before this task was woken.
        assert self.waiting == 0, "a write was neither done nor refused"

    # In the loop

    async def append(self, news: Sequence[NewRecord]) -> list[tuple[Record, bool]]:
        appended: list[tuple[Record, bool]] = await self._submit(news, len(news), sum(len(new.data) for new in news))
        return appended

    async def call(self, work: Callable[[Transaction], Any]) -> Any:
        """Raises what ``work`` raises; its transaction goes on without it."""
        return await self._submit(work, 1, 0)

    async def publish_due(self) -> None:
        """Never refused for want of room."""
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
        """All of a turn of the loop at once: waking the thread for each would cost more than its commit."""
        if self._gathered:
            self._writes.put(self._gathered)
            self._gathered = []

    def _done(self, writes: list[_Write], results: list[Any], commit: Commit | None) -> None:
        """First the hint, so that subscribers hear as soon as it is durable; then the callers."""
        self.waiting -= sum(write.count for write in writes)
        self._waiting_bytes -= sum(write.bytes for write in writes)
        if commit is not None:
            try:
                self._on_commit(commit)
            except Exception:  # only a hint: those who wait for their answers must have them
                logger.exception("a wake-up failed")
        for write, result in zip(writes, results, strict=True):
            if write.future.cancelled():  # the caller went away; the write stands
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
        """Waits for a write and takes what is there, until a transaction is large enough; True: and then stop."""
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
    """One result, or error, for each write. Without a Commit nothing was stored (or it is not known)."""

    def work(transaction: Transaction) -> tuple[list[Any], Commit]:
        transaction.publish_due()
        appended = iter(transaction.append([write.work for write in writes if not callable(write.work)]))
        results = [_attempt(write.work, transaction) if callable(write.work) else next(appended) for write in writes]
        return results, transaction.finish()

    try:
        return session.run(work)
    except BrokerError as refusal:
        return [copy.copy(refusal) for _ in writes], None  # each is raised in a request of its own


def _attempt(work: Callable[[Transaction], Any], transaction: Transaction) -> Any:
    try:
        return work(transaction)
    except BrokerError as error:
        return error
