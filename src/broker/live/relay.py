"""Reads new records of the log from the store, and passes them to the hub in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from broker.errors import Unavailable
from broker.live.access import Access
from broker.live.frames import Frame, make_frame
from broker.live.hub import Hub
from broker.live.recent_frames import RecentFrames
from broker.live.snapshot import Snapshot
from broker.names import RULES_EVENT
from broker.records import Record
from broker.settings import MIB, Settings
from broker.store.base import LOOK, Commit, Store

logger = logging.getLogger("broker.relay")

PAGE_RECORDS_MAX = 500
PAGE_BYTES_MAX = 1 * MIB
_RETRY_S = 1.0
_CAUGHT_UP_S = 10.0  # how long a request waits for the relay to reach a position; usually it takes milliseconds


class Relay:
    """The only reader of the log's tail in this process. Its position decides what this node's subscribers receive: no
    subscriber receives a record that the relay has not passed on yet.

    Mutable state, all of it owned by the relay: the position; the snapshot and the recent frames as of that position;
    the current and the earlier epochs; and the futures of the callers that wait for a position."""

    def __init__(self, store: Store, hub: Hub, access: Access, settings: Settings) -> None:
        self._store = store
        self._hub = hub
        self._access = access
        self._settings = settings
        self.epoch = ""
        self.epochs: dict[str, int | None] = {}  # each epoch of the log, and the position at which it ended
        self.position = 0
        self.snapshot: Snapshot
        self.recent: RecentFrames
        self._id_prefix = b""
        self._wake = asyncio.Event()
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []

    async def start(self) -> None:
        """Reads the current state of the log. After a fail-over this is called again, and replaces the old state."""
        epochs = await self._store.epochs()
        state = await self._store.snapshot()
        while state.head.epoch not in epochs:  # a new epoch began between the two calls
            epochs = await self._store.epochs()
            state = await self._store.snapshot()
        head = state.head
        # There is no ``await`` from here on. Otherwise another task could see the new position with the old snapshot.
        self.epochs, self.epoch, self.position = epochs, head.epoch, head.position
        self.recent = RecentFrames(self.position, self._settings.replay_max, self._settings.replay_bytes_max)
        self._id_prefix = f"{self.epoch}-".encode()
        latest = [self.frame(record) for record in state.latest]
        self.snapshot = Snapshot(latest, state.removals_floor, self._settings.removals_kept)
        self._access.start(self.epoch, self.snapshot, [frame for frame in latest if frame.reserved])

    def id_of(self, position: int) -> bytes:
        """Returns the SSE id of a position in the current epoch."""
        return b"%b%d" % (self._id_prefix, position)

    def frame(self, record: Record) -> Frame:
        """Returns the record as streams receive it."""
        return make_frame(record, self._id_prefix)

    def hint(self, commit: Commit) -> None:
        """Called in the event loop after each commit of this node, and after each notification of another node's
        commit.

        If the commit's records start at the relay's next position, in the relay's epoch, they are passed on without
        reading the store. Otherwise, if records may be missing, the hint only wakes the relay, which then reads the
        store. A commit of another epoch wakes the relay even if its head is not above the relay's position: after a
        fail-over, the head of the new epoch may be lower than that position. A hint of another node does not say its
        epoch (it is ""), so only its head is compared with the relay's position."""
        ours = commit.epoch == self.epoch
        if ours and commit.published and commit.published[0].position == self.position + 1:
            self._advance([self.frame(record) for record in commit.published])
        if commit.head > self.position or not (ours or commit.epoch == ""):
            self._wake.set()

    async def run(self) -> None:
        """Runs until it is cancelled: reads the new records when it is woken, and at least every ``relay_poll_s``. So a
        lost wake-up delays records, but never loses one."""
        while True:
            # The wake-up is cleared before the read. A commit that happens during the read may not be seen by that
            # read, but it wakes the relay again.
            self._wake.clear()
            try:
                await self._read_tail()
            except Unavailable:
                await asyncio.sleep(_RETRY_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.relay_poll_s):
                    await self._wake.wait()

    async def reached(self, position: int) -> None:
        """Waits until the relay's position is ``position`` or higher."""
        if position > self.position:
            self._wake.set()
            future = asyncio.get_running_loop().create_future()
            self._awaited.append((position, future))
            await future

    async def caught_up(self, position: int) -> None:
        """Does the same for a request, which cannot wait for long. Raises Unavailable."""
        if position > self.position:
            try:
                async with asyncio.timeout(_CAUGHT_UP_S):
                    await self.reached(position)
            except TimeoutError:
                raise Unavailable("this node has not read the log up to here yet; ask again in a moment") from None

    async def _read_tail(self) -> None:
        while True:
            head, records = await self._store.read(self.position, LOOK, PAGE_RECORDS_MAX, PAGE_BYTES_MAX)
            if head.epoch != self.epoch:
                await self._reset()
                continue
            # The danger: while the store was read, a hint may have passed on some of these records already, and they
            # would be passed on twice. So only the records after the relay's position are used.
            frames = [self.frame(record) for record in records]
            self._advance([frame for frame in frames if frame.position > self.position])
            if head.position <= self.position:
                return

    async def _reset(self) -> None:
        """Called when the store continues in a new epoch, because a fail-over or the restore of a backup may have lost
        the end of the log.

        The danger: clients may have received lost records, and would keep them. So all streams are closed. Each client
        then resumes with an id of the old epoch, and receives ``$reset`` if the position in that id is after the
        position at which the old epoch ended."""
        await self.start()
        self._hub.reset(self.position)
        logger.warning("the log continues in the epoch %s at position %d", self.epoch, self.position)

    def _advance(self, frames: list[Frame]) -> None:
        """Passes frames on to the snapshot, the recent frames and the hub. It has no ``await``, so every other task
        finds these three and the relay's position in agreement."""
        for frame in frames:
            assert frame.position == self.position + 1, "the store's positions have a gap"
            changes_rights = self._access.is_change(frame, self.snapshot.latest.get(frame.event))
            if changes_rights:
                self._hub.flush()  # what came before is written by the rights that held then
            self.position = frame.position
            self.snapshot.put(frame)
            self.recent.put(frame)
            if changes_rights:
                self._change_rights(frame)
            self._hub.publish(frame)
        for position, future in self._awaited:
            if position <= self.position and not future.done():
                future.set_result(None)
        self._awaited = [(position, future) for position, future in self._awaited if not future.done()]

    def _change_rights(self, frame: Frame) -> None:
        change = self._access.advance(frame)
        if broken := self._access.rights.broken:
            logger.critical("these rules cannot be used: %s; all streams are closed, and requests refused", broken)
            self._hub.reset(self.position - 1)
        else:
            if frame.event == RULES_EVENT:
                self.snapshot.drop_pages()  # they depend on whether strangers see who has inserted a record
            self._hub.rights_changed(change)
