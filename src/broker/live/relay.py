"""Tails the log from the store, and hands the new records to the hub, in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from broker import sse
from broker.errors import Unavailable
from broker.live.hub import Hub
from broker.live.recent_frames import RecentFrames
from broker.live.snapshot import Snapshot
from broker.records import Published
from broker.settings import MIB, Settings
from broker.store.base import LOOK, Commit, Store

logger = logging.getLogger("broker.relay")

PAGE_RECORDS_MAX = 500
PAGE_BYTES_MAX = 1 * MIB
_RETRY_S = 1.0


class Relay:
    """The one reader of the log's tail in this process. All that is live goes by its position: what it has not passed
    on yet does not exist for any subscriber of this node.

    Mutable state, all of it owned here: the position; the snapshot and the recent frames as of that position; the
    current epoch, and those before it; and who waits for which position."""

    def __init__(self, store: Store, hub: Hub, settings: Settings) -> None:
        self._store = store
        self._hub = hub
        self._settings = settings
        self.epoch = ""
        self.epochs: dict[str, int | None] = {}  # of the log, each with the position at which it ended
        self.position = 0
        self.snapshot = Snapshot()
        self.recent: RecentFrames
        self._id_prefix = b""
        self._wake = asyncio.Event()
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []

    async def start(self) -> None:
        """Reads the state of the log as of now; also after a fail-over, in place of the state that it had."""
        epochs = await self._store.epochs()
        head, latest = await self._store.snapshot()
        while head.epoch not in epochs:  # that epoch began between the two calls
            epochs = await self._store.epochs()
            head, latest = await self._store.snapshot()
        # From here on there is no ``await``, so that nobody sees a position with the snapshot of another one.
        self.epochs, self.epoch, self.position = epochs, head.epoch, head.position
        self.snapshot = Snapshot()
        self.recent = RecentFrames(self.position, self._settings.replay_max, self._settings.replay_bytes_max)
        self._id_prefix = f"{self.epoch}-".encode()
        for record in latest:
            self.snapshot.put(record.position, record.event, self.frame(record))

    def id_of(self, position: int) -> bytes:
        """The SSE id of a position in the current epoch."""
        return b"%b%d" % (self._id_prefix, position)

    def frame(self, record: Published) -> bytes:
        """A record as an event of the stream."""
        return sse.frame(self.id_of(record.position), record.event, record.data)

    def hint(self, commit: Commit) -> None:
        """Called in the event loop after each commit of this node, and after those of others of which it is notified.

        The records that were just committed are used as they are, if they start at the next position of the relay's
        own epoch. In every other case the relay reads the store: a hint only wakes it. After a fail-over the head of
        the new epoch may be behind the relay's position, so another epoch wakes it, too."""
        ours = commit.epoch == self.epoch
        if ours and commit.published and commit.published[0].position == self.position + 1:
            self._advance(commit.published)
        if commit.head > self.position or not (ours or commit.epoch == ""):
            self._wake.set()

    async def run(self) -> None:
        """For ever: reads what is new whenever it is woken, and every ``relay_poll_s``. If a wake-up is lost, that
        costs latency, and never a record."""
        while True:
            self._wake.clear()  # before the read: what is committed during it may be too late for it
            try:
                await self._read_tail()
            except Unavailable:
                await asyncio.sleep(_RETRY_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.relay_poll_s):
                    await self._wake.wait()

    async def reached(self, position: int) -> None:
        """Returns when the relay is at ``position`` or beyond it."""
        if position > self.position:
            self._wake.set()
            future = asyncio.get_running_loop().create_future()
            self._awaited.append((position, future))
            await future

    async def _read_tail(self) -> None:
        while True:
            head, records = await self._store.read(self.position, LOOK, PAGE_RECORDS_MAX, PAGE_BYTES_MAX)
            if head.epoch != self.epoch:
                await self._reset()
                continue
            # The danger: a hint may have moved the position while the store was read. What it has passed on already
            # must not be passed on twice.
            self._advance([record for record in records if record.position > self.position])
            if head.position <= self.position:
                return

    async def _reset(self) -> None:
        """The store has lost the log's tail, in a fail-over or by the restore of an older state, and continues in a
        new epoch. Subscribers may have received records of the lost tail, and have to forget them: their streams are
        closed, they resume with an id of the old epoch, and get ``$reset`` if that lies behind its end."""
        await self.start()
        self._hub.reset(self.position)
        logger.warning("the log continues in the epoch %s at position %d", self.epoch, self.position)

    def _advance(self, records: list[Published]) -> None:
        """Passes records on. There is no ``await`` in it: whoever runs between two iterations of the event loop finds
        position, snapshot, recent frames and hub in agreement."""
        for record in records:
            assert record.position == self.position + 1, "the store's positions have a hole"
            frame = self.frame(record)
            self.position = record.position
            self.snapshot.put(record.position, record.event, frame)
            self.recent.put(record.event, frame)
            self._hub.publish(record.position, record.event, frame)
        for position, future in self._awaited:
            if position <= self.position and not future.done():
                future.set_result(None)
        self._awaited = [(position, future) for position, future in self._awaited if not future.done()]
