"""The state of the log at other times than now, and the checkpoints that make it quick to read."""

from __future__ import annotations

import asyncio
import logging
import time

from broker.errors import BrokerError, Unavailable
from broker.live.relay import Relay
from broker.store.base import Head, Store, Version

logger = logging.getLogger("broker.history")

# A checkpoint is made after so many positions, or, if that is more, after as many as there were events with state at
# the checkpoint before. So the state at any position is that of a checkpoint and at most so many records more, and all
# checkpoints together have at most one entry for each record.
_SPACING = 2_000
# How far the newest checkpoint may be behind the head, in addition to twice the number of its events. To read as many
# positions takes about 50 ms.
_BEHIND_MAX = 50_000
_LOOK_S = 1.0  # how often the position of the relay is compared with that of the newest checkpoint
_RETRY_S = 5.0
# While records are published, the work on checkpoints pauses so many times as long as it has taken.
_PAUSE = 30
_POSITIONS_PER_S = 200_000  # about as many are worked off in a second if nothing else happens
# A transaction that has begun earlier than this is committed by now: a longer one would have been cut off.
_COMMITTED_US = 60_000_000


class History:
    """Mutable state: the versions that were read last, and as of which head; where the next checkpoint is made; and a
    lock. Reading another state takes a thread of the store much longer than reading records for a stream, so only the
    request that has the lock does it."""

    def __init__(self, store: Store, relay: Relay) -> None:
        self._store = store
        self._relay = relay
        self._lock = asyncio.Lock()
        self._head: Head | None = None
        self._versions: list[Version] = []
        self._next = 0  # the position at which a checkpoint is made next, as far as this node knows

    # Reading

    async def head_at(self, time_us: int) -> Head:
        """Returns the head as it was at a time, which is not in the future. Raises Unavailable if the checkpoints are
        too far behind the head."""
        if time_us > self._store.clock() - _COMMITTED_US:
            await self._store.publish_due()  # whatever is being committed may have a time before ``time_us``
        async with self._lock:
            checkpoint, events = await self._store.newest_checkpoint()
            behind = self._relay.position - checkpoint
            if behind > _BEHIND_MAX + 2 * events:
                raise Unavailable(
                    f"at: the index of past states has reached the position {checkpoint} of {self._relay.position}; "
                    "ask again later",
                    retry_after_s=1 + behind // _POSITIONS_PER_S,
                )
            return await self._store.head_at(time_us)

    async def state_at(self, head: Head) -> list[Version]:
        """Returns the versions that were the state when this was the head, in the order of the events' names. The list
        must not be changed."""
        async with self._lock:
            if self._head != head:
                self._versions = await self._store.state_at(head.position)
                self._head = head
            return self._versions

    async def planned(self, time_us: int, *, pending: bool) -> list[Version]:
        """Returns the versions that will be the state at a time in the future, in the order of the events' names.
        ``pending``: whether pending records count."""
        async with self._lock:
            return await self._store.planned(time_us, pending=pending)

    # Checkpoints

    async def run(self) -> None:
        """Makes checkpoints behind the head, until it is cancelled."""
        while True:
            try:
                await self._make_checkpoints()
                await asyncio.sleep(_LOOK_S)
            except BrokerError as error:
                logger.debug("making checkpoints again in %g s: %s", _RETRY_S, error)
                await asyncio.sleep(_RETRY_S)

    async def _make_checkpoints(self) -> None:
        """Makes all checkpoints that are missing up to the relay's position.

        The danger: this work takes time of the processor and the disk from inserts. So while records are published, it
        is a small part of the time, and the checkpoints may fall behind. They catch up as soon as nobody inserts."""
        while self._next <= self._relay.position:
            newest, events = await self._store.newest_checkpoint()  # another node may have made it
            self._next = newest + max(_SPACING, events)
            if self._next <= self._relay.position:
                began_s, seen = time.monotonic(), self._relay.position
                await self._store.make_checkpoint(newest, self._next)
                if self._relay.position != seen:
                    await asyncio.sleep(_PAUSE * (time.monotonic() - began_s))
