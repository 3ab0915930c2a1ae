"""The subscribers of this process, in groups of equal subscriptions, and the fan-out to them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable

from broker import sse
from broker.addresses import client_key
from broker.live.frames import Encoder, Frame
from broker.live.pace import Pace
from broker.live.subscriber import Subscriber
from broker.live.subscription import Subscription
from broker.settings import Settings

_PENDING_S = 1.0  # the shortest time from one hint that the list of pending records has changed to the next
_HEARTBEATS_PER_TURN = 100  # heartbeats in one iteration of the event loop; they take about a millisecond


class Group:
    """The live subscribers with equal subscriptions. Their frames are joined and framed once for the whole group.

    Mutable state: the members; the time of the last write to all of them, and of the last heartbeat; and ``announced``,
    a position whose SSE id (or a later one) every member has received. Only the hub changes it."""

    __slots__ = ("announced", "heartbeat_at", "members", "subscription", "written_at")

    def __init__(self, subscription: Subscription, now: float) -> None:
        self.subscription = subscription
        # A dict and not a set, because a dict iterates in insertion order. That is roughly the order of the subscribers
        # in memory, so the fan-out loop has fewer cache misses.
        self.members: dict[Subscriber, None] = {}
        self.written_at = now  # when something was last written to all members, in seconds of the loop's clock
        self.heartbeat_at = now  # when a heartbeat was last sent to all members
        # A position. Every subscriber that was a member when this field was last set has received the SSE id of that
        # position, or of a later one. A subscriber that joined afterwards received the id of its own ``position`` in
        # ``$ready``.
        self.announced = 0

    def write(self, body: bytes) -> None:
        payload = sse.chunk(body) if self.subscription.chunked else body
        # A copy, because a write may find that a subscriber is slow or dead, and then removes it from ``members``.
        for subscriber in tuple(self.members):
            subscriber.write_framed(payload)


class Hub:
    """Joins the frames of one iteration of the event loop, and writes them to each matching subscriber in one write.

    The fan-out has no ``await``. So whenever another task runs, this holds: every matching frame up to ``position``,
    and no later frame, has been written to every live subscriber.

    Mutable state, all of it owned by the hub: the set of all subscribers, and their number for each client; the groups
    of live subscribers, and an index of these groups; the frames that are not written yet."""

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
        self.deliveries = 0  # the number of frames written to subscribers
        self._empty: asyncio.Future[None] | None = None
        # The live subscribers
        self._groups: dict[Subscription, Group] = {}
        self._everything: set[Group] = set()
        self._by_name: dict[str, set[Group]] = {}
        self._by_prefix: dict[str, set[Group]] = {}
        self._pending: set[Group] = set()  # the groups that asked for ``$pending``
        self._pending_at = 0.0  # when it was last sent, in seconds of the loop's clock
        self._pending_timer: asyncio.Handle | None = None  # for the next time
        # The frames that are not written yet
        self._turn: list[Frame] = []
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
        starts its catch-up. ``committing`` returns whether writes are being committed. ``clock`` returns microseconds
        since 1970."""
        self._loop = asyncio.get_running_loop()
        self._id_of = id_of
        self._resume = resume
        self._committing = committing
        self._clock = clock
        self.position = self._turn_position = position

    def full(self, address: str) -> bool:
        """Returns whether the limits allow no more subscribers from this address, or the hub is closing."""
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
        """The number of live subscribers."""
        return sum(len(group.members) for group in self._groups.values())

    # Fan-out

    def publish(self, frame: Frame) -> None:
        """Adds the next frame to those that are not written yet. All frames of this iteration of the event loop are
        written together at its end, or under load some milliseconds later (see ``Pace``)."""
        self._turn.append(frame)
        self._turn_bytes += len(frame.named)
        self._turn_position = frame.position
        if self._turn_bytes >= self._settings.turn_bytes_max:
            self.flush()
        elif self._timer is None:
            self._schedule()

    def committed(self) -> None:
        """Called after each commit, when its frames are published. If a fan-out waits for commits, and no commit is in
        progress any more, the fan-out is scheduled again without that wait."""
        if self._waits_for_commits and not self._committing():
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._waits_for_commits = self._committing()
        delay_s = self._pace.delay_s(time.monotonic(), committing=self._waits_for_commits)
        self._timer = self._loop.call_later(delay_s, self.flush) if delay_s > 0 else self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Writes all frames that are not written yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._waits_for_commits = None, False
        if not self._turn:
            return
        turn, self._turn, self._turn_bytes = self._turn, [], 0
        # The danger: a write below may find that a subscriber is slow. The catch-up of that subscriber then starts
        # from ``self.position``. The write has accepted all frames of this turn (the subscriber buffers what the
        # socket did not accept), so with an older position the subscriber would receive these frames twice.
        # Therefore ``self.position`` is set to the position of the turn's last frame before the first write.
        self.position = self._turn_position
        parts: dict[Group, list[Frame]] = {}
        for frame in turn:
            for group in self._matching(frame.event):
                parts.setdefault(group, []).append(frame)
                group.announced = frame.position
        now = self._loop.time()
        began = time.monotonic()
        encoder = Encoder(turn)
        for group, frames in parts.items():
            self.deliveries += len(frames) * len(group.members)
            group.written_at = now
            group.write(b"".join(encoder.encode(frames, group.subscription.form)))
        self._pace.written(began, time.monotonic(), frames=len(turn))

    def pending_changed(self) -> None:
        """Called after each commit that has changed what is pending. The streams that asked for it receive
        ``$pending``, but no more than once a second, because each client then reads the list again. A subscriber that
        is behind does not receive it, and needs none: its client reads the list after ``$ready``."""
        if self._pending and self._pending_timer is None:
            delay_s = self._pending_at + _PENDING_S - self._loop.time()
            self._pending_timer = self._loop.call_later(max(0.0, delay_s), self._send_pending)

    def _send_pending(self) -> None:
        self._pending_timer = None
        self.flush()  # a stream shows the record that has become due before the hint that it is not pending any more
        self._pending_at = self._loop.time()
        for group in tuple(self._pending):
            group.written_at = self._pending_at
            group.write(sse.pending())

    def _matching(self, event: str) -> Iterable[Group]:
        """Returns the groups that receive an event. The cost does not depend on the number of groups that do not
        match."""
        if not self._by_name and not self._by_prefix:
            return self._everything
        groups = self._everything | self._by_name.get(event, set())
        if self._by_prefix:
            for end in range(len(event) + 1):
                groups |= self._by_prefix.get(event[:end], set())
        return groups

    # Membership

    def add(self, subscriber: Subscriber) -> None:
        """Adds a new subscriber. It is behind until its catch-up is done."""
        self.subscribers.add(subscriber)
        self.by_client[subscriber.client_key] += 1
        if self.closing:
            subscriber.end()

    def join(self, subscriber: Subscriber) -> None:
        """Makes the subscriber live.

        The danger: the subscriber could receive frames twice. Its catch-up has already sent it every frame up to the
        relay's position. The hub may still have to write the last of these frames to the live subscribers. If the
        subscriber joined a group before that write, it would receive those frames again. So they are written first.
        Nothing here awaits: nothing can be published between the catch-up's last comparison with the relay's position
        and the moment when the subscriber is a member."""
        self.flush()
        if subscriber.closed or self.closing:
            return
        assert subscriber.position == self.position, "a subscriber without every frame cannot become live"
        group = self._groups.get(subscriber.subscription)
        if group is None:
            group = self._groups[subscriber.subscription] = Group(subscriber.subscription, self._loop.time())
            for members in self._index(group):
                members.add(group)
            if group.subscription.pending:
                self._pending.add(group)
        group.members[subscriber] = None
        subscriber.go_live(group, group.subscription)

    # Called by subscribers: see ``subscriber.Owner``.

    def fell_behind(self, subscriber: Subscriber) -> None:
        """Takes the subscriber out of its group, and starts its catch-up from the hub's position."""
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
            self._pending.discard(group)
            filter = group.subscription.filter
            for members in self._index(group):
                members.discard(group)
            for index, keys in ((self._by_name, filter.names), (self._by_prefix, filter.prefixes)):
                for key in keys:
                    if not index[key]:
                        del index[key]

    def _index(self, group: Group) -> list[set[Group]]:
        """Returns the sets of the index that contain this group, or must contain it when it is added."""
        filter = group.subscription.filter
        if filter.everything:
            return [self._everything]
        return [self._by_name.setdefault(name, set()) for name in filter.names] + [
            self._by_prefix.setdefault(prefix, set()) for prefix in filter.prefixes
        ]

    # Time

    async def run_heartbeats(self) -> None:
        """Sends the heartbeats of all groups, with one timer for all of them, until it is cancelled.

        A group receives a heartbeat when nothing was written to it for ``heartbeat_s``. A group that asked for
        heartbeats as events receives one every ``heartbeat_s``, even if other frames were written to it, because a page
        that asked for heartbeats as events possibly listens to nothing else, and would not notice the other frames."""
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
        """Writes a heartbeat to each member of the group. It writes to a limited number of subscribers in each
        iteration of the event loop, so that a group of thousands does not delay other work."""
        members = list(group.members)
        # The hub's position may advance before the last heartbeat is written. So only this is certain afterwards: every
        # member has received the id of the position that the hub had before the first heartbeat was written, or a later
        # id.
        announced = self.position
        for start in range(0, len(members), _HEARTBEATS_PER_TURN):
            # On a stream with a filter, a heartbeat may contain the SSE id of the hub's position, and the client
            # resumes from that id later. The danger: if a frame up to that position was not written to the subscriber,
            # the client would never receive it. Two things prevent this. A live subscriber has been given every
            # matching frame up to the hub's position. And there is no ``await`` between reading the position and
            # writing the heartbeat. Members that left the group in an earlier iteration are no longer live, so they are
            # skipped.
            for subscriber in members[start : start + _HEARTBEATS_PER_TURN]:
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
        partial = group.subscription.partial
        if group.subscription.heartbeat_events:
            return sse.heartbeat(self._clock(), self._id_of(self.position) if partial else None)
        # If the client has the id of the hub's position already, an empty comment is enough.
        if partial and max(group.announced, subscriber.position) < self.position:
            return sse.moved_on(self._id_of(self.position))
        return sse.HEARTBEAT

    def reset(self, position: int) -> None:
        """Closes every stream at once, drops the frames that are not written yet, and continues from ``position``."""
        for subscriber in tuple(self.subscribers):
            subscriber.cut_off()
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._waits_for_commits = None, False
        self._turn, self._turn_bytes = [], 0
        self.position = self._turn_position = position

    async def close(self, grace_s: float) -> None:
        """Ends every stream after the bytes already given to it are sent. After ``grace_s``, closes at once the streams
        that are still open."""
        self.flush()
        self.closing = True
        for subscriber in tuple(self.subscribers):
            subscriber.end()
        if self.subscribers:
            self._empty = self._loop.create_future()
            await asyncio.wait([self._empty], timeout=grace_s)
        for subscriber in tuple(self.subscribers):
            subscriber.abort()
