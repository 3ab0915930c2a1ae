"""The newest frames, in memory, so that many clients can reconnect at once without the store."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from broker.names import Filter


class RecentFrames:
    """As many as a resume may replay. Positions have no holes, so a frame's index follows from its position::

        position     before   before + 1   before + 2   ...        ``_before`` is the last one that is not held
        _frames                  [0]          [1]       ...
        _ends                    [0]          [1]       ...        bytes of all frames up to and with this one

    Frames that are the latest of their event are shared with the snapshot. Memory is given back in large portions, so
    for a while up to twice the bounds are held.

    Owned by the relay, which puts each record in as its position moves past it."""

    def __init__(self, position: int, records_max: int, bytes_max: int) -> None:
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._before = position
        self._events: list[str] = []
        self._frames: list[bytes] = []
        self._ends: list[int] = []

    def put(self, event: str, frame: bytes) -> None:
        """The frame of the next position."""
        self._events.append(event)
        self._frames.append(frame)
        self._ends.append(len(frame) + (self._ends[-1] if self._ends else 0))
        if len(self._frames) > 2 * self._records_max or self._ends[-1] > 2 * self._bytes_max:
            self._drop_oldest()

    def holds(self, after: int) -> bool:
        """Whether every record behind the position ``after`` is here."""
        return after >= self._before

    def read(self, filter: Filter, after: int, upto: int, bytes_max: int) -> tuple[list[bytes], int]:
        """The frames that match with ``after`` < position <= ``upto``, as many as fit, and the position reached."""
        first = after - self._before
        base = self._ends[first - 1] if first else 0
        last = min(upto - self._before, max(first + 1, bisect_right(self._ends, base + bytes_max)))
        frames = self._frames[first:last]
        if not filter.everything:
            events = self._events[first:last]
            frames = [frame for event, frame in zip(events, frames, strict=True) if filter.matches(event)]
        return frames, self._before + last

    def _drop_oldest(self) -> None:
        """Down to the bounds. It moves all that stays, and is done rarely."""
        dropped = max(len(self._frames) - self._records_max, bisect_right(self._ends, self._ends[-1] - self._bytes_max))
        self._before += dropped
        del self._events[:dropped], self._frames[:dropped]
        self._ends = list(accumulate(map(len, self._frames)))
