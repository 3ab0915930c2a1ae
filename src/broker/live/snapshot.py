"""Keeps the latest record of every event in memory, as encoded frames in position order. It has the state of the log at
the relay's position."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence

from broker import sse
from broker.live.frames import Form, Frame
from broker.names import EVERYTHING, Filter
from broker.settings import KIB

# Entries that one call examines before other tasks have their turn. This takes about a millisecond.
_SCAN_MAX = 2_000
# New names that are not sorted in yet. To sort them in takes some milliseconds, if there are 100,000 names.
_UNSORTED_MAX = 2_000


class Page:
    """The frames with ``after`` < position <= ``upto``, as one HTTP chunk, which all subscribers that need it share."""

    __slots__ = ("after", "chunk", "upto")

    def __init__(self, after: int, upto: int, chunk: bytes | None) -> None:
        self.after = after
        self.upto = upto
        # None if one of the page's records has been superseded. The chunk is then encoded again when it is needed.
        self.chunk = chunk


class Snapshot:
    """A subscriber reads the snapshot in the order of positions. Nothing is stored for the subscriber but the position
    that it has reached, so a slow subscriber costs no memory. A record that is superseded before the subscriber reaches
    it is left out. The record that has superseded it has a position after the end of the subscriber's snapshot. The
    catch-up writes that record later, because it continues to the relay's position.

    Subscribers without a filter share pages, so that a thousand new connections cost little more than their system
    calls. When a record of a page is superseded, the encoded chunk of the page is dropped, and the next subscriber that
    needs the page has it encoded again. The positions at which a page begins and ends stay the same, so that
    subscribers which are in the middle of the snapshot find their next page.

    An event whose latest record is a removal has no state. Such records are kept for the clients that have an older
    state, up to ``removals_max`` and a tenth more. Those with positions up to ``removals_floor`` may be missing.

    Owned by the relay, which adds each record when its position advances to that record."""

    def __init__(
        self,
        latest: Iterable[Frame] = (),
        removals_floor: int = 0,
        removals_max: int = 100_000,
        page_bytes: int = 64 * KIB - 16,
    ) -> None:
        """``latest`` has the latest record of every event, in position order, removals included."""
        # With the framing of the HTTP chunk, a page has at most 64 KiB, the amount that is written at a time, unless it
        # consists of a single larger frame.
        self._page_bytes = page_bytes
        self._removals_max = removals_max
        self.removals_floor = removals_floor
        self._latest = {frame.event: frame for frame in latest}
        self._removals = sum(frame.removal for frame in self._latest.values())
        # Positions and event names, in ascending order. An entry is stale when its event has a later position. Stale
        # entries are removed all together, when they are the majority.
        self._order = [(frame.position, frame.event) for frame in self._latest.values()]
        # All names of ``_latest`` in ascending order, except those in ``_unsorted``, which are added when the names are
        # asked for. The list is never changed but replaced, because a listing may be reading it.
        self._names = sorted(self._latest)
        self._unsorted: list[str] = []
        # Only full pages are in this list. The first begins at position 0, and each later one where the one before it
        # ends.
        self._pages: dict[Form, list[Page]] = {}

    def put(self, frame: Frame) -> None:
        """Adds a record, which supersedes the latest record of its event. A removal of an event that has no state
        changes nothing."""
        before = self._latest.get(frame.event)
        if frame.reserved or (frame.removal and (before is None or before.removal)):
            return
        if before is not None:
            self._removals -= before.removal
            for pages in self._pages.values():
                if pages and before.position <= pages[-1].upto:
                    pages[bisect_left(pages, before.position, key=lambda page: page.upto)].chunk = None
        else:
            self._unsorted.append(frame.event)
            if len(self._unsorted) > _UNSORTED_MAX:
                self.names()
        self._latest[frame.event] = frame
        self._order.append((frame.position, frame.event))
        self._removals += frame.removal
        if self._removals > self._removals_max + self._removals_max // 10:
            self._drop_removals()
        if len(self._order) > 2 * len(self._latest) + 1_000:
            self._order = [entry for entry in self._order if self._is_latest(entry)]
            self._pages = {}  # most of their records were superseded, so the pages are far from full

    def page(self, after: int, upto: int, form: Form = Form.NAMED) -> tuple[bytes, int] | None:
        """Returns the chunk of the full page that begins right after ``after``, without removals, and the position at
        which the page ends. Returns None if there is no such page that ends at ``upto`` or before; the caller then uses
        ``walk``.

        The chunk is empty if every record of the page has been superseded. The caller then has nothing to send."""
        pages = self._pages.setdefault(form, [])
        index = bisect_right(pages, after, key=lambda page: page.after) - 1
        if index >= 0 and pages[index].after == after:
            page = pages[index]
            if page.upto > upto:
                return None
            if page.chunk is None:
                page.chunk = sse.chunk(b"".join(self._scan(EVERYTHING, after, page.upto, form)[0]))
        elif after == (pages[-1].upto if pages else 0):
            frames, reached, more = self._scan(EVERYTHING, after, upto, form)
            if not more:
                return None
            page = Page(after, reached, sse.chunk(b"".join(frames)))
            pages.append(page)
        else:
            return None
        assert page.chunk is not None
        return page.chunk, page.upto

    def walk(
        self,
        filter: Filter,
        after: int,
        upto: int,
        form: Form = Form.NAMED,
        *,
        removals: bool = False,
        ids: bool = True,
    ) -> tuple[list[bytes], int]:
        """Returns the frames that match the filter, with ``after`` < position <= ``upto``, and the position that was
        reached. It returns at most about a page. ``removals``: whether removals are among them. ``ids``: whether the
        frames have ``id:`` lines."""
        frames, reached, _ = self._scan(filter, after, upto, form, removals=removals, ids=ids)
        return frames, reached

    def _scan(
        self, filter: Filter, after: int, upto: int, form: Form, *, removals: bool = False, ids: bool = True
    ) -> tuple[list[bytes], int, bool]:
        """Does the work of ``walk``. It also returns whether there may be more frames up to ``upto``."""
        if filter.prefixes or filter.everything:
            order = self._order
        else:  # the filter has only exact names, so each of them can be looked up
            order = sorted((self._latest[name].position, name) for name in filter.names if name in self._latest)
        start = bisect_right(order, after, key=lambda entry: entry[0])
        frames: list[bytes] = []
        size = 0
        for index in range(start, min(start + _SCAN_MAX, len(order))):
            position, event = order[index]
            if position > upto:
                return frames, upto, False
            frame = self._latest.get(event)
            if frame is None or frame.position != position or (frame.removal and not removals):
                continue
            if filter.matches(event):
                encoded = frame.form(form) if ids else frame.without_id(form)
                size += len(encoded)
                if frames and size > self._page_bytes:
                    return frames, position - 1, True
                frames.append(encoded)
        end = start + _SCAN_MAX
        return (frames, upto, False) if end >= len(order) else (frames, order[end - 1][0], True)

    # For live/listing.py

    @property
    def latest(self) -> Mapping[str, Frame]:
        """The latest record of every event by the event's name, removals included. It changes with the next record, so
        it must be copied before an ``await``."""
        return self._latest

    @property
    def order(self) -> Sequence[tuple[int, str]]:
        """Positions and event names in ascending order; an entry whose event has a later position is stale. Later
        records are appended to this list, and its entries are never changed."""
        return self._order

    def names(self) -> list[str]:
        """Returns the names of all events in ascending order, removed ones included. The list is never changed."""
        if self._unsorted:
            self._names = self._names + sorted(self._unsorted)
            self._names.sort()  # which only merges the two sorted parts
            self._unsorted = []
        return self._names

    def _is_latest(self, entry: tuple[int, str]) -> bool:
        frame = self._latest.get(entry[1])
        return frame is not None and frame.position == entry[0]

    def _drop_removals(self) -> None:
        """Drops the oldest removals, so that ``removals_max`` are left."""
        removals = [entry for entry in self._order if self._is_latest(entry) and self._latest[entry[1]].removal]
        for position, event in removals[: self._removals - self._removals_max]:
            del self._latest[event]
            self.removals_floor = position
        self._removals = self._removals_max
        self._names = [name for name in self.names() if name in self._latest]
