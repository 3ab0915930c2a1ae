"""What brings one subscriber from its position to the relay's: the slow path, with a task for each that is behind."""

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

_SLICE = 64 * KIB  # what is written to one subscriber before others have their turn
_RETRY_S = 1.0


class Catchup:
    """Catch-up depends on a position alone. New connections, reconnects and slow subscribers take the same path: the
    snapshot or the records that were missed, then ``$ready``, then they are live.

    A subscriber that is behind costs a task, and the memory of one slice at most, however slow it is.

    Mutable state: the tasks under way. How far each has come is in its subscriber."""

    def __init__(self, store: Store, relay: Relay, hub: Hub, settings: Settings) -> None:
        self._store = store
        self._relay = relay
        self._hub = hub
        self._settings = settings
        self._tasks: set[asyncio.Task[None]] = set()

    def connect(self, subscriber: Subscriber, last_id: str | None) -> None:
        """Starts the catch-up of a new stream, which resumes after ``last_id``."""
        self._start(subscriber, self._connect(subscriber, last_id))

    def resume(self, subscriber: Subscriber) -> None:
        """Starts the catch-up of a subscriber that was live and fell behind, from its position."""
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
        except _Closed:
            pass
        except Exception:
            logger.exception("a catch-up failed; its stream is closed, and the client resumes by itself")
            subscriber.abort()

    async def _connect(self, subscriber: Subscriber, last_id: str | None) -> None:
        retry_ms = self._settings.retry_ms
        # At random, so that the clients of a server that was restarted do not all reconnect at the same moment.
        subscriber.write(sse.retry(random.randint(retry_ms // 2, retry_ms * 3 // 2)))  # noqa: S311 (no secret)
        snapshot_end: int | None = None
        if last_id is None:
            snapshot_end = self._relay.position
        else:
            position = await self._ask_store(subscriber, lambda: self._position_of(last_id))
            if position is not None:
                subscriber.advance(position)
            else:
                subscriber.write(sse.reset())
                snapshot_end = self._relay.position
        await self._run(subscriber, snapshot_end)

    async def _position_of(self, last_id: str) -> int | None:
        """The position to resume from; None if this log has never given the id.

        An id may be ahead of this node's relay, because the client got it from another node, or as the answer to an
        insert. Then the relay will come to it: the catch-up waits for that, or it would read past the relay."""
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
        """Until the subscriber is live, or closed. If ``snapshot_end`` is given, the latest of each event up to that
        position comes first; then comes every record.

        The relay's position moves during every ``await``. So each round of the loop looks at it anew, writes one piece
        of what is missing, and never reads past it."""
        while not subscriber.closed:
            await subscriber.drained(self._settings.subscriber_stall_s)
            if snapshot_end is not None:
                await self._send_snapshot(subscriber, snapshot_end)
                if subscriber.position == snapshot_end:
                    snapshot_end = None
                else:
                    await asyncio.sleep(0)  # a long snapshot lets others run between its pages
            elif subscriber.position == self._relay.position:
                # The danger: a record that is published between this comparison and the moment when the subscriber is
                # a member of a group would be in neither the catch-up nor the fan-out. So there is no ``await`` from
                # the comparison to the end of ``join``: taking the position, writing ``$ready`` and joining are one
                # step, as seen by every other task.
                event_id = self._relay.id_of(subscriber.position)
                subscriber.write(sse.ready(event_id, self._store.clock(), self._settings.heartbeat_s))
                if not subscriber.paused:
                    self._hub.join(subscriber)
                    return
                # The connection is full: it takes another round, which ends with ``$ready`` again.
            elif await self._ask_store(subscriber, lambda: self._too_far(subscriber)):
                snapshot_end = self._relay.position
                subscriber.write(sse.skipped(snapshot_end - subscriber.position))
            else:
                await self._replay(subscriber)

    async def _send_snapshot(self, subscriber: Subscriber, upto: int) -> None:
        """One page of it. Streams without a filter share the pages, as chunks that are ready to be sent."""
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
        """Whether it has missed more than is replayed."""
        upto = self._relay.position
        if upto - subscriber.position > self._settings.replay_max:
            return True
        if self._relay.recent.holds(subscriber.position):
            return False
        return await self._store.span_bytes(subscriber.position, upto) > self._settings.replay_bytes_max

    async def _replay(self, subscriber: Subscriber) -> None:
        """One slice of the records that it has missed: from memory, if they are recent enough, or from the store."""
        after, upto = subscriber.position, self._relay.position  # never past the relay
        recent = self._relay.recent
        filter = subscriber.subscription.filter
        if recent.holds(after):
            frames, reached = recent.read(filter, after, upto, _SLICE)
            subscriber.advance(reached)
            await self._send(subscriber, b"".join(frames))
            if subscriber.position < upto:
                await asyncio.sleep(0)
            return
        _, records = await self._ask_store(subscriber, lambda: self._store.read(after, upto, PAGE_RECORDS_MAX, _SLICE))
        if records:
            subscriber.advance(records[-1].position)
            frames = [self._relay.frame(record) for record in records if filter.matches(record.event)]
            payload = b"".join(frames)
            del records, frames  # a slow reader takes long for the payload: keep it once, not three times
            await self._send(subscriber, payload)

    async def _send(self, subscriber: Subscriber, payload: bytes) -> None:
        """In slices, each of them after the connection has taken the one before."""
        for start in range(0, len(payload), _SLICE):
            await subscriber.drained(self._settings.subscriber_stall_s)
            if subscriber.closed:
                return
            subscriber.write(payload[start : start + _SLICE])

    async def _ask_store(self, subscriber: Subscriber, ask: Callable[[], Awaitable[_T]]) -> _T:
        """What ``ask`` returns, which is called until the store can be reached. Meanwhile the stream stays open, and
        has heartbeats. Raises _Closed if the subscriber is closed first."""
        answer = asyncio.ensure_future(_retrying(ask))
        try:
            while True:
                await asyncio.wait([answer], timeout=self._settings.heartbeat_s)
                if subscriber.closed:
                    raise _Closed
                if answer.done():
                    return answer.result()
                if not subscriber.paused:
                    events = subscriber.subscription.heartbeat_events
                    subscriber.write(sse.heartbeat(self._store.clock()) if events else sse.HEARTBEAT)
        finally:
            answer.cancel()


class _Closed(Exception):
    """The subscriber was closed while its catch-up waited for the store."""


async def _retrying(ask: Callable[[], Awaitable[_T]]) -> _T:
    while True:
        try:
            return await ask()
        except Unavailable:
            await asyncio.sleep(_RETRY_S)
