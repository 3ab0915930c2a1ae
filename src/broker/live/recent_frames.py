"""Keeps the newest frames in memory, so that many clients can reconnect at once without a read of the store."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from broker.live.frames import Frame
from broker.names import Filter


class RecentFrames:
    """Holds as many frames as a client that resumes may receive. Positions have no gaps, so the index of a frame
    follows from its position::

        position     before   before + 1   before + 2   ...        ``_before`` is the last position that is not held
        _frames                  [0]          [1]       ...
        _ends                    [0]          [1]       ...        the bytes of all frames up to and including this one

    A frame that is the latest of its event is in the snapshot as well. Both refer to the same object, so it needs
    memory only once. Frames are removed in large portions, because a removal moves all frames that stay. So for a while
    up to twice as many frames or bytes are held as the limits say.

    Owned by the relay, which adds the frame of each record when its position advances to that record."""

    def __init__(self, position: int, records_max: int, bytes_max: int) -> None:
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._before = position
        self._frames: list[Frame] = []
        self._ends: list[int] = []

    def put(self, frame: Frame) -> None:
        """Adds the frame of the next position."""
        self._frames.append(frame)
        self._ends.append(len(frame.named) + (self._ends[-1] if self._ends else 0))
        if len(self._frames) > 2 * self._records_max or self._ends[-1] > 2 * self._bytes_max:
            self._drop_oldest()

    def holds(self, after: int) -> bool:
        """Returns whether the frames of all positions after ``after`` are held."""
        return after >= self._before

    def read(
        self, filter: Filter, after: int, upto: int, bytes_max: int, records_max: int | None = None
    ) -> tuple[list[Frame], int]:
        """Returns the frames that match the filter, with ``after`` < position <= ``upto``, and the position that was
        reached. It stops when the frames that it has examined would exceed ``bytes_max`` in the named form, or
        ``records_max``, but it examines at least one frame."""
        first = after - self._before
        base = self._ends[first - 1] if first else 0
        last = min(upto - self._before, max(first + 1, bisect_right(self._ends, base + bytes_max)))
        if records_max is not None:
            last = min(last, first + records_max)
        frames = self._frames[first:last]
        if not filter.everything:
            frames = [frame for frame in frames if filter.matches(frame.event)]
        return frames, self._before + last

    def _drop_oldest(self) -> None:
        """Removes the oldest frames until the limits are kept. This moves all frames that stay, so it is done
        rarely."""
        dropped = max(len(self._frames) - self._records_max, bisect_right(self._ends, self._ends[-1] - self._bytes_max))
        self._before += dropped
        del self._frames[:dropped]
        self._ends = list(accumulate(len(frame.named) for frame in self._frames))
