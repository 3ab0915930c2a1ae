"""The subscribers of this process, in groups of equal subscriptions, and the fan-out to them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from broker import sse
from broker.addresses import client_key
from broker.live.access import Access, Audience, Change
from broker.live.expiries import Expiries
from broker.live.filter_index import FilterIndex
from broker.live.forms import beginning
from broker.live.frames import Encoder, Frame
from broker.live.group import Group, Personal, permitted
from broker.live.pace import Pace
from broker.live.subscriber import Subscriber
from broker.live.subscription import Subscription
from broker.settings import Settings

_PENDING_S = 1.0  # the shortest time from one hint that the list of pending records has changed to the next
_END_S = 5.0  # how long a stream whose token is not valid any more may take to end by itself


class Hub:
    """Joins the frames of one iteration of the event loop, and writes them to each matching subscriber in one write.

    The fan-out has no ``await``. So whenever another task runs, this holds: every matching frame up to ``position``,
    and no later frame, has been written to every live subscriber.

    Mutable state, all of it owned by the hub: the set of all subscribers, their number for each client, those of each
    user, and when their tokens expire; the groups of live subscribers, and an index of these groups; the frames that
    are not written yet."""

    def __init__(self, settings: Settings, access: Access) -> None:
        self._settings = settings
        self._access = access
        self._loop: asyncio.AbstractEventLoop
        self._resume: Callable[[Subscriber], None]
        self._committing: Callable[[], bool]
        self.id_of: Callable[[int], bytes]
        self.clock: Callable[[], int]
        self.position = 0
        self.subscribers: set[Subscriber] = set()
        self.by_client: Counter[str] = Counter()
        self._by_user: dict[str, set[Subscriber]] = {}  # by the user's name
        self._expiries = Expiries()
        self.closing = False
        self.deliveries = 0  # the number of frames written to subscribers
        self._empty: asyncio.Future[None] | None = None
        # The subscribers that are behind, without those that start again because of their rights anyway
        self._behind: FilterIndex[Subscriber] = FilterIndex()
        # The live subscribers
        self.groups: dict[Subscription, Group] = {}
        self._index: FilterIndex[Group] = FilterIndex()
        self._restricted = 0  # the number of groups whose readers may not read everything
        self._pending: set[Group] = set()  # the groups that asked for ``$pending``
        self._pending_at = 0.0  # when it was last sent, in seconds of the loop's clock
        self._pending_timer: asyncio.Handle | None = None  # for the next time
        # The frames that are not written yet
        self._turn: list[Frame] = []
        self._audiences: list[
            Audience
        ] = []  # of these frames, if there are groups whose readers may not read everything
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
        self.id_of = id_of
        self._resume = resume
        self._committing = committing
        self.clock = clock
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
        return sum(len(group.members) for group in self.groups.values())

    # Fan-out

    def publish(self, frame: Frame) -> None:
        """Adds the next frame to those that are not written yet. All frames of this iteration of the event loop are
        written together at its end, or under load some milliseconds later (see ``Pace``)."""
        self._turn.append(frame)
        if self._restricted or self._audiences:
            # Who may read it is decided now, as of the frame's position, and not when the turn is written.
            self._audiences.append(self._access.audience(frame.event))
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
        audiences, self._audiences = self._audiences, []
        # The danger: a write below may find that a subscriber is slow. The catch-up of that subscriber then starts
        # from ``self.position``. The write has accepted all frames of this turn (the subscriber buffers what the
        # socket did not accept), so with an older position the subscriber would receive these frames twice.
        # Therefore ``self.position`` is set to the position of the turn's last frame before the first write.
        self.position = self._turn_position
        parts: dict[Group, list[Frame]] = {}
        personal: dict[Group, list[Personal]] = {}
        for index, frame in enumerate(turn):
            groups = self._index.matching(frame.event)
            if audiences:
                groups = permitted(frame, groups, audiences[index], self._by_user, personal)
            for group in groups:
                parts.setdefault(group, []).append(frame)
                group.announced = frame.position
        now = self._loop.time()
        began = time.monotonic()
        encoder = Encoder(turn, self._access.shows_author())
        for group, frames in parts.items():
            group.written_at = now
            self.deliveries += group.deliver(frames, personal.pop(group, []), encoder)
        for group, own in personal.items():
            self.deliveries += group.deliver([], own, encoder)
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

    # Membership

    def add(self, subscriber: Subscriber) -> None:
        """Adds a new subscriber. It is behind until its catch-up is done."""
        self._set_readers(subscriber)
        self.subscribers.add(subscriber)
        self._behind.add(subscriber.subscription.filter, subscriber)
        self.by_client[subscriber.client_key] += 1
        actor, expires_s = subscriber.reader
        if actor.username:
            self._by_user.setdefault(actor.username, set()).add(subscriber)
        if expires_s is not None:
            self._expiries.add(expires_s, subscriber, len(self.subscribers))
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
        self._set_readers(subscriber)
        group = self.groups.get(subscriber.subscription)
        if group is None:
            group = self.groups[subscriber.subscription] = Group(subscriber.subscription, self._loop.time())
            self._index.add(group.subscription.filter, group)
            if group.subscription.pending:
                self._pending.add(group)
            if group.subscription.readers is not None:
                self._restricted += 1
        group.members[subscriber] = None
        self._behind.discard(subscriber.subscription.filter, subscriber)
        subscriber.go_live(group, group.subscription)

    # Called by subscribers: see ``subscriber.Owner``.

    def fell_behind(self, subscriber: Subscriber) -> None:
        """Takes the subscriber out of its group, and starts its catch-up from the hub's position."""
        self._detach(subscriber)
        subscriber.advance(self.position)
        if not subscriber.rights_changed:
            self._behind.add(subscriber.subscription.filter, subscriber)
        self._resume(subscriber)

    def closed(self, subscriber: Subscriber) -> None:
        self._detach(subscriber)
        self._behind.discard(subscriber.subscription.filter, subscriber)
        self.subscribers.discard(subscriber)
        self.by_client[subscriber.client_key] -= 1
        if not self.by_client[subscriber.client_key]:
            del self.by_client[subscriber.client_key]
        username = subscriber.reader.actor.username
        if username and (streams := self._by_user.get(username)):
            streams.discard(subscriber)
            if not streams:
                del self._by_user[username]
        if self._empty is not None and not self.subscribers and not self._empty.done():
            self._empty.set_result(None)

    def _detach(self, subscriber: Subscriber) -> None:
        group = subscriber.leave_group()
        if group is None:
            return
        assert isinstance(group, Group)
        group.members.pop(subscriber, None)
        if not group.members:
            del self.groups[group.subscription]
            self._pending.discard(group)
            if group.subscription.readers is not None:
                self._restricted -= 1
            self._index.discard(group.subscription.filter, group)

    # Rights

    def rights_changed(self, change: Change) -> None:
        """Called by the relay when a record changes rights, after ``flush`` and before the record itself is published.
        So every stream has what its reader could read until now, and nothing else.

        Streams whose token is not valid any more end. Streams that may show something else now leave their group at
        once, and start again with the state (see ``Catchup``). The others stay as they are, but their group may be
        another one now.

        Every user may change conditions, so that must not cost a look at every stream. A condition changes nobody's
        class, so all other streams stay in their groups."""
        self.pending_changed()  # what each of them may see of it may be more, or less
        if change.condition:
            for subscriber in self._concerned(change):
                self.start_again(subscriber)
            return
        for subscriber in tuple(self.subscribers):
            actor = subscriber.reader.actor
            if change.user_id is not None and actor.user_id != change.user_id:
                continue
            if not actor.is_valid_or_newer(self._access.rights.state(actor.user_id)):
                self.log_out(subscriber, "disabled" if self._access.rights.state(actor.user_id).disabled else "ended")
                continue
            before = subscriber.subscription.readers
            hidden = self._set_readers(subscriber)
            if subscriber.rights_changed:
                continue
            if hidden and change.concerns(subscriber.subscription.filter, self.position):
                self.start_again(subscriber)
            elif subscriber.group is not None and subscriber.subscription.readers != before:
                self._detach(subscriber)
                subscriber.advance(self.position)
                self.join(subscriber)

    def _concerned(self, change: Change) -> list[Subscriber]:
        """Returns the streams that start again because a condition has changed, without those that do so anyway."""
        if change.username is not None:
            streams = self._by_user.get(change.username, set())
            return [each for each in streams if self._is_concerned(each, change)]
        forms = change.forms or ()
        found: list[Subscriber] = []
        for group in self._index.near(map(beginning, forms)):
            if self._is_concerned(next(iter(group.members)), change):  # and so are all, or none
                found += group.members
        behind = self._behind.near(map(beginning, forms + change.unused if change.floor else forms))
        return found + [each for each in behind if self._is_concerned(each, change)]

    def _is_concerned(self, subscriber: Subscriber, change: Change) -> bool:
        """Whether a condition that changes makes the subscriber start again, and it does not do so anyway."""
        position, asked = self.position if subscriber.group else subscriber.position, subscriber.subscription
        return not subscriber.rights_changed and asked.readers is not None and change.concerns(asked.filter, position)

    def start_again(self, subscriber: Subscriber) -> None:
        """Makes the subscriber start again with the state. It receives nothing of what is published from now on before
        it has done so."""
        subscriber.rights_changed = True
        self._behind.discard(subscriber.subscription.filter, subscriber)
        if subscriber.group is not None:
            self.fell_behind(subscriber)

    def starts_again(self, subscriber: Subscriber) -> None:
        """Called by the catch-up when the subscriber has begun with the state as of now. A later change concerns it
        again."""
        subscriber.rights_changed = False
        self._behind.add(subscriber.subscription.filter, subscriber)

    def _set_readers(self, subscriber: Subscriber) -> bool:
        """Sets the class of readers to which the subscriber belongs now. Returns whether the rules hide something from
        it, before or from now on. The subscriber is in no group, or leaves it next."""
        subscription = subscriber.subscription
        readers = self._access.class_of(subscriber.reader.actor)
        if subscription.readers == readers:
            return readers is not None
        subscriber.subscription = replace(subscription, readers=readers)
        return True

    def log_out(self, subscriber: Subscriber, reason: str) -> None:
        """Ends a stream whose token is not valid any more. Nothing that is published from now on reaches it. If its
        catch-up is writing to it, that ends the stream after what it is writing; a client that does not read is cut
        off."""
        subscriber.logged_out = reason
        if subscriber.group is not None:
            self._detach(subscriber)
            subscriber.write(sse.login(reason))
            subscriber.end()
        self._loop.call_later(_END_S, subscriber.cut_off_if_open)

    def end_expired(self) -> None:
        """Ends the streams whose tokens have expired. Called every second."""
        for subscriber in self._expiries.expired(self.clock() // 1_000_000):
            self.flush()
            self.log_out(subscriber, "expired")

    # The end

    def reset(self, position: int) -> None:
        """Closes every stream at once, drops the frames that are not written yet, and continues from ``position``."""
        for subscriber in tuple(self.subscribers):
            subscriber.cut_off()
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._waits_for_commits = None, False
        self._turn, self._audiences, self._turn_bytes = [], [], 0
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
