"""Keeps the latest record of every event in memory, as encoded frames in position order. It has the state of the log at
the relay's position."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from broker import sse
from broker.live.forms import NameForm, beginning, matches
from broker.live.frames import Authors, Form, Frame, form_of
from broker.live.read_keys import Reading
from broker.names import EVERYTHING, Filter
from broker.settings import KIB, MIB

# Entries that one call examines before other tasks have their turn. This takes about a millisecond.
_SCAN_MAX = 2_000
# The chunks of pages whose records are in another form than the one that is kept in memory anyway. Without this limit,
# each such form would need as much memory as the whole snapshot, or a multiple of it if the records are small.
_OTHER_FORMS_BYTES_MAX = 16 * MIB
# New names that are not sorted in yet. To sort them in takes some milliseconds, if there are 100,000 names.
_UNSORTED_MAX = 2_000
# Names that are compared with a form in vain. This takes about half a millisecond, and a batch may ask 1,000 times.
_COMPARED_MAX = 1_000


class Page:
    """The frames with ``after`` < position <= ``upto``, as one HTTP chunk, which all subscribers that need it share."""

    __slots__ = ("after", "chunk", "upto")

    def __init__(self, after: int, upto: int, chunk: bytes | None) -> None:
        self.after = after
        self.upto = upto
        # None if one of the page's records has been superseded, or if there was no room for the chunk. In both cases
        # the chunk is encoded when it is needed.
        self.chunk = chunk


class Snapshot:
    """A subscriber reads the snapshot in the order of positions. Nothing is stored for the subscriber but the position
    that it has reached, so a slow subscriber costs no memory. A record that is superseded before the subscriber reaches
    it is left out. The record that has superseded it has a position after the end of the subscriber's snapshot. The
    catch-up writes that record later, because it continues to the relay's position.

    Subscribers without a filter share pages, so that a thousand new connections cost little more than their system
    calls. When a record of a page is superseded, the encoded chunk of the page is dropped, and the next subscriber that
    needs the page has it encoded again. The positions at which a page begins and ends stay the same, so that
    subscribers which are in the middle of the snapshot find their next page. Each form of the records has pages of its
    own. The chunks of all forms but the named one share ``other_forms_bytes_max``; a chunk for which there is no room
    is encoded again for each subscriber.

    An event whose latest record is a removal has no state. Such records are kept for the clients that have an older
    state, up to ``removals_max`` and a tenth more. Those with positions up to ``removals_floor`` may be missing. The
    records of reserved events are not in the snapshot, because no stream shows them.

    Owned by the relay, which adds each record when its position advances to that record."""

    def __init__(
        self,
        latest: Iterable[Frame] = (),
        removals_floor: int = 0,
        removals_max: int = 100_000,
        page_bytes: int = 64 * KIB - 16,
        other_forms_bytes_max: int = _OTHER_FORMS_BYTES_MAX,
    ) -> None:
        """``latest`` has the latest record of every event, in position order, removals included."""
        # With the framing of the HTTP chunk, a page has at most 64 KiB, the amount that is written at a time, unless it
        # consists of a single larger frame.
        self._page_bytes = page_bytes
        self._removals_max = removals_max
        self.removals_floor = removals_floor
        self._latest = {frame.event: frame for frame in latest if not frame.reserved}
        # The events without state, in the order in which they were removed. It is a dict, because an event that gets a
        # state again is taken out of the middle.
        self._removed = dict.fromkeys(event for event, frame in self._latest.items() if frame.removal)
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
        self._other_forms_bytes_max = other_forms_bytes_max
        self._other_forms_bytes = 0  # of the chunks in ``_pages`` that are not in the named form

    def put(self, frame: Frame) -> None:
        """Adds a record, which supersedes the latest record of its event. A removal of an event that has no state
        changes nothing."""
        event = frame.event
        before = self._latest.get(event)
        if frame.reserved or (frame.removal and (before is None or before.removal)):
            return
        if before is not None:
            if before.removal:
                del self._removed[event]  # no page has a removal
            elif self._pages:
                self._invalidate(before.position)
        else:
            self._unsorted.append(event)
            if len(self._unsorted) > _UNSORTED_MAX:
                self.names()
        self._latest[event] = frame
        self._order.append((frame.position, event))
        if frame.removal:
            self._removed[event] = None
            # A tenth more than the limit is kept, so that removals are dropped rarely, and many at once.
            if len(self._removed) > self._removals_max + self._removals_max // 10:
                self._drop_removals()
        if len(self._order) > 2 * len(self._latest) + 1_000:
            self._order = [(at, name) for at, name in self._order if self._latest_at(at, name) is not None]
            # Most of their records were superseded, so the pages are far from full.
            self.drop_pages()

    def drop_pages(self) -> None:
        self._pages, self._other_forms_bytes = {}, 0

    def page(
        self, after: int, upto: int, form: Form = Form.NAMED, authors: Authors | None = None
    ) -> tuple[bytes, int] | None:
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
            if page.chunk is not None:
                return page.chunk, page.upto
            frames, _, _ = self._scan(EVERYTHING, after, page.upto, form, authors=authors)
        elif after == (pages[-1].upto if pages else 0):
            frames, reached, more = self._scan(EVERYTHING, after, upto, form, authors=authors)
            if not more:
                return None
            page = Page(after, reached, None)
            pages.append(page)
        else:
            return None
        chunk = sse.chunk(b"".join(frames))
        if form is Form.NAMED:
            page.chunk = chunk
        elif self._other_forms_bytes + len(chunk) <= self._other_forms_bytes_max:
            page.chunk = chunk
            self._other_forms_bytes += len(chunk)
        return chunk, page.upto

    def walk(
        self,
        filter: Filter,
        after: int,
        upto: int,
        form: Form = Form.NAMED,
        *,
        removals: bool = False,
        ids: bool = True,
        reading: Reading | None = None,
        authors: Authors | None = None,
    ) -> tuple[list[bytes], int]:
        """Returns the frames that match the filter, with ``after`` < position <= ``upto``, and the position that was
        reached. It returns at most about a page. ``removals``: whether removals are among them. ``ids``: whether the
        frames have ``id:`` lines. ``reading``: what the reader may read; None: everything. ``authors``: see
        ``frames.form_of``."""
        frames, reached, _ = self._scan(
            filter, after, upto, form, removals=removals, ids=ids, reading=reading, authors=authors
        )
        return frames, reached

    def _scan(
        self,
        filter: Filter,
        after: int,
        upto: int,
        form: Form,
        *,
        removals: bool = False,
        ids: bool = True,
        reading: Reading | None = None,
        authors: Authors | None = None,
    ) -> tuple[list[bytes], int, bool]:
        """Does the work of ``walk``. It also returns whether there may be more frames up to ``upto``."""
        if filter.prefixes or filter.everything:
            order = self._order
        else:  # the filter has only exact names, so each of them can be looked up
            order = sorted((self._latest[name].position, name) for name in filter.names if name in self._latest)
        start = bisect_right(order, after, key=lambda entry: entry[0])
        frames: list[bytes] = []
        size = 0
        latest, everything = self._latest, filter.everything
        entries: Iterable[tuple[int, str]] = order[start : start + _SCAN_MAX]
        if reading is not None:  # what is hidden from the reader goes first, because it may be nearly everything
            entries = reading.visible(entries)
        for position, event in entries:
            if position > upto:
                return frames, upto, False
            if not everything and not filter.matches(event):
                continue
            frame = latest.get(event)
            if frame is None or frame.position != position or (frame.removal and not removals):
                continue
            shown = form_of(frame, form, authors)
            encoded = frame.form(shown) if ids else frame.without_id(shown)
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

    def may_have(self, form: NameForm, but: str = "") -> bool:
        """Returns whether the name of some event, removed ones included, but not of the event ``but``, has this form.
        Returns True, too, if more names would have to be compared than is good for the event loop."""
        begins = beginning(form)
        # The new names are not sorted in for this: somebody may insert a new name before each question.
        found = [name for name in self._unsorted if name.startswith(begins)]
        start = bisect_left(self._names, begins)
        for compared, name in enumerate(found + self._names[start : start + _COMPARED_MAX + 1]):
            if not name.startswith(begins):
                return False
            if compared >= _COMPARED_MAX or (name != but and matches(form, name)):
                return True
        return False

    def _latest_at(self, position: int, event: str) -> Frame | None:
        """Returns the latest record of the event if it has this position. Otherwise the entry of ``_order`` is stale,
        and this returns None."""
        frame = self._latest.get(event)
        return frame if frame is not None and frame.position == position else None

    def _invalidate(self, position: int) -> None:
        """Drops the chunks that contain the record at this position."""
        for form, pages in self._pages.items():
            if pages and position <= pages[-1].upto:
                page = pages[bisect_left(pages, position, key=lambda page: page.upto)]
                if form is not Form.NAMED and page.chunk is not None:
                    self._other_forms_bytes -= len(page.chunk)
                page.chunk = None

    def _drop_removals(self) -> None:
        """Drops the oldest removals, so that ``removals_max`` are left."""
        for event in list(islice(self._removed, len(self._removed) - self._removals_max)):
            del self._removed[event]
            self.removals_floor = self._latest.pop(event).position
        self._names = [name for name in self.names() if name in self._latest]
