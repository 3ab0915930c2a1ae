"""Tails the log from the store and hands new records to the hub, in order, moving its position."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from broker import sse
from broker.errors import Unavailable
from broker.live.hub import Hub
from broker.live.recent_frames import Recent
from broker.live.snapshot import Snapshot
from broker.records import Published
from broker.settings import MIB, Settings
from broker.store.base import Commit, Store

logger = logging.getLogger("broker.relay")

PAGE_RECORDS_MAX = 500
PAGE_BYTES_MAX = 1 * MIB
_RETRY_S = 1.0


class Relay:
    """Mutable state, all owned here: the position, the snapshot and the recent frames as of it, the known epochs."""

    def __init__(self, store: Store, hub: Hub, settings: Settings) -> None:
        self._store = store
        self._hub = hub
        self._settings = settings
        self.epoch = ""
        self.epochs: dict[str, int | None] = {}
        self.position = 0
        self.snapshot = Snapshot()
        self.recent: Recent
        self._id_prefix = b""
        self._wake = asyncio.Event()
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []

    async def start(self) -> None:
        epochs = await self._store.epochs()
        head, latest = await self._store.snapshot()
        while head.epoch not in epochs:  # it began between the two
            epochs = await self._store.epochs()
            head, latest = await self._store.snapshot()
        # From here on synchronous.
        self.epochs, self.epoch, self.position = epochs, head.epoch, head.position
        self.snapshot = Snapshot()
        self.recent = Recent(self.position, self._settings.replay_max, self._settings.replay_bytes_max)
        self._id_prefix = f"{self.epoch}-".encode()
        for record in latest:
            self.snapshot.put(record.position, record.event, self.frame(record))

    def id_of(self, position: int) -> bytes:
        return b"%b%d" % (self._id_prefix, position)

    def frame(self, record: Published) -> bytes:
        return sse.frame(self.id_of(record.position), record.event, record.data)

    def hint(self, commit: Commit) -> None:
        """Uses the records that were just committed, if they start at the next position of the relay's own epoch.
        Otherwise the relay reads the store. After a fail-over the head of the new epoch may be behind the relay."""
        ours = commit.epoch == self.epoch
        if ours and commit.published and commit.published[0].position == self.position + 1:
            self._advance(commit.published)
        if commit.head > self.position or not (ours or commit.epoch == ""):
            self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()  # before the read: what comes during it may be too late for it
            try:
                await self._tail()
            except Unavailable:
                await asyncio.sleep(_RETRY_S)
                continue
            # A lost wake-up costs latency, never a record.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.relay_poll_s):
                    await self._wake.wait()

    async def reached(self, position: int) -> None:
        """Returns once the relay is at ``position`` or beyond."""
        if position > self.position:
            self._wake.set()
            future = asyncio.get_running_loop().create_future()
            self._awaited.append((position, future))
            await future

    async def _tail(self) -> None:
        while True:
            head, records = await self._store.read(self.position, 2**62, PAGE_RECORDS_MAX, PAGE_BYTES_MAX)
            if head.epoch != self.epoch:
                await self._begin_anew()
                continue
            # A hint may have moved the position during the await.
            self._advance([record for record in records if record.position > self.position])
            if head.position <= self.position:
                return

    async def _begin_anew(self) -> None:
        """The store has lost the log's tail, and goes on in a new epoch. What this node has told of that tail its
        subscribers must forget: they are cut off, resume with an id of the old epoch, and are told so."""
        await self.start()
        self._hub.reset(self.position)
        logger.warning("the log goes on in the epoch %s at position %d", self.epoch, self.position)

    def _advance(self, records: list[Published]) -> None:
        """Synchronous: whoever looks between two turns of the loop sees position, snapshot and hub agree."""
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
        self._awaited = [each for each in self._awaited if not each[1].done()]
