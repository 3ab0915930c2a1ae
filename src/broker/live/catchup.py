"""Brings a subscriber that is behind up to the relay's position, by writing all records that it lacks. This is the slow
path: each subscriber that is behind has a task of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from broker import sse
from broker.errors import Unavailable
from broker.live.access import Access
from broker.live.frames import Form, encode_all
from broker.live.hub import Hub
from broker.live.missing import RECORDS_PER_SLICE, SLICE, Missing
from broker.live.read_keys import Reading
from broker.live.relay import PAGE_RECORDS_MAX, Relay
from broker.live.subscriber import Subscriber
from broker.names import Filter
from broker.records import EventId
from broker.settings import Settings
from broker.store.base import LOOK, Store

logger = logging.getLogger("broker.stream")

_T = TypeVar("_T")

_RETRY_S = 1.0


class Catchup:
    """A catch-up depends only on the subscriber's position. It has the same steps for new connections, reconnects and
    slow subscribers: write the snapshot or the missed records, write ``$ready``, make the subscriber live.

    A subscriber that is behind costs one task and the memory of at most one slice, however slow it is.

    Mutable state: the running tasks. The progress of a task is not stored here: it is the position of its
    subscriber."""

    def __init__(self, store: Store, relay: Relay, hub: Hub, access: Access, settings: Settings) -> None:
        self._store = store
        self._relay = relay
        self._hub = hub
        self._access = access
        self._settings = settings
        self._tasks: set[asyncio.Task[None]] = set()
        self._missing = Missing(relay, access, settings)

    def connect(
        self, subscriber: Subscriber, last_id: str | None, new: Filter | None = None, head: bytes = b""
    ) -> None:
        """Starts the catch-up of a new stream. The stream resumes after ``last_id``, the last SSE id that the client
        has received. If ``last_id`` is None, the stream starts with the snapshot. ``head`` is written before it."""
        missing = None if new is not None or not self._may_write(subscriber) else self._missing.of(subscriber, last_id)
        if missing is None:
            if head:
                subscriber.write_framed(head)
            self._start(subscriber, self._connect(subscriber, last_id, new))
            return
        # The danger is the same as in ``_run``. Nothing is awaited from here to the end of ``join``, nor was since the
        # relay's position was read.
        subscriber.advance(self._relay.position)
        payload = missing + self._ready(subscriber)
        subscriber.write_framed(head + (sse.chunk(payload) if subscriber.subscription.chunked else payload))
        if subscriber.paused:
            self._start(subscriber, self._run(subscriber, None))
        else:
            self._hub.join(subscriber)

    @staticmethod
    def _may_write(subscriber: Subscriber) -> bool:
        return not (subscriber.paused or Catchup._must_stop(subscriber))

    def resume(self, subscriber: Subscriber) -> None:
        """Starts the catch-up of a subscriber that was live and fell behind. It starts from the subscriber's
        position."""
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
            logger.exception("a catch-up failed; its stream is closed, and the client will reconnect and resume")
            subscriber.abort()

    async def _connect(self, subscriber: Subscriber, last_id: str | None, new: Filter | None) -> None:
        snapshot_end: int | None = None
        if last_id is None:
            snapshot_end = self._relay.position
        else:
            position = await self._ask_store(subscriber, lambda: self._position_of(last_id))
            if position is None:
                subscriber.write(sse.reset())
                snapshot_end = self._relay.position
            elif position < self._access.changed_at(subscriber.reader.actor):
                # What the client holds may be what its user may not read any more, and it may lack what the user may
                # read since.
                self._hub.start_again(subscriber)
            else:
                subscriber.advance(position)
                if new is not None:
                    await self._send_new(subscriber, new, position)
        await self._run(subscriber, snapshot_end)

    async def _send_new(self, subscriber: Subscriber, new: Filter, upto: int) -> None:
        """Writes the latest records, up to the position from which the stream resumes, of the events that are new to
        the client. They have no ``id:`` line, because the client resumes from its own id. If an event has a later
        record, the client receives that with the records that it has missed."""
        reached, form = 0, subscriber.subscription.form
        reading = self._access.reading(subscriber.reader.actor)
        while reached < upto and not self._must_stop(subscriber):
            frames, reached = self._relay.snapshot.walk(
                new, reached, upto, form, ids=False, reading=reading, authors=self._access.shows_author()
            )
            await self._send(subscriber, b"".join(frames))
            await asyncio.sleep(0)

    async def _position_of(self, last_id: str) -> int | None:
        """Returns the position to resume from, or None if the id does not belong to this log.

        The danger: the id may belong to a position that this node's relay has not reached yet, because the client
        received the id from another node, or in the response to an insert. If the catch-up started there at once, it
        would start ahead of the relay, which has yet to pass on records that the client already has, and the client
        could receive these records a second time. So this method first waits until the relay has reached the position
        of the id."""
        event_id = EventId.parse(last_id)
        if event_id is None:
            return None
        if event_id.epoch not in self._relay.epochs:
            if (await self._store.head()).epoch != self._relay.epoch:
                # The store has already begun a new epoch, which this node's relay has not noticed yet, and the id may
                # belong to that epoch. When the relay notices the new epoch, it closes all streams, including this one,
                # and the client reconnects and resumes. Until then this task waits. It waits for the position LOOK,
                # which the relay never reaches, because no position is that large.
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
        """Runs until the subscriber is live or closed. If ``snapshot_end`` is given, it first writes the snapshot: the
        latest record of each event up to that position. Then it writes every later record.

        The relay's position may change during every ``await``. So each round of the loop reads the position again,
        writes one part of the missing records, and never writes a record after that position."""
        # Whether removals are written with the snapshot. The client of a first snapshot has no state from which an
        # event could be removed.
        removals = False
        # It is made once for all pages of a snapshot, because it remembers its answers. A change that makes one of them
        # wrong sets ``rights_changed``, and from then on nothing is written until ``_start_again``; or the change is
        # about events that get their first state after it, and so after this snapshot (see ``Change``).
        reading = self._access.reading(subscriber.reader.actor)
        while not subscriber.closed:
            await subscriber.drained(self._settings.subscriber_stall_s)
            if subscriber.logged_out:
                subscriber.write(sse.login(subscriber.logged_out))
                subscriber.end()
                return
            if subscriber.rights_changed:
                await self._wait_for_reset(subscriber)
                if self._start_again(subscriber):
                    snapshot_end, removals = self._relay.position, False
                    reading = self._access.reading(subscriber.reader.actor)
            elif removals and self._lacks_removals(subscriber):
                # The client may hold what was removed, so it must forget its state. This is checked before each page,
                # because a removal that the walk has not reached yet may be dropped while the client reads slowly.
                subscriber.write(sse.reset("too-old"))
                subscriber.advance(0)
                snapshot_end, removals = self._relay.position, False
                reading = self._access.reading(subscriber.reader.actor)
            elif snapshot_end is not None:
                await self._send_snapshot(subscriber, snapshot_end, reading, removals=removals)
                if subscriber.position == snapshot_end:
                    snapshot_end, removals = None, False
                else:
                    await asyncio.sleep(0)  # other tasks run between the pages of a long snapshot
            elif subscriber.position == self._relay.position:
                # The danger: the subscriber could miss a record. If a record were published after this comparison, and
                # before the subscriber is a member of a group, neither the catch-up nor the fan-out would write it. So
                # there is no ``await`` from the comparison to the end of ``join``. For every other task, comparing the
                # positions, writing ``$ready`` and joining are one step.
                subscriber.write(self._ready(subscriber))
                if not subscriber.paused:
                    self._hub.join(subscriber)
                    return
                # Writing ``$ready`` has filled the connection. The loop waits until the connection accepts more, and
                # writes ``$ready`` again in a later round.
            elif await self._ask_store(subscriber, lambda: self._too_far(subscriber)):
                snapshot_end = self._relay.position
                removals = subscriber.position > 0  # at position 0 a client has no state yet
                reading = self._access.reading(subscriber.reader.actor)
                if not (removals and self._lacks_removals(subscriber)):
                    restricted = self._access.class_of(subscriber.reader.actor) is not None
                    subscriber.write(sse.skipped(None if restricted else snapshot_end - subscriber.position))
            else:
                await self._replay(subscriber)

    async def _wait_for_reset(self, subscriber: Subscriber) -> None:
        """Waits until the stream may start again. Nothing is written to it meanwhile. Somebody may change rights again
        and again, and each time the client would receive everything anew, so it waits until ``rights_reset_s`` after
        the last time."""
        wait_s = subscriber.reset_at + self._settings.rights_reset_s - asyncio.get_running_loop().time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        await subscriber.drained(self._settings.subscriber_stall_s)

    def _start_again(self, subscriber: Subscriber) -> bool:
        """Makes the client forget its state, because its user may read something else now. The state that the user may
        read follows. Returns whether it did.

        There is no ``await`` from here to the next step of ``_run``, so a later change sets the mark again."""
        if subscriber.closed or subscriber.logged_out:
            return False
        self._hub.starts_again(subscriber)
        subscriber.reset_at = asyncio.get_running_loop().time()
        subscriber.write(sse.reset("rights"))
        subscriber.advance(0)
        return True

    def _ready(self, subscriber: Subscriber) -> bytes:
        actor, filter = subscriber.reader.actor, subscriber.subscription.filter
        # If only exact names were asked for, those that the rules hide are listed.
        partial = self._access.class_of(actor) is not None and (filter.everything or bool(filter.prefixes))
        return sse.ready(
            self._relay.id_of(subscriber.position), self._store.clock(), self._settings.heartbeat_s,
            partial=partial, denied=self._access.denied(filter, actor),
        )  # fmt: skip

    @staticmethod
    def _must_stop(subscriber: Subscriber) -> bool:
        """Whether nothing more may be written to the stream, except by ``_run``."""
        return subscriber.closed or subscriber.rights_changed or bool(subscriber.logged_out)

    async def _send_snapshot(
        self, subscriber: Subscriber, upto: int, reading: Reading | None, *, removals: bool
    ) -> None:
        """Writes one page of the snapshot, with the removals in it if ``removals`` is true. Chunked streams without a
        filter share the pages, which are stored as HTTP chunks ready to be sent."""
        snapshot = self._relay.snapshot
        subscription = subscriber.subscription
        authors = self._access.shows_author()
        if subscription.chunked and reading is None and subscription.filter.everything and not removals:
            page = snapshot.page(subscriber.position, upto, subscription.form, authors)
            if page is not None and len(page[0]) <= SLICE:
                chunk, reached = page
                subscriber.advance(reached)
                # The chunk is empty if each record of the page has been replaced by a later record of its event. There
                # is nothing to write then.
                if chunk:
                    subscriber.write_framed(chunk)
                return
        frames, reached = snapshot.walk(
            subscription.filter, subscriber.position, upto, subscription.form, removals=removals, reading=reading,
            authors=authors,
        )  # fmt: skip
        subscriber.advance(reached)
        await self._send(subscriber, b"".join(frames))

    def _lacks_removals(self, subscriber: Subscriber) -> bool:
        """Returns whether some removals after the subscriber's position may not be known any more."""
        return subscriber.position < self._relay.snapshot.removals_floor

    async def _too_far(self, subscriber: Subscriber) -> bool:
        """Returns whether the subscriber has missed more records, or more bytes, than a replay may have. If the missed
        records are still in memory, their bytes are not counted, because the frames in memory are limited in bytes
        anyway."""
        upto = self._relay.position
        if upto - subscriber.position > self._settings.replay_max:
            return True
        if self._relay.recent.holds(subscriber.position):
            return False
        return await self._store.span_bytes(subscriber.position, upto) > self._settings.replay_bytes_max

    async def _replay(self, subscriber: Subscriber) -> None:
        """Writes one slice of the missed records. They are read from memory if they are recent enough, and otherwise
        from the store. Each slice is judged by the rights as they are when it is put together."""
        after, upto = subscriber.position, self._relay.position  # no record after the relay's position is sent
        recent = self._relay.recent
        filter, form = subscriber.subscription.filter, subscriber.subscription.form
        authors = self._access.shows_author()
        if recent.holds(after):
            records_max = None if form is Form.NAMED else RECORDS_PER_SLICE
            frames, reached = recent.read(filter, after, upto, SLICE, records_max)
            reading = self._access.reading(subscriber.reader.actor)
            if reading is not None:
                frames = [frame for frame in frames if reading(frame.event)]
            subscriber.advance(reached)
            await self._send(subscriber, b"".join(encode_all(frames, form, authors)))
            if subscriber.position < upto:
                await asyncio.sleep(0)
            return
        _, records = await self._ask_store(subscriber, lambda: self._store.read(after, upto, PAGE_RECORDS_MAX, SLICE))
        # The rights may have changed while the store was read. Then ``_run`` starts again.
        if records and not self._must_stop(subscriber):
            last = records[-1].position
            assert last is not None
            subscriber.advance(last)
            reading = self._access.reading(subscriber.reader.actor)
            frames = [
                self._relay.frame(record)
                for record in records
                if filter.matches(record.event) and (reading is None or reading(record.event))
            ]
            payload = b"".join(encode_all(frames, form, authors))
            # A slow reader may take long to receive the payload. Until then this task keeps only one copy of the data
            # in memory, and not three.
            del records, frames
            await self._send(subscriber, payload)

    async def _send(self, subscriber: Subscriber, payload: bytes) -> None:
        """Writes the payload in slices. Before each slice it waits until the connection accepts more bytes."""
        for start in range(0, len(payload), SLICE):
            await subscriber.drained(self._settings.subscriber_stall_s)
            if subscriber.closed:
                return
            # What is begun is finished, so that the client does not receive a part of a record.
            if not start and self._must_stop(subscriber):
                return
            subscriber.write(payload[start : start + SLICE])

    async def _ask_store(self, subscriber: Subscriber, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Calls ``ask`` until the store can be reached, and returns its result. Meanwhile the stream stays open, and
        receives heartbeats. Raises _Closed if the subscriber is closed before there is a result."""
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
