"""When the tokens of the open streams expire."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count

from broker.live.subscriber import Subscriber

_CLOSED_MAX = 1_000  # closed streams that may be kept in addition to as many as there are open ones


class Expiries:
    """Mutable state: a heap of times and subscribers. Closed subscribers stay in it until their token expires, or until
    they are the majority."""

    def __init__(self) -> None:
        # A time in seconds since 1970, a number that makes the entries comparable, and the subscriber.
        self._heap: list[tuple[int, int, Subscriber]] = []
        self._numbers = count()

    def add(self, expires_s: int, subscriber: Subscriber, streams: int) -> None:
        """``streams`` is the number of open streams."""
        if len(self._heap) > 2 * streams + _CLOSED_MAX:
            self._heap = [entry for entry in self._heap if not entry[2].closed]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (expires_s, next(self._numbers), subscriber))

    def expired(self, now_s: int) -> Iterator[Subscriber]:
        """Yields the open subscribers whose token has expired, and forgets them."""
        while self._heap and self._heap[0][0] <= now_s:
            _, _, subscriber = heapq.heappop(self._heap)
            if not subscriber.closed:
                yield subscriber
