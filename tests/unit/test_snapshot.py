"""The walk over the latest of every event, against the plain way to find it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import Broker, Settings
from broker.live.snapshot import Snapshot
from broker.names import EVERYTHING, Filter
from broker.records import NewRecord, make_uuid
from broker.web.app import App
from tests.support.asgi import AsgiStream
from tests.support.frames import frame_of
from tests.support.servers import BOUND_S

pytestmark = pytest.mark.anyio

EVENTS = st.lists(st.sampled_from(["a", "ab", "b", "c/1", "c/2"]), max_size=60)
FILTERS = st.sampled_from([[], ["a"], ["a*"], ["c/*", "b"], ["none"], ["a", "c/2"]])


def walk(snapshot: Snapshot, filter: Filter, after: int, upto: int) -> bytes:
    frames: list[bytes] = []
    while after < upto:
        some, after = snapshot.walk(filter, after, upto)
        frames += some
    return b"".join(frames)


def walk_by_pages(snapshot: Snapshot, upto: int) -> bytes:
    """As a new connection does."""
    after, parts = 0, []
    while page := snapshot.page(after, upto):
        chunk, after = page
        if not chunk:  # all on it is superseded
            continue
        assert not chunk.startswith(b"0"), "the last chunk of a response"
        length, _, rest = chunk.partition(b"\r\n")
        assert len(rest) == int(length, 16) + 2
        parts.append(rest[:-2])
    return b"".join(parts) + walk(snapshot, EVERYTHING, after, upto)


@given(EVENTS, FILTERS, st.integers(0, 60), st.sampled_from([1, 9, 1000]))
def test_a_walk_gives_the_latest_of_each_matching_event_in_order(
    events: list[str], patterns: list[str], after: int, page_bytes: int
) -> None:
    snapshot, filter = Snapshot(page_bytes=page_bytes), Filter.parse(patterns, 10)
    latest: dict[str, int] = {}
    for position, event in enumerate(events, 1):
        snapshot.put(frame_of(position, event, named=b"%d;" % position))
        latest[event] = position
    expected = sorted(at for event, at in latest.items() if at > after and filter.matches(event))
    assert walk(snapshot, filter, after, len(events)) == b"".join(b"%d;" % at for at in expected)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=80), st.sampled_from([1, 9, 20]))
def test_pages_that_walks_share_are_never_out_of_date(steps: list[tuple[int, bool]], page_bytes: int) -> None:
    snapshot = Snapshot(page_bytes=page_bytes)
    latest: dict[int, int] = {}
    for position, (event, walked) in enumerate(steps, 1):
        snapshot.put(frame_of(position, f"e{event}", named=b"%d;" % position))
        latest[event] = position
        if walked:
            assert walk_by_pages(snapshot, position) == b"".join(b"%d;" % at for at in sorted(latest.values()))


def test_new_connections_share_the_pages_that_did_not_change() -> None:
    snapshot = Snapshot(page_bytes=100)
    for position in range(1, 101):
        snapshot.put(frame_of(position, f"e{position}", named=b"x" * 10))
    first = [snapshot.page(after, 100) for after in range(0, 100, 10)]
    snapshot.put(frame_of(101, "e15", named=b"y"))
    again = [snapshot.page(after, 101) for after in range(0, 90, 10)]
    assert first[9] is None  # not full: more may come
    for number, (one, other) in enumerate(zip(first, again, strict=False)):
        assert one is not None
        assert other is not None
        assert (one[0] is other[0]) == (number != 1)
    assert again[1] == (b"5a\r\n" + b"x" * 90 + b"\r\n", 20)


def test_a_page_that_ends_behind_a_connections_snapshot_is_not_its_own() -> None:
    snapshot = Snapshot(page_bytes=100)
    for position in range(1, 31):
        snapshot.put(frame_of(position, f"e{position}", named=b"x" * 10))
    assert snapshot.page(0, 30) is not None
    assert snapshot.page(0, 9) is None
    assert walk_by_pages(snapshot, 9) == b"x" * 90


def test_a_walk_is_the_same_after_the_list_was_compacted() -> None:
    snapshot = Snapshot()
    for position in range(1, 10_001):
        snapshot.put(frame_of(position, f"e{position % 7}", named=b"%d;" % position))
    assert len(snapshot._order) < 1_100
    assert walk(snapshot, EVERYTHING, 0, 10_000) == b"".join(b"%d;" % at for at in range(9_994, 10_001))
    assert walk(snapshot, EVERYTHING, 9_998, 10_000) == b"9999;10000;"


def test_a_walk_looks_at_a_bounded_number_of_entries_at_a_time() -> None:
    snapshot = Snapshot()
    for position in range(1, 5_001):
        snapshot.put(frame_of(position, f"e{position}", named=b"x"))
    frames, reached = snapshot.walk(Filter.parse(["none*"], 1), 0, 5_000)
    assert (frames, reached) == ([], 2_000)


async def test_a_long_snapshot_during_updates_ends_with_every_events_latest_and_no_gap(tmp_path: Path) -> None:
    broker = Broker(Settings(data=tmp_path))
    async with broker.lifespan(), asyncio.timeout(BOUND_S):
        await asyncio.gather(*[insert(broker, n % 300, n, "x" * 2_000) for n in range(600)])
        begun = broker.relay.position
        streams = [AsgiStream(App(broker), query=query) for query in ("", "event=e1*")]
        for n in range(600, 700):
            await insert(broker, n % 300, n, "")
        for stream, last in zip(streams, (700, 620), strict=True):  # n = 619, of e19, is the filter's last
            while not stream.frames or stream.frames[-1].id != f"{broker.relay.epoch}-{last}":  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        everything, filtered = ([f for f in stream.frames if f.event[0] != "$"] for stream in streams)
        assert {frame.event: frame.json()[0] for frame in everything} == {f"e{n % 300}": n for n in range(400, 700)}
        assert [frame.position for frame in everything if frame.position > begun] == list(range(begun + 1, 701))
        assert {frame.event for frame in filtered} == {f"e{n}" for n in range(300) if str(n).startswith("1")}
        for stream in streams:
            await stream.leave()


async def insert(broker: Broker, event: int, n: int, padding: str) -> None:
    await broker.insert([NewRecord(make_uuid(n), f"e{event}", json.dumps([n, padding]).encode(), "ada")])
