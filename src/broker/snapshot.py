"""The latest of every event as ready bytes, in position order, as of the relay's position."""

from __future__ import annotations

from bisect import bisect_right

from broker.names import Filter

_SCAN_MAX = 2_000  # entries looked at in one turn of the loop: about a millisecond


class Snapshot:
    """Owned by the relay, which puts each record as its position moves over it.

    A walk keeps nothing but a position, so a slow subscriber costs no memory. A version that is superseded before a
    walk comes to it is left out: its successor lies beyond the walk's end, and the catch-up goes on to there."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[int, bytes]] = {}
        # Ascending; an entry is stale once its event has a later position. Compacted when most are.
        self._order: list[tuple[int, str]] = []

    def put(self, position: int, event: str, frame: bytes) -> None:
        self._latest[event] = (position, frame)
        self._order.append((position, event))
        if len(self._order) > 2 * len(self._latest) + 1_000:
            self._order = [(at, name) for at, name in self._order if self._latest[name][0] == at]

    def walk(self, filter: Filter, after: int, upto: int, bytes_max: int) -> tuple[list[bytes], int]:
        """The frames that match with ``after`` < position <= ``upto``, as many as fit, and the position reached."""
        if filter.prefixes or filter.everything:
            order = self._order
        else:  # only exact names: no need to look at the others
            order = sorted((self._latest[name][0], name) for name in filter.names if name in self._latest)
        start = bisect_right(order, after, key=lambda entry: entry[0])
        frames: list[bytes] = []
        size = 0
        for index in range(start, min(start + _SCAN_MAX, len(order))):
            position, event = order[index]
            if position > upto:
                return frames, upto
            latest, frame = self._latest[event]
            if latest == position and filter.matches(event):
                frames.append(frame)
                size += len(frame)
                if size >= bytes_max:
                    return frames, position
        end = start + _SCAN_MAX
        return frames, upto if end >= len(order) else order[end - 1][0]
