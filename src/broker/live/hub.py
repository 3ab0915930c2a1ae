"""The subscribers of this process, in groups by filter; fan-out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable

from broker import sse
from broker.addresses import visitor
from broker.live.subscriber import Subscriber
from broker.names import Filter
from broker.settings import Settings

_HEARTBEATS_PER_TURN = 100  # about a millisecond of writing
_REST_MAX_S = 0.01


class Group:
    """The live subscribers with one filter, one framing and one kind of heartbeat: they share the joined bytes."""

    __slots__ = ("chunked", "filter", "heartbeat_events", "members", "told", "written_at")

    def __init__(self, filter: Filter, chunked: bool, heartbeat_events: bool, now: float) -> None:
        self.filter = filter
        self.chunked = chunked
        self.heartbeat_events = heartbeat_events
        # A dict for its order, that of joining: that is how they lie in memory, which spares the processor's caches.
        self.members: dict[Subscriber, None] = {}
        self.written_at = now  # seconds of the loop's clock
        # The position of the last id that was written to all who were members then. Who joined later has its own.
        self.told = 0

    def write(self, body: bytes) -> None:
        payload = sse.chunk(body) if self.chunked else body
        # A copy: a write may find its subscriber slow or dead and take it out of the group.
        for subscriber in tuple(self.members):
            subscriber.write_framed(payload)


class Hub:
    """Fan-out: each turn's frames joined, one write a subscriber, no await anywhere.

    Mutable state, all owned here: the set of all subscribers, the groups of the live ones and their index, the turn's
    frames. Every live subscriber has been written everything up to ``position`` and nothing beyond."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop
        self._behind: Callable[[Subscriber], None]
        self._more: Callable[[], bool]
        self._id_of: Callable[[int], bytes]
        self._clock: Callable[[], int]
        self.position = 0
        self.subscribers: set[Subscriber] = set()
        self.by_visitor: Counter[str] = Counter()
        self.closing = False
        self.deliveries = 0  # frames handed to subscribers
        self._empty: asyncio.Future[None] | None = None
        # Live
        self._groups: dict[tuple[Filter, bool, bool], Group] = {}
        self._everything: set[Group] = set()
        self._by_name: dict[str, set[Group]] = {}
        self._by_prefix: dict[str, set[Group]] = {}
        # This turn
        self._turn: list[tuple[str, bytes]] = []
        self._turn_bytes = 0
        self._turn_position = 0
        self._timer: asyncio.Handle | None = None  # for the end of the turn
        self._waits = False  # the turn, for writes that are being committed
        self._fan_out_s = 0.0  # the last one, _REST_MAX_S at most
        self._rest_until = 0.0  # seconds of the monotonic clock

    def start(
        self,
        position: int,
        id_of: Callable[[int], bytes],
        behind: Callable[[Subscriber], None],
        more: Callable[[], bool],
        clock: Callable[[], int],
    ) -> None:
        """``id_of`` gives a position's SSE id; ``behind`` is told each subscriber that cannot keep up; ``more`` tells
        whether writes are being committed; ``clock`` tells the microseconds since the epoch."""
        self._loop = asyncio.get_running_loop()
        self._id_of = id_of
        self._behind = behind
        self._more = more
        self._clock = clock
        self.position = self._turn_position = position

    def full(self, address: str) -> bool:
        """For another subscriber from there."""
        settings = self._settings
        return (
            self.closing
            or len(self.subscribers) >= settings.subscribers_max
            or (
                self.by_visitor[visitor(address)] >= settings.subscribers_per_address_max
                and not settings.trusts(address)
            )
        )

    # Fan-out

    def publish(self, position: int, event: str, frame: bytes) -> None:
        """Takes the next frame; it goes out at the end of this turn of the loop, with the others of the turn.

        Under load the turn is longer, by as much as the last fan-out took at most: after a fan-out of several frames
        the hub rests for as long, so that half of the time is left to inserts; and it waits for writes that are being
        committed. What comes meanwhile goes out joined. An event that comes when nothing else does never waits."""
        self._turn.append((event, frame))
        self._turn_bytes += len(frame)
        self._turn_position = position
        if self._turn_bytes >= self._settings.turn_bytes_max:
            self.flush()
        elif self._timer is None:
            self._schedule()

    def committed(self) -> None:
        """Told after each commit, and after what it published: there may be nothing to wait for any more."""
        if self._waits and not self._more():
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._waits = self._more()
        wait_s = max(self._rest_until - time.monotonic(), self._fan_out_s if self._waits else 0)
        self._timer = self._loop.call_later(wait_s, self.flush) if wait_s > 0 else self._loop.call_soon(self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._waits = None, False
        if not self._turn:
            return
        turn, self._turn, self._turn_bytes = self._turn, [], 0
        # Before the first write: one that is found slow meanwhile has been written all of this turn, too.
        self.position = self._turn_position
        parts: dict[Group, list[bytes]] = {}
        for position, (event, frame) in enumerate(turn, self.position - len(turn) + 1):
            for group in self._matching(event):
                parts.setdefault(group, []).append(frame)
                group.told = position
        now = self._loop.time()
        started = time.monotonic()
        for group, frames in parts.items():
            self.deliveries += len(frames) * len(group.members)
            group.written_at = now
            group.write(b"".join(frames))
        ended = time.monotonic()
        self._fan_out_s = min(ended - started, _REST_MAX_S)
        if len(turn) > 1:
            self._rest_until = ended + self._fan_out_s

    def _matching(self, event: str) -> Iterable[Group]:
        """Costs the same however many other filters there are."""
        if not self._by_name and not self._by_prefix:
            return self._everything
        groups = self._everything | self._by_name.get(event, set())
        if self._by_prefix:
            for end in range(len(event) + 1):
                groups |= self._by_prefix.get(event[:end], set())
        return groups

    # Membership

    def add(self, subscriber: Subscriber) -> None:
        """A new one, behind as yet."""
        self.subscribers.add(subscriber)
        self.by_visitor[subscriber.visitor] += 1
        if self.closing:
            subscriber.end()

    def join(self, subscriber: Subscriber) -> None:
        """Makes it live. The caller has just written it everything up to the relay's position, which may be ahead of
        what the others were written by this turn's frames: those go out first, or it would get them twice."""
        self.flush()
        if subscriber.closed or self.closing:
            return
        assert subscriber.position == self.position, "only one that has everything can be live"
        key = (subscriber.filter, subscriber.chunked, subscriber.heartbeat_events)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(*key, self._loop.time())
            for members in self._index(group):
                members.add(group)
        group.members[subscriber] = None
        subscriber.group = group
        subscriber.filter = group.filter  # equal: one for all, of 260 bytes

    def leave(self, subscriber: Subscriber) -> None:
        """A slow one: nothing more is written to it until it has caught up."""
        self._detach(subscriber)
        subscriber.position = self.position
        self._behind(subscriber)

    def remove(self, subscriber: Subscriber) -> None:
        """A closed one."""
        self._detach(subscriber)
        self.subscribers.discard(subscriber)
        self.by_visitor[subscriber.visitor] -= 1
        if not self.by_visitor[subscriber.visitor]:
            del self.by_visitor[subscriber.visitor]
        if self._empty is not None and not self.subscribers and not self._empty.done():
            self._empty.set_result(None)

    def _detach(self, subscriber: Subscriber) -> None:
        group, subscriber.group = subscriber.group, None
        if group is None:
            return
        group.members.pop(subscriber, None)
        if not group.members:
            del self._groups[group.filter, group.chunked, group.heartbeat_events]
            for members in self._index(group):
                members.discard(group)
            for index, keys in ((self._by_name, group.filter.names), (self._by_prefix, group.filter.prefixes)):
                for key in keys:
                    if not index[key]:
                        del index[key]

    def _index(self, group: Group) -> list[set[Group]]:
        if group.filter.everything:
            return [self._everything]
        return [self._by_name.setdefault(name, set()) for name in group.filter.names] + [
            self._by_prefix.setdefault(prefix, set()) for prefix in group.filter.prefixes
        ]

    # Time

    async def run_heartbeats(self) -> None:
        """One timer for all: groups that were written nothing for ``heartbeat_s``, a slice of subscribers a turn."""
        every = self._settings.heartbeat_s
        while True:
            await asyncio.sleep(min(1.0, every / 4))
            idle_since = self._loop.time() - every
            for group in [group for group in self._groups.values() if group.written_at <= idle_since]:
                group.written_at = self._loop.time()
                await self._beat(group)

    async def _beat(self, group: Group) -> None:
        members = list(group.members)
        everybody_told = self.position
        for start in range(0, len(members), _HEARTBEATS_PER_TURN):
            # The position is read in the turn that writes it: every member that is still live has everything up to it.
            for subscriber in members[start : start + _HEARTBEATS_PER_TURN]:
                if subscriber.group is group:
                    body = self._heartbeat(group, subscriber)
                    subscriber.write_framed(sse.chunk(body) if group.chunked else body)
            await asyncio.sleep(0)
        group.told = max(group.told, everybody_told)

    def _heartbeat(self, group: Group, subscriber: Subscriber) -> bytes:
        """A stream that shows only a part of the log moves its reader's last id, or a quiet filter would fall behind
        the replay."""
        partial = not group.filter.everything
        if group.heartbeat_events:
            return sse.heartbeat(self._clock(), self._id_of(self.position) if partial else None)
        # The position of a live subscriber is the one with which it joined.
        if partial and max(group.told, subscriber.position) < self.position:
            return sse.moved_on(self._id_of(self.position))
        return sse.HEARTBEAT

    def begin_anew(self, position: int) -> None:
        """Cuts every stream off, and goes on from another position."""
        for subscriber in tuple(self.subscribers):
            subscriber.cut_off()
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._waits = None, False
        self._turn, self._turn_bytes = [], 0
        self.position = self._turn_position = position

    async def close(self, grace_s: float) -> None:
        """Ends every stream cleanly; cuts off those that do not drain within ``grace_s``."""
        self.flush()
        self.closing = True
        for subscriber in tuple(self.subscribers):
            subscriber.end()
        if self.subscribers:
            self._empty = self._loop.create_future()
            await asyncio.wait([self._empty], timeout=grace_s)
        for subscriber in tuple(self.subscribers):
            subscriber.abort()
