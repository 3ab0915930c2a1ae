"""The latest of every event as ready bytes, in position order, as of the relay's position."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from broker import sse
from broker.names import EVERYTHING, Filter
from broker.settings import KIB

_SCAN_MAX = 2_000  # entries that are looked at in one iteration of the event loop: about a millisecond


class Page:
    """The frames with ``after`` < position <= ``upto``, as one HTTP chunk that all who need it share."""

    __slots__ = ("after", "chunk", "upto")

    def __init__(self, after: int, upto: int, chunk: bytes | None) -> None:
        self.after = after
        self.upto = upto
        self.chunk = chunk  # None: it has to be made again, because one of its records was superseded


class Snapshot:
    """A subscriber walks through it by position, and keeps nothing but the position that it has reached, so a slow one
    costs no memory. A version that is superseded before a walk comes to it is left out. Its successor has a position
    beyond the walk's end, and the catch-up, which continues to there, delivers it.

    Walks without a filter share pages, so that a thousand new connections cost little more than their system calls. A
    new record invalidates the page on which the event's latest was, and the next walk makes that page again. The
    positions at which pages begin and end stay the same, so that walks that are under way find the next page.

    Owned by the relay, which puts each record in as its position moves past it."""

    def __init__(self, page_bytes: int = 64 * KIB - 16) -> None:
        self._page_bytes = page_bytes  # with the chunk's framing, 64 KiB: what is written at a time
        self._latest: dict[str, tuple[int, bytes]] = {}
        # In ascending order. An entry is stale once its event has a later position; they are removed when most are.
        self._order: list[tuple[int, str]] = []
        # Pages that are full, from position 0 on; each begins where the one before it ends.
        self._pages: list[Page] = []

    def put(self, position: int, event: str, frame: bytes) -> None:
        before = self._latest.get(event)
        if before is not None and self._pages and before[0] <= self._pages[-1].upto:
            self._pages[bisect_left(self._pages, before[0], key=lambda page: page.upto)].chunk = None
        self._latest[event] = (position, frame)
        self._order.append((position, event))
        if len(self._order) > 2 * len(self._latest) + 1_000:
            self._order = [(at, name) for at, name in self._order if self._latest[name][0] == at]
            self._pages = []  # they are half empty by now

    def page(self, after: int, upto: int) -> tuple[bytes, int] | None:
        """A full page that begins behind ``after`` and ends at or before ``upto``: its chunk, and where it ends. None
        if there is none; then ``walk``.

        The chunk is empty if every record of the page is superseded. It must not be sent then, since an empty chunk
        ends a response."""
        index = bisect_right(self._pages, after, key=lambda page: page.after) - 1
        if index >= 0 and self._pages[index].after == after:
            page = self._pages[index]
            if page.upto > upto:
                return None
            if page.chunk is None:
                page.chunk = sse.chunk(b"".join(self._scan(EVERYTHING, after, page.upto)[0]))
        elif after == (self._pages[-1].upto if self._pages else 0):
            frames, reached, more = self._scan(EVERYTHING, after, upto)
            if not more:
                return None
            page = Page(after, reached, sse.chunk(b"".join(frames)))
            self._pages.append(page)
        else:
            return None
        assert page.chunk is not None
        return page.chunk, page.upto

    def walk(self, filter: Filter, after: int, upto: int) -> tuple[list[bytes], int]:
        """The frames that match with ``after`` < position <= ``upto``, about a page, and the position reached."""
        frames, reached, _ = self._scan(filter, after, upto)
        return frames, reached

    def _scan(self, filter: Filter, after: int, upto: int) -> tuple[list[bytes], int, bool]:
        """The same as ``walk``, and whether more could follow up to ``upto``."""
        if filter.prefixes or filter.everything:
            order = self._order
        else:  # exact names alone, which can be looked up
            order = sorted((self._latest[name][0], name) for name in filter.names if name in self._latest)
        start = bisect_right(order, after, key=lambda entry: entry[0])
        frames: list[bytes] = []
        size = 0
        for index in range(start, min(start + _SCAN_MAX, len(order))):
            position, event = order[index]
            if position > upto:
                return frames, upto, False
            latest, frame = self._latest[event]
            if latest == position and filter.matches(event):
                size += len(frame)
                if frames and size > self._page_bytes:
                    return frames, position - 1, True
                frames.append(frame)
        end = start + _SCAN_MAX
        return (frames, upto, False) if end >= len(order) else (frames, order[end - 1][0], True)
