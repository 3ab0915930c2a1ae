"""The subscribers of this process, in groups of equal subscriptions, and the fan-out to them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable

from broker import sse
from broker.addresses import client_key
from broker.live.pace import Pace
from broker.live.subscriber import Subscriber
from broker.live.subscription import Subscription
from broker.settings import Settings

_HEARTBEATS_PER_TURN = 100  # about a millisecond of writing


class Group:
    """The live subscribers with equal subscriptions: what they are written is joined and framed once for all of them.

    Mutable state: its members, and what was written to all of them last; changed by the hub alone."""

    __slots__ = ("announced", "heartbeat_at", "members", "subscription", "written_at")

    def __init__(self, subscription: Subscription, now: float) -> None:
        self.subscription = subscription
        # A dict, not a set: it iterates in the order of joining, which is about the order in memory, so the fan-out
        # loop has fewer cache misses.
        self.members: dict[Subscriber, None] = {}
        self.written_at = now  # when something was written to all members, in seconds of the loop's clock
        self.heartbeat_at = now  # when all members were sent a heartbeat
        # The position of the last id that was written to all who were members then. Whoever joined later was given the
        # id of its own ``position``.
        self.announced = 0

    def write(self, body: bytes) -> None:
        payload = sse.chunk(body) if self.subscription.chunked else body
        # A copy, because a write may find that a subscriber is slow or dead, and take it out of the group.
        for subscriber in tuple(self.members):
            subscriber.write_framed(payload)


class Hub:
    """Joins the frames of one iteration of the event loop, and writes them once to each subscriber that they concern.

    There is no ``await`` between a frame and the sockets. Every live subscriber has been written every matching frame
    up to ``position``, and nothing beyond it; that holds whenever another task can look.

    Mutable state, all of it owned here: the set of all subscribers and how many each client has; the groups of the
    live ones and an index of them; the frames that are not written yet."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop
        self._resume: Callable[[Subscriber], None]
        self._committing: Callable[[], bool]
        self._id_of: Callable[[int], bytes]
        self._clock: Callable[[], int]
        self.position = 0
        self.subscribers: set[Subscriber] = set()
        self.by_client: Counter[str] = Counter()
        self.closing = False
        self.deliveries = 0  # frames that were written to subscribers
        self._empty: asyncio.Future[None] | None = None
        # The live ones
        self._groups: dict[Subscription, Group] = {}
        self._everything: set[Group] = set()
        self._by_name: dict[str, set[Group]] = {}
        self._by_prefix: dict[str, set[Group]] = {}
        # The frames that are not written yet
        self._turn: list[tuple[str, bytes]] = []
        self._turn_bytes = 0
        self._turn_position = 0
        self._timer: asyncio.Handle | None = None  # for the next fan-out
        self._waits_for_commits = False
        self._pace = Pace()

    def start(
        self,
        position: int,
        id_of: Callable[[int], bytes],
        resume: Callable[[Subscriber], None],
        committing: Callable[[], bool],
        clock: Callable[[], int],
    ) -> None:
        """``id_of`` returns the SSE id of a position. ``resume`` is called with each subscriber that fell behind, and
        brings it back. ``committing`` returns whether writes are being committed. ``clock`` returns microseconds since
        the epoch."""
        self._loop = asyncio.get_running_loop()
        self._id_of = id_of
        self._resume = resume
        self._committing = committing
        self._clock = clock
        self.position = self._turn_position = position

    def full(self, address: str) -> bool:
        """Whether another subscriber from this address would be one too many."""
        settings = self._settings
        return (
            self.closing
            or len(self.subscribers) >= settings.subscribers_max
            or (
                self.by_client[client_key(address)] >= settings.subscribers_per_address_max
                and not settings.trusts(address)
            )
        )

    @property
    def live(self) -> int:
        """How many subscribers are live."""
        return sum(len(group.members) for group in self._groups.values())

    # Fan-out

    def publish(self, position: int, event: str, frame: bytes) -> None:
        """Takes the next frame. It is written at the end of this iteration of the event loop, together with the others
        of the iteration; under load some milliseconds later (see ``Pace``)."""
        self._turn.append((event, frame))
        self._turn_bytes += len(frame)
        self._turn_position = position
        if self._turn_bytes >= self._settings.turn_bytes_max:
            self.flush()
        elif self._timer is None:
            self._schedule()

    def committed(self) -> None:
        """Called after each commit, and after the frames that it published: there may be nothing left to wait for."""
        if self._waits_for_commits and not self._committing():
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._waits_for_commits = self._committing()
        delay_s = self._pace.delay_s(time.monotonic(), committing=self._waits_for_commits)
        self._timer = self._loop.call_later(delay_s, self.flush) if delay_s > 0 else self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Writes what is not written yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._waits_for_commits = None, False
        if not self._turn:
            return
        turn, self._turn, self._turn_bytes = self._turn, [], 0
        # The danger: a write below may find a subscriber slow, which then falls behind *at this position*. It has to
        # be the position of this turn's last frame, which that write has taken whole (what the socket did not take of
        # it is in the subscriber's own buffer). So it is raised before the first write.
        self.position = self._turn_position
        parts: dict[Group, list[bytes]] = {}
        for position, (event, frame) in enumerate(turn, self.position - len(turn) + 1):
            for group in self._matching(event):
                parts.setdefault(group, []).append(frame)
                group.announced = position
        now = self._loop.time()
        began = time.monotonic()
        for group, frames in parts.items():
            self.deliveries += len(frames) * len(group.members)
            group.written_at = now
            group.write(b"".join(frames))
        self._pace.written(began, time.monotonic(), frames=len(turn))

    def _matching(self, event: str) -> Iterable[Group]:
        """The groups that receive an event. Costs the same however many other filters there are."""
        if not self._by_name and not self._by_prefix:
            return self._everything
        groups = self._everything | self._by_name.get(event, set())
        if self._by_prefix:
            for end in range(len(event) + 1):
                groups |= self._by_prefix.get(event[:end], set())
        return groups

    # Membership

    def add(self, subscriber: Subscriber) -> None:
        """A new one, which is behind until its catch-up is done."""
        self.subscribers.add(subscriber)
        self.by_client[subscriber.client_key] += 1
        if self.closing:
            subscriber.end()

    def join(self, subscriber: Subscriber) -> None:
        """Makes it live.

        The danger: its catch-up has just written it everything up to the relay's position. The relay may be ahead of
        what the others have been written, by the frames that are not written yet; if it joined before those go out, it
        would receive them twice. So they are written first. Nothing here awaits, so nothing can be published between
        the catch-up's last look at the relay's position and the moment when this subscriber is a member."""
        self.flush()
        if subscriber.closed or self.closing:
            return
        assert subscriber.position == self.position, "only one that has everything can be live"
        group = self._groups.get(subscriber.subscription)
        if group is None:
            group = self._groups[subscriber.subscription] = Group(subscriber.subscription, self._loop.time())
            for members in self._index(group):
                members.add(group)
        group.members[subscriber] = None
        subscriber.go_live(group, group.subscription)

    # Called by subscribers: see ``subscriber.Owner``.

    def fell_behind(self, subscriber: Subscriber) -> None:
        """Nothing more is written to it until its catch-up has brought it back from the hub's position."""
        self._detach(subscriber)
        subscriber.advance(self.position)
        self._resume(subscriber)

    def closed(self, subscriber: Subscriber) -> None:
        self._detach(subscriber)
        self.subscribers.discard(subscriber)
        self.by_client[subscriber.client_key] -= 1
        if not self.by_client[subscriber.client_key]:
            del self.by_client[subscriber.client_key]
        if self._empty is not None and not self.subscribers and not self._empty.done():
            self._empty.set_result(None)

    def _detach(self, subscriber: Subscriber) -> None:
        group = subscriber.leave_group()
        if group is None:
            return
        assert isinstance(group, Group)
        group.members.pop(subscriber, None)
        if not group.members:
            del self._groups[group.subscription]
            filter = group.subscription.filter
            for members in self._index(group):
                members.discard(group)
            for index, keys in ((self._by_name, filter.names), (self._by_prefix, filter.prefixes)):
                for key in keys:
                    if not index[key]:
                        del index[key]

    def _index(self, group: Group) -> list[set[Group]]:
        """The sets of the index in which a group belongs."""
        filter = group.subscription.filter
        if filter.everything:
            return [self._everything]
        return [self._by_name.setdefault(name, set()) for name in filter.names] + [
            self._by_prefix.setdefault(prefix, set()) for prefix in filter.prefixes
        ]

    # Time

    async def run_heartbeats(self) -> None:
        """For ever: one timer for all groups. Those that were written nothing for ``heartbeat_s`` have a heartbeat. A
        page that asked for heartbeats as events has them all the time: it may listen to none of the other events."""
        every = self._settings.heartbeat_s
        while True:
            await asyncio.sleep(min(1.0, every / 4))
            idle_since = self._loop.time() - every
            for group in tuple(self._groups.values()):
                last = group.heartbeat_at if group.subscription.heartbeat_events else group.written_at
                if last <= idle_since:
                    group.heartbeat_at = group.written_at = self._loop.time()
                    await self._send_heartbeats(group)

    async def _send_heartbeats(self, group: Group) -> None:
        """Some subscribers in each iteration of the event loop, so that thousands do not hold up anybody."""
        members = list(group.members)
        announced = self.position
        for start in range(0, len(members), _HEARTBEATS_PER_TURN):
            # The hub's position is read in the same iteration in which it is written: every member that is still live
            # has been written everything up to it. Members may have left the group during an earlier iteration.
            for subscriber in members[start : start + _HEARTBEATS_PER_TURN]:
                if subscriber.group is group:
                    body = self._heartbeat(group, subscriber)
                    subscriber.write_framed(sse.chunk(body) if group.subscription.chunked else body)
            await asyncio.sleep(0)
        group.announced = max(group.announced, announced)

    def _heartbeat(self, group: Group, subscriber: Subscriber) -> bytes:
        """A stream that shows only a part of the log moves its reader's last id. Otherwise the id of a quiet filter
        would fall so far behind that a resume from it could not be replayed."""
        partial = group.subscription.partial
        if group.subscription.heartbeat_events:
            return sse.heartbeat(self._clock(), self._id_of(self.position) if partial else None)
        if partial and max(group.announced, subscriber.position) < self.position:
            return sse.moved_on(self._id_of(self.position))
        return sse.HEARTBEAT

    def reset(self, position: int) -> None:
        """Closes every stream at once, and continues from another position."""
        for subscriber in tuple(self.subscribers):
            subscriber.cut_off()
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._waits_for_commits = None, False
        self._turn, self._turn_bytes = [], 0
        self.position = self._turn_position = position

    async def close(self, grace_s: float) -> None:
        """Ends every stream, and closes at once those that have not taken what was begun within ``grace_s``."""
        self.flush()
        self.closing = True
        for subscriber in tuple(self.subscribers):
            subscriber.end()
        if self.subscribers:
            self._empty = self._loop.create_future()
            await asyncio.wait([self._empty], timeout=grace_s)
        for subscriber in tuple(self.subscribers):
            subscriber.abort()
