"""The live subscribers with equal subscriptions, and what is written to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from broker import sse
from broker.live.access import Audience
from broker.live.frames import Encoder, Frame
from broker.live.reader import ReaderClass
from broker.live.subscriber import Subscriber
from broker.live.subscription import Subscription

Personal = tuple[Frame, list[Subscriber]]  # a frame, and those members of a group that receive it


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

    def deliver(self, frames: list[Frame], personal: list[Personal], encoder: Encoder) -> int:
        """Writes the frames of one turn. ``frames`` is for all members, and ``personal`` has further frames, each with
        the members that receive it. Returns how many frames were written to all subscribers together.

        Each subscriber receives its frames in one write and in the order of their positions: if it is cut off after a
        part of them, it resumes after the last id, and must not have missed a frame before that. The bytes are joined
        once for all members with the same frames."""
        delivered = len(frames) * len(self.members)
        # The members by their own frames. Most turns have at most one frame that is not for all.
        by_frames: dict[tuple[int, ...], tuple[list[Frame], list[Subscriber]]] = {}
        if len(personal) == 1:
            ((frame, members),) = personal
            by_frames[()] = [frame], members
        elif personal:
            own: dict[Subscriber, list[Frame]] = {}
            for frame, members in personal:
                for subscriber in members:
                    own.setdefault(subscriber, []).append(frame)
            for subscriber, its in own.items():
                by_frames.setdefault(tuple([frame.position for frame in its]), (its, []))[1].append(subscriber)
        if frames:
            apart = {subscriber for _, members in by_frames.values() for subscriber in members}
            payload = self._payload(frames, encoder)
            for subscriber in tuple(self.members):
                if subscriber not in apart:
                    subscriber.write_framed(payload)
        for its, members in by_frames.values():
            payload = self._payload(sorted(frames + its, key=_position) if frames else its, encoder)
            delivered += len(its) * len(members)
            for subscriber in members:
                # An earlier write of this turn may have found that the subscriber's connection is dead.
                if subscriber.group is self:
                    subscriber.write_framed(payload)
        return delivered

    def _payload(self, frames: list[Frame], encoder: Encoder) -> bytes:
        body = b"".join(encoder.encode(frames, self.subscription.form))
        return sse.chunk(body) if self.subscription.chunked else body


def _position(frame: Frame) -> int:
    return frame.position


def permitted(
    frame: Frame,
    groups: set[Group],
    audience: Audience,
    by_user: Mapping[str, Collection[Subscriber]],
    personal: dict[Group, list[Personal]],
) -> set[Group]:
    """Returns those of the groups that receive the frame as a whole, and adds to ``personal`` the single members of the
    other groups that receive it. ``by_user`` has the subscribers of each user. The cost depends on the number of
    groups, and on the number of users who may read the frame, or of users with streams, whichever is smaller."""
    whole: set[Group] = set()
    others: list[tuple[Group, ReaderClass]] = []
    for group in groups:
        readers = group.subscription.readers
        if readers is None or any(terms.fit(readers) for terms in audience.classes):
            whole.add(group)
        else:
            others.append((group, readers))
    found: dict[Group, list[Subscriber]] = {}
    for terms, usernames in audience.persons:
        # A room may have thousands of members, so the loop over them does as little as possible.
        lists: dict[object, list[Subscriber]] = {
            group: found.setdefault(group, []) for group, readers in others if terms.fit(readers)
        }
        names = usernames if len(usernames) <= len(by_user) else by_user.keys() & usernames
        for name in names:
            for subscriber in by_user.get(name, ()):
                members = lists.get(subscriber.group)
                if members is not None:
                    members.append(subscriber)
    for group, members in found.items():
        if members:
            # Several alternatives of the rule may have found the same stream.
            once = members if len(audience.persons) == 1 else list(dict.fromkeys(members))
            personal.setdefault(group, []).append((frame, once))
    return whole
