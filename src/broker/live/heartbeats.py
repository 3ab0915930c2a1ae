"""Heartbeats: what is written to streams on which nothing else arrives."""

from __future__ import annotations

import asyncio

from broker import sse
from broker.live.group import Group
from broker.live.hub import Hub
from broker.live.subscriber import Subscriber
from broker.settings import Settings

_PER_TURN = 100  # heartbeats in one iteration of the event loop; they take about a millisecond


class Heartbeats:
    """Writes the heartbeats of all groups of the hub, and has it end the streams whose tokens have expired."""

    def __init__(self, hub: Hub, settings: Settings) -> None:
        self._hub = hub
        self._settings = settings

    async def run(self) -> None:
        """Sends the heartbeats of all groups, with one timer for all of them, until it is cancelled.

        A group receives a heartbeat when nothing was written to it for ``heartbeat_s``. A group that asked for
        heartbeats as events receives one every ``heartbeat_s``, even if other frames were written to it, because a page
        that asked for heartbeats as events possibly listens to nothing else, and would not notice the other frames."""
        hub, every, loop = self._hub, self._settings.heartbeat_s, asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, every / 4))
            hub.end_expired()
            idle_since = loop.time() - every
            for group in tuple(hub.groups.values()):
                last = group.heartbeat_at if group.subscription.heartbeat_events else group.written_at
                if last <= idle_since:
                    group.heartbeat_at = group.written_at = loop.time()
                    await self._send(group)

    async def _send(self, group: Group) -> None:
        """Writes a heartbeat to each member of the group. It writes to a limited number of subscribers in each
        iteration of the event loop, so that a group of thousands does not delay other work."""
        members = list(group.members)
        # The hub's position may advance before the last heartbeat is written. So only this is certain afterwards: every
        # member has received the id of the position that the hub had before the first heartbeat was written, or a later
        # id.
        announced = self._hub.position
        for start in range(0, len(members), _PER_TURN):
            # On a stream with a filter, a heartbeat may contain the SSE id of the hub's position, and the client
            # resumes from that id later. The danger: if a frame up to that position was not written to the subscriber,
            # the client would never receive it. Two things prevent this. A live subscriber has been given every
            # matching frame up to the hub's position. And there is no ``await`` between reading the position and
            # writing the heartbeat. Members that left the group in an earlier iteration are no longer live, so they are
            # skipped.
            for subscriber in members[start : start + _PER_TURN]:
                if subscriber.group is group:
                    body = self._heartbeat(group, subscriber)
                    subscriber.write_framed(sse.chunk(body) if group.subscription.chunked else body)
            await asyncio.sleep(0)
        group.announced = max(group.announced, announced)

    def _heartbeat(self, group: Group, subscriber: Subscriber) -> bytes:
        """Returns the heartbeat for this subscriber. On a stream with a filter, it also moves the client's last id
        forward to the hub's position.

        Without that, a client whose filter matches few events would keep an old id. When such a client resumed, more
        records might have been published since that id than can be replayed, although the client has missed none of its
        own events."""
        hub, partial = self._hub, group.subscription.partial
        if group.subscription.heartbeat_events:
            return sse.heartbeat(hub.clock(), hub.id_of(hub.position) if partial else None)
        # If the client has the id of the hub's position already, an empty comment is enough.
        if partial and max(group.announced, subscriber.position) < hub.position:
            return sse.moved_on(hub.id_of(hub.position))
        return sse.HEARTBEAT
