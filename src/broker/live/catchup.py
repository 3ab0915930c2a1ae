"""What brings one subscriber from its position to the relay's: the slow path, one task for each that is behind."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from broker import sse
from broker.errors import Unavailable
from broker.live.hub import Hub
from broker.live.relay import PAGE_RECORDS_MAX, Relay
from broker.live.subscriber import Subscriber
from broker.records import EventId
from broker.settings import KIB, Settings
from broker.store.base import LOOK, Store

logger = logging.getLogger("broker.stream")

_T = TypeVar("_T")

_SLICE = 64 * KIB
_RETRY_S = 1.0


class _Gone(Exception):
    """The subscriber was closed while its catch-up waited."""


class Catchup:
    """Catch-up is one function of a position: for new connections, reconnects, and slow subscribers alike.

    Mutable state: the tasks under way. What a catch-up is at, its subscriber knows."""

    def __init__(self, store: Store, relay: Relay, hub: Hub, settings: Settings) -> None:
        self._store = store
        self._relay = relay
        self._hub = hub
        self._settings = settings
        self._tasks: set[asyncio.Task[None]] = set()

    def connect(self, subscriber: Subscriber, last_id: str | None) -> None:
        """Starts a new stream, resuming after ``last_id``."""
        self._start(subscriber, self._connect(subscriber, last_id))

    def resume(self, subscriber: Subscriber) -> None:
        """Brings a slow subscriber back from its position."""
        self._start(subscriber, self._run(subscriber, None))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, subscriber: Subscriber, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(subscriber, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, subscriber: Subscriber, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except _Gone:
            pass
        except Exception:
            logger.exception("a catch-up failed; its subscriber is cut off, and resumes by itself")
            subscriber.abort()

    async def _connect(self, subscriber: Subscriber, last_id: str | None) -> None:
        retry_ms = self._settings.retry_ms
        subscriber.write(sse.retry(random.randint(retry_ms // 2, retry_ms * 3 // 2)))  # noqa: S311 (no secret)
        snapshot_end: int | None = None
        if last_id is None:
            snapshot_end = self._relay.position
        else:
            position = await self._patiently(subscriber, lambda: self._known(last_id))
            if position is not None:
                subscriber.advance(position)
            else:
                subscriber.write(sse.reset())
                snapshot_end = self._relay.position
        await self._run(subscriber, snapshot_end)

    async def _known(self, last_id: str) -> int | None:
        """The position to go on from; None if the id is none of this log's. Waits for the relay to come to it."""
        event_id = EventId.parse(last_id)
        if event_id is None:
            return None
        if event_id.epoch not in self._relay.epochs:
            if (await self._store.head()).epoch != self._relay.epoch:
                # The store is in a new epoch already, of which this id may be. The relay is about to notice, and to
                # close all streams, this one too. The client resumes then.
                await self._relay.reached(LOOK)
            return None
        ended = self._relay.epochs[event_id.epoch]
        if ended is not None and event_id.position > ended:
            return None
        if event_id.position > self._relay.position:
            head = await self._store.head()
            if event_id.position > head.position:
                return None
            await self._relay.reached(event_id.position)
        return event_id.position

    async def _run(self, subscriber: Subscriber, snapshot_end: int | None) -> None:
        """``snapshot_end``: the latest of each event up to there comes first, then every record."""
        while not subscriber.closed:
            await subscriber.drained(self._settings.subscriber_stall_s)
            if snapshot_end is not None:
                await self._walk(subscriber, snapshot_end)
                if subscriber.position == snapshot_end:
                    snapshot_end = None
                else:
                    await asyncio.sleep(0)  # a long one leaves the loop to others between its pages
            elif subscriber.position == self._relay.position:
                # No await from the comparison to the join: a record published in between would be lost.
                event_id = self._relay.id_of(subscriber.position)
                subscriber.write(sse.ready(event_id, self._store.clock(), self._settings.heartbeat_s))
                if not subscriber.paused:
                    self._hub.join(subscriber)
                    return
            elif await self._patiently(subscriber, lambda: self._too_far(subscriber)):
                snapshot_end = self._relay.position
                subscriber.write(sse.skipped(snapshot_end - subscriber.position))
            else:
                await self._replay(subscriber)

    async def _walk(self, subscriber: Subscriber, upto: int) -> None:
        snapshot = self._relay.snapshot
        subscription = subscriber.subscription
        if subscription.chunked and not subscription.partial:
            page = snapshot.page(subscriber.position, upto)
            if page is not None and len(page[0]) <= _SLICE:
                chunk, reached = page
                subscriber.advance(reached)
                if chunk:  # there is none if everything on the page is superseded
                    subscriber.write_framed(chunk)
                return
        frames, reached = snapshot.walk(subscription.filter, subscriber.position, upto)
        subscriber.advance(reached)
        await self._send(subscriber, b"".join(frames))

    async def _too_far(self, subscriber: Subscriber) -> bool:
        upto = self._relay.position
        behind = upto - subscriber.position
        if behind > self._settings.replay_max:
            return True
        if self._relay.recent.holds(subscriber.position):
            return False
        return await self._store.span_bytes(subscriber.position, upto) > self._settings.replay_bytes_max

    async def _replay(self, subscriber: Subscriber) -> None:
        after, upto = subscriber.position, self._relay.position  # never past the relay
        recent = self._relay.recent
        if recent.holds(after):
            frames, reached = recent.read(subscriber.subscription.filter, after, upto, _SLICE)
            subscriber.advance(reached)
            await self._send(subscriber, b"".join(frames))
            if subscriber.position < upto:
                await asyncio.sleep(0)
            return
        # A slice at a time, and its records are let go of: it is kept for as long as a slow reader takes for it.
        _, records = await self._patiently(subscriber, lambda: self._store.read(after, upto, PAGE_RECORDS_MAX, _SLICE))
        if records:
            subscriber.advance(records[-1].position)
            filter = subscriber.subscription.filter
            frames = [self._relay.frame(record) for record in records if filter.matches(record.event)]
            payload = b"".join(frames)
            del records, frames
            await self._send(subscriber, payload)

    async def _send(self, subscriber: Subscriber, payload: bytes) -> None:
        """In slices, each after the last has drained."""
        for start in range(0, len(payload), _SLICE):
            await subscriber.drained(self._settings.subscriber_stall_s)
            if subscriber.closed:
                return
            subscriber.write(payload[start : start + _SLICE])

    async def _patiently(self, subscriber: Subscriber, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Asks until the store answers; the stream stays open and hears heartbeats meanwhile."""
        asking = asyncio.ensure_future(_insist(ask))
        try:
            while True:
                await asyncio.wait([asking], timeout=self._settings.heartbeat_s)
                if subscriber.closed:
                    raise _Gone
                if asking.done():
                    return asking.result()
                if not subscriber.paused:
                    beat = (
                        sse.heartbeat(self._store.clock())
                        if subscriber.subscription.heartbeat_events
                        else sse.HEARTBEAT
                    )
                    subscriber.write(beat)
        finally:
            asking.cancel()


async def _insist(ask: Callable[[], Awaitable[_T]]) -> _T:
    while True:
        try:
            return await ask()
        except Unavailable:
            await asyncio.sleep(_RETRY_S)
