"""The state of the log at other times than now, and the checkpoints that make it quick to read."""

from __future__ import annotations

import asyncio
import logging
import time

from broker.errors import BrokerError, Unavailable
from broker.live.access import Access
from broker.live.listing import Selection, select_versions
from broker.live.reads import Reads
from broker.live.relay import Relay
from broker.live.turns import Turns
from broker.rules.who import ADMIN
from broker.settings import Settings
from broker.store.base import Head, Store, Version, VersionRow
from broker.users import Actor

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
# While records are published, the work on checkpoints pauses so many times as long as it has taken, but not longer than
# this: it may only have waited for the disk.
_PAUSE = 30
_PAUSE_MAX_S = 2.0
_POSITIONS_PER_S = 200_000  # about as many are worked off in a second if nothing else happens
# A transaction of another node that has begun earlier than this is committed by now. PostgreSQL would have ended a
# longer one.
_COMMITTED_US = 60_000_000


class History:
    """Requests read another state one after the other, because that takes a thread of the store, and the interpreter,
    much longer than reading records for a stream.

    Mutable state: the versions that were read last, and as of which head; and where the next checkpoint is made."""

    def __init__(self, store: Store, relay: Relay, access: Access, reads: Reads, settings: Settings) -> None:
        self._store = store
        self._relay = relay
        self._access = access
        self._reads = reads
        self._turns = Turns("states of other times", settings)
        self._head: Head | None = None
        self._versions: list[VersionRow] = []
        self._next = 0  # the position at which a checkpoint is made next, as far as this node knows

    # Reading

    async def head_at(self, time_us: int, client: str = "") -> Head:
        """Returns the head as it was at a time, which is not in the future. Raises Unavailable if the checkpoints are
        too far behind the head, or if too many requests wait. ``client`` is the client that asks, for ``Turns``."""
        async with self._turns.turn(client):
            # Whatever is being committed may have a time before ``time_us``, however long that takes on this node.
            if time_us > self._store.clock() - _COMMITTED_US or self._store.waiting:
                await self._store.publish_due()
            checkpoint, events = await self._store.newest_checkpoint()
            behind = self._relay.position - checkpoint
            if behind > _BEHIND_MAX + 2 * events:
                raise Unavailable(
                    f"at: the index of past states has reached the position {checkpoint} of {self._relay.position}; "
                    "ask again later",
                    retry_after_s=1 + behind // _POSITIONS_PER_S,
                )
            return await self._store.head_at(time_us)

    async def state_at(
        self, head: Head | None, time_us: int, selection: Selection, actor: Actor, *, client: str = ""
    ) -> tuple[list[Version], bool]:
        """Returns the selected versions that were the state when this was the head, of the events that the actor may
        read now, and whether there are more than the selection's limit. Without a head, it is the state that will be at
        ``time_us``. What is pending counts in it if the actor has inserted it, or may read the event's log. Raises
        Unauthorized if the actor's token is not valid any more, and Unavailable."""
        async with self._turns.turn(client):
            if head is None:
                versions = await self._planned(time_us, actor)
            else:
                if self._head != head:
                    self._versions = await self._store.state_at(head.position)
                    self._head = head
                versions = self._versions
                await self._reads.settled(actor)
            # The request may have waited for its turn for long, so nothing that was known before counts from here on.
            view, reading = self._access.view_of(actor), self._access.reading(actor)
            found, more = await asyncio.to_thread(select_versions, versions, selection, reading)
            self._reads.check_again(actor, view, (version.event for version in found))
            return found, more

    async def _planned(self, time_us: int, actor: Actor) -> list[VersionRow]:
        """Returns the state that will be at a time in the future, as this actor may see it, by the rights as of now.

        A pending record that the actor may not see must not hide the version that the actor sees until then. So for
        events whose log the actor may not read, the state is made of what the actor has inserted alone."""
        if not actor.username and not actor.operator:
            planned = await self._store.planned(time_us, pending=False)
            await self._reads.settled(actor)
            return planned
        everything = await self._store.planned(time_us, pending=True)
        if self._reads_every_log(actor):
            await self._reads.settled(actor)
            if not self._reads_every_log(actor):
                raise Unavailable("your rights have changed while the state was read; ask again in a moment")
            return everything
        own = await self._store.planned(time_us, pending=True, user=actor.username)
        # The two agree on most events, and for those the right to the log makes no difference.
        others = await asyncio.to_thread(lambda: {event for event, _, _ in {*everything} ^ {*own}})
        await self._reads.settled(actor)
        hidden = {event for event in others if not self._access.allows("log", event, actor)}
        versions = [row for row in everything if row[0] not in hidden]
        versions += [row for row in own if row[0] in hidden]
        return sorted(versions)

    def _reads_every_log(self, actor: Actor) -> bool:
        """Whether this actor may read the log of every event. Whoever may *read* every event may not, in general."""
        return self._access.rights.rules is None or ADMIN in self._access.person(actor).roles

    # Checkpoints

    async def run(self) -> None:
        """Makes checkpoints behind the head, until it is cancelled."""
        while True:
            try:
                await asyncio.sleep(_LOOK_S)  # the streams that connect after a start come first
                await self._make_checkpoints()
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
                await self._store.make_checkpoint(self._next)
                if self._relay.position != seen:
                    await asyncio.sleep(min(_PAUSE * (time.monotonic() - began_s), _PAUSE_MAX_S))
