"""The lists of the state, against the plain way to make them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.live import listing, snapshot
from broker.live.frames import Frame, make_frame
from broker.live.listing import Selection, select
from broker.live.snapshot import Snapshot
from broker.names import Filter
from broker.records import Record, make_uuid

pytestmark = pytest.mark.anyio

NAMES = ["a", "ab", "abc", "b", "c/1", "c/2", "C/3", "é", "\U0010ffff"]
# A name, and whether the record is a removal.
INSERTS = st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=60)
FILTERS = st.lists(st.sampled_from(["a", "a*", "ab*", "c/*", "b", "none", "*"]), max_size=4)
SELECTIONS = st.builds(
    lambda patterns, **fields: Selection(Filter.parse(patterns, 10), **fields),
    FILTERS,
    search=st.sampled_from(["", "b", "C/", "none"]),
    limit=st.none() | st.integers(1, 4),
)


def frame(position: int, event: str, *, removal: bool = False) -> Frame:
    data = b"null" if removal else b"%d" % position
    record = Record(make_uuid(1), event, data, "ada", None, 5, False, 5, position=position, published_us=5)
    return make_frame(record, b"0000000e-")


def names(frames: list[Frame]) -> list[str]:
    return [each.event for each in frames]


async def pages(state: Snapshot, selection: Selection) -> list[Frame]:
    """All pages, each of which but the last is full."""
    found: list[Frame] = []
    while True:
        frames, more = await select(state, selection)
        found += frames
        if not more:
            return found
        assert len(frames) == selection.limit
        last = frames[-1]
        if selection.newest_first:
            selection = replace(selection, before=last.position)
        else:
            selection = replace(selection, after=last.event)


@given(INSERTS, INSERTS, SELECTIONS, st.integers(1, 5))
@settings(max_examples=300)
def test_a_list_has_the_latest_of_each_selected_event_that_is_not_removed(
    before: list[tuple[str, bool]], after: list[tuple[str, bool]], selection: Selection, examined: int
) -> None:
    """Whether the records were there at the start or came later, and however much is examined at a time."""
    frames = [frame(n, event, removal=removal) for n, (event, removal) in enumerate(before + after, 1)]
    at_start = {each.event: each for each in frames[: len(before)]}
    state = Snapshot(sorted(at_start.values(), key=lambda each: each.position), removals_max=2)
    for each in frames[len(before) :]:
        state.put(each)
        state.names()
    latest = {each.event: each for each in frames if not each.removal}
    for each in frames:
        if each.removal and each.event in latest and latest[each.event].position < each.position:
            del latest[each.event]
    folded = selection.search.casefold()
    wanted = [each for each in latest.values() if selection.filter.matches(each.event) and folded in each.event.lower()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "_EXAMINED_MAX", examined)
        by_name = asyncio.run(pages(state, selection))
        newest = asyncio.run(pages(state, replace(selection, newest_first=True)))
    assert names(by_name) == sorted(names(wanted))
    assert newest == sorted(wanted, key=lambda each: -each.position)


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [None, 2_500])
async def test_a_list_is_of_one_moment_although_records_are_published_meanwhile(
    newest_first: bool, limit: int | None
) -> None:
    state = Snapshot([frame(n, f"e/{n:05}") for n in range(1, 5_001)])
    listed = asyncio.ensure_future(select(state, Selection(newest_first=newest_first, limit=limit)))
    turns = 0
    while not listed.done():
        await asyncio.sleep(0)
        turns += 1
        position = 5_000 + 2 * turns
        state.put(frame(position - 1, f"e/{turns:05}", removal=True))
        state.put(frame(position, f"new/{turns}"))
    frames, more = listed.result()
    assert turns > 1
    positions = list(range(1, 5_001))
    expected = (positions[::-1] if newest_first else positions)[:limit]
    assert [each.position for each in frames] == expected
    assert more == (limit is not None)


def test_names_are_in_order_however_many_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_UNSORTED_MAX", 3)
    state = Snapshot([frame(1, "m")])
    first = state.names()
    for position, name in enumerate("zyxab", 2):
        state.put(frame(position, name))
    assert state.names() == sorted("mzyxab")
    assert first == ["m"]  # who reads a list still has it


def test_a_frame_is_the_record_again() -> None:
    record = Record(
        make_uuid(1),
        "e",
        b'{"a":1}',
        "ada",
        "1e3",
        10**9,
        False,
        7,
        False,
        3,
        8,
        0,
        "0000000e",
        "2e3",
        None,
        make_uuid(2),
    )
    assert make_frame(record, b"0000000e-").record() == record
