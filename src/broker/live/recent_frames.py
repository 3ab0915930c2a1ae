"""The newest frames, in memory: a storm of reconnects is answered without the store."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from broker.names import Filter


class Recent:
    """Owned by the relay, which puts each record as its position moves over it. Positions have no holes.

    Holds at most what a resume may replay. Memory is shared with the snapshot for the frames that are an event's
    latest, and given back in large portions: at most twice the bounds are held for a while."""

    def __init__(self, position: int, records_max: int, bytes_max: int) -> None:
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._before = position  # the position before the first that is held
        self._events: list[str] = []
        self._frames: list[bytes] = []
        self._ends: list[int] = []  # bytes of all frames up to and with this one, since the list was last cut

    def put(self, event: str, frame: bytes) -> None:
        self._events.append(event)
        self._frames.append(frame)
        self._ends.append(len(frame) + (self._ends[-1] if self._ends else 0))
        if len(self._frames) > 2 * self._records_max or self._ends[-1] > 2 * self._bytes_max:
            self._cut()

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

    def _cut(self) -> None:
        """Down to the bounds; rarely, since it moves all that stays."""
        dropped = max(len(self._frames) - self._records_max, bisect_right(self._ends, self._ends[-1] - self._bytes_max))
        self._before += dropped
        del self._events[:dropped], self._frames[:dropped]
        self._ends = list(accumulate(map(len, self._frames)))
