"""Lists the state: the latest record of every event that is not removed, by name or by position."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat

from broker.live.frames import Frame
from broker.live.read_keys import Reading
from broker.live.snapshot import Snapshot
from broker.names import EVERYTHING, Filter
from broker.store.base import Version, VersionRow

# Entries that are examined before other tasks have their turn. This takes about a millisecond.
_EXAMINED_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of the state is listed, and in which order."""

    filter: Filter = EVERYTHING
    search: str = ""  # only names that contain this text; upper and lower case are not distinguished
    newest_first: bool = False  # the order is by position, the newest first; otherwise it is by name
    after: str = ""  # in the order of names: only names after this one
    before: int | None = None  # newest first: only positions before this one
    limit: int | None = None


async def select(snapshot: Snapshot, selection: Selection, reading: Reading | None = None) -> tuple[list[Frame], bool]:
    """Returns the selected frames, at most ``limit``, and whether there are more of them. ``reading``: what the
    reader may read; None: everything.

    All frames are of the moment at which this function is called, although records may be published while it runs. A
    coroutine runs synchronously until its first ``await``, so nothing can be published before the snapshot is copied.
    The copy is only made if there are many entries to examine.

    Rights may change while this function runs. ``reading`` then has decided on some events before the change, and may
    decide on others by the old rules and the new state of an event that they ask about. No answer is older than the
    frames, so nothing is shown that was inserted after a right had ended. But the two together may permit what neither
    the old rights nor the new ones do, so the caller checks what was found once more (``Reads.check_again``)."""
    walk = _Walk(snapshot, selection, reading)
    if more := walk.step():
        walk.latest = dict(walk.latest)
    while more:
        await asyncio.sleep(0)
        more = walk.step()
    limit = selection.limit
    return walk.frames[:limit], limit is not None and len(walk.frames) > limit


def select_versions(
    versions: Sequence[VersionRow], selection: Selection, reading: Reading | None = None
) -> tuple[list[Version], bool]:
    """Does the same as ``select`` for the versions of a state, which are in the order of the events' names. If there
    are many, this takes long, so it is called in a thread."""
    search, before, limit = selection.search.casefold(), selection.before, selection.limit
    found = [
        version
        for version in versions
        if version[0] > selection.after
        and version[0][0] != "$"
        and selection.filter.matches(version[0])
        and (not search or search in version[0].casefold())
        and (before is None or (version[1] or 0) < before)
        and (reading is None or reading(version[0]))
    ]
    if selection.newest_first:
        found.sort(key=lambda version: version[1] or 0, reverse=True)
    return list(map(Version._make, found[:limit])), limit is not None and len(found) > limit


class _Walk:
    """Mutable state: the entries that are not examined yet, and the frames that were found."""

    def __init__(self, snapshot: Snapshot, selection: Selection, reading: Reading | None) -> None:
        self._reading = reading
        self.latest: Mapping[str, Frame] = snapshot.latest
        self.frames: list[Frame] = []
        self._search = selection.search.casefold()
        self._filter = selection.filter
        self._enough = None if selection.limit is None else selection.limit + 1
        self._entries = _newest_first(snapshot, selection) if selection.newest_first else _by_name(snapshot, selection)

    def step(self) -> bool:
        """Examines some entries. Returns whether there are more of them to examine."""
        examined = 0
        for position, name in islice(self._entries, _EXAMINED_MAX):
            examined += 1
            frame = self.latest.get(name)
            if frame is None or frame.removal or (position is not None and frame.position != position):
                continue
            if self._search and self._search not in name.casefold():
                continue
            if (position is None or self._filter.matches(name)) and (self._reading is None or self._reading(name)):
                self.frames.append(frame)
                if len(self.frames) == self._enough:
                    return False
        return examined == _EXAMINED_MAX


def _by_name(snapshot: Snapshot, selection: Selection) -> Iterator[tuple[None, str]]:
    """Returns the names that match the filter, in ascending order."""
    names, filter = snapshot.names(), selection.filter
    start = bisect_right(names, selection.after)
    if filter.everything:
        return zip(repeat(None), islice(names, start, None))
    found: list[str] = []
    covered: str | None = None
    for prefix in filter.prefixes:
        # The prefixes are sorted, so one that begins with another one comes after it, and adds no name.
        if covered is None or not prefix.startswith(covered):
            covered = prefix
            first = bisect_left(names, prefix)
            end = bisect_left(names, True, first, key=lambda name: not name.startswith(prefix))
            found += names[max(first, start) : end]
    exact = {name for name in filter.names if name > selection.after and not name.startswith(filter.prefixes)}
    return zip(repeat(None), sorted(found + sorted(exact)))


def _newest_first(snapshot: Snapshot, selection: Selection) -> Iterator[tuple[int, str]]:
    """Returns positions and names in descending order. Not all of the names match the filter."""
    order, filter = snapshot.order, selection.filter
    if filter.names and not filter.prefixes:  # each of them can be looked up
        known: Iterable[Frame | None] = map(snapshot.latest.get, filter.names)
        order = sorted((frame.position, frame.event) for frame in known if frame is not None)
    end = len(order)
    if selection.before is not None:
        end = bisect_left(order, selection.before, key=lambda entry: entry[0])
    return (order[index] for index in range(end - 1, -1, -1))
