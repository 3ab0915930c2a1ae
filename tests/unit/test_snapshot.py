"""The walk over the latest of every event, against the plain way to find it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import Broker, Settings
from broker.live.frames import Form, Frame
from broker.live.snapshot import Snapshot
from broker.names import EVERYTHING, Filter
from broker.records import NewRecord, make_uuid
from broker.users import OPERATOR
from broker.web.app import App
from tests.support.asgi import AsgiStream
from tests.support.frames import frame_of
from tests.support.servers import BOUND_S

pytestmark = pytest.mark.anyio

EVENTS = st.lists(st.sampled_from(["a", "ab", "b", "c/1", "c/2"]), max_size=60)
FILTERS = st.sampled_from([[], ["a"], ["a*"], ["c/*", "b"], ["none"], ["a", "c/2"]])


def walk(snapshot: Snapshot, filter: Filter, after: int, upto: int, form: Form = Form.NAMED) -> bytes:
    frames: list[bytes] = []
    while after < upto:
        some, after = snapshot.walk(filter, after, upto, form)
        frames += some
    return b"".join(frames)


def walk_by_pages(snapshot: Snapshot, upto: int, form: Form = Form.NAMED) -> bytes:
    """As a new connection does."""
    after, parts = 0, []
    while page := snapshot.page(after, upto, form):
        chunk, after = page
        if not chunk:  # all on it is superseded
            continue
        assert not chunk.startswith(b"0"), "the last chunk of a response"
        length, _, rest = chunk.partition(b"\r\n")
        assert len(rest) == int(length, 16) + 2
        parts.append(rest[:-2])
    return b"".join(parts) + walk(snapshot, EVERYTHING, after, upto, form)


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


class Model:
    """The state by the rules of removal, kept in the plainest way."""

    def __init__(self) -> None:
        self.state: dict[str, int] = {}  # the position of each event's latest record
        self.removed: dict[str, int] = {}  # the position at which each event without state was removed

    def put(self, position: int, event: str, removal: bool) -> None:
        if not removal:
            self.removed.pop(event, None)
            self.state[event] = position
        elif event in self.state:
            del self.state[event]
            self.removed[event] = position

    def first_walk(self, filter: Filter, upto: int) -> list[int]:
        return sorted(at for event, at in self.state.items() if at <= upto and filter.matches(event))

    def later_walk(self, filter: Filter, after: int) -> list[int]:
        """Also of removals that may have been dropped."""
        both = [*self.state.items(), *self.removed.items()]
        return sorted(at for event, at in both if at > after and filter.matches(event))


STEPS = st.lists(st.tuples(st.sampled_from(["a", "ab", "b", "c/1", "c/2", "$x"]), st.booleans()), max_size=60)


def positions(snapshot: Snapshot, filter: Filter, after: int, upto: int, *, removals: bool) -> list[int]:
    found: list[int] = []
    while after < upto:
        frames, after = snapshot.walk(filter, after, upto, removals=removals)
        found += [int(frame.partition(b"\n")[0].rpartition(b"-")[2]) for frame in frames]
    return found


def frames_of(steps: list[tuple[str, bool]]) -> list[Frame]:
    return [
        frame_of(position, event, b"null" if removal else b"%d" % position)
        for position, (event, removal) in enumerate(steps, 1)
    ]


@given(STEPS, FILTERS, st.integers(0, 60), st.sampled_from([0, 1, 3, 1000]), st.sampled_from([1, 120, 10_000]))
def test_a_first_walk_omits_removals_and_a_later_one_has_all_above_the_floor(
    steps: list[tuple[str, bool]], patterns: list[str], after: int, removals_max: int, page_bytes: int
) -> None:
    filter, model, frames = Filter.parse(patterns, 10), Model(), frames_of(steps)
    snapshot = Snapshot(removals_max=removals_max, page_bytes=page_bytes)
    upto = len(frames)
    for frame in frames:
        snapshot.put(frame)
        if not frame.reserved:
            model.put(frame.position, frame.event, frame.removal)
    assert positions(snapshot, filter, 0, upto, removals=False) == model.first_walk(filter, upto)
    walked = positions(snapshot, filter, after, upto, removals=True)
    expected = model.later_walk(filter, after)
    dropped = sorted(set(expected) - set(walked))
    assert [at for at in expected if at in walked] == walked, "in order, and nothing else"
    assert set(dropped) <= set(model.removed.values()), "only removals are dropped"
    assert all(at <= snapshot.removals_floor for at in dropped)
    kept = positions(snapshot, EVERYTHING, 0, upto, removals=True)
    assert len(kept) - len(model.state) <= removals_max + removals_max // 10
    if len(model.removed) <= removals_max and removals_max == 1000:
        assert snapshot.removals_floor == 0


@given(STEPS, FILTERS, st.integers(0, 60), st.integers(0, 60))
def test_a_snapshot_from_the_stores_state_is_the_one_that_grew(
    steps: list[tuple[str, bool]], patterns: list[str], after: int, restarted_at: int
) -> None:
    """After a restart, records and removals are known as before; both go on in the same way."""
    filter, frames = Filter.parse(patterns, 10), frames_of(steps)
    grown, latest = Snapshot(), dict[str, Frame]()
    for frame in frames[:restarted_at]:
        grown.put(frame)
        known = latest.get(frame.event)
        if not frame.removal or (known is not None and not known.removal):  # as the store does, of reserved ones too
            latest[frame.event] = frame
    restarted = Snapshot(sorted(latest.values(), key=lambda frame: frame.position))
    for frame in frames[restarted_at:]:
        grown.put(frame)
        restarted.put(frame)
    for removals in (False, True):
        for begin in (0, after):
            assert positions(restarted, filter, begin, len(frames), removals=removals) == positions(
                grown, filter, begin, len(frames), removals=removals
            )
    assert restarted.removals_floor == grown.removals_floor == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), max_size=80), st.sampled_from([0, 300, 10_000]))
def test_pages_of_every_form_have_no_removals_and_are_never_out_of_date(
    steps: list[tuple[int, int]], other_forms_bytes_max: int
) -> None:
    snapshot = Snapshot(page_bytes=400, other_forms_bytes_max=other_forms_bytes_max)
    model = Model()
    latest: dict[int, Frame] = {}
    for position, (event, step) in enumerate(steps, 1):
        frame = frame_of(position, f"e{event}", b"null" if step == 1 else b"1")
        snapshot.put(frame)
        model.put(position, frame.event, frame.removal)
        latest[position] = frame
        if step == 2:
            for form in Form:
                expected = b"".join(latest[at].form(form) for at in model.first_walk(EVERYTHING, position))
                assert walk_by_pages(snapshot, position, form) == expected


def test_a_removal_of_what_has_no_state_changes_nothing() -> None:
    snapshot = Snapshot()
    for frame in frames_of([("a", False), ("b", True), ("a", True), ("a", True), ("c", False)]):
        snapshot.put(frame)
    assert positions(snapshot, EVERYTHING, 0, 5, removals=True) == [3, 5]
    assert positions(snapshot, EVERYTHING, 0, 5, removals=False) == [5]


def test_the_floor_is_the_position_of_the_last_removal_that_was_dropped() -> None:
    snapshot = Snapshot(removals_max=10)
    for n in range(1, 21):
        snapshot.put(frame_of(n, f"e{n}"))
    for n in range(21, 32):
        snapshot.put(frame_of(n, f"e{n - 20}", b"null"))
    assert snapshot.removals_floor == 0  # a tenth more is kept
    snapshot.put(frame_of(32, "e3"))  # it has a state again, so it is no removal any more
    snapshot.put(frame_of(33, "e12", b"null"))
    assert snapshot.removals_floor == 0
    snapshot.put(frame_of(34, "e13", b"null"))
    assert snapshot.removals_floor == 22  # e1 and e2, removed at 21 and 22
    assert positions(snapshot, EVERYTHING, 20, 34, removals=True) == [*range(24, 35)]
    snapshot.put(frame_of(35, "e1", b"null"))  # dropped, so without a state
    assert positions(snapshot, EVERYTHING, 34, 35, removals=True) == []


def test_a_floor_from_the_store_is_kept() -> None:
    assert Snapshot([frame_of(9, data=b"null")], removals_floor=5).removals_floor == 5


def test_the_chunks_of_record_frames_have_a_limit_and_those_that_are_dropped_give_it_back() -> None:
    size = len(frame_of(10, "e10").form(Form.RECORD))
    chunk = len(b"%x\r\n" % (2 * size)) + 2 * size + 2
    snapshot = Snapshot(page_bytes=2 * size, other_forms_bytes_max=2 * chunk)
    for position in range(10, 20):
        snapshot.put(frame_of(position, f"e{position}"))

    def shared(form: Form) -> list[int]:
        """The pages of which two subscribers get the same chunk."""
        found, after = [], 0
        while page := snapshot.page(after, 19, form):
            again = snapshot.page(after, 19, form)
            assert again == page
            if again is not None and again[0] is page[0]:
                found.append(page[1])
            after = page[1]
        assert after >= 17  # the last page is not full yet
        return found

    assert shared(Form.RECORD) == [11, 13]
    assert shared(Form.RECORD_WITH_USER) == []
    snapshot.put(frame_of(20, "e12"))  # on the second page
    assert snapshot._other_forms_bytes == chunk
    assert shared(Form.RECORD) == [11, 13]  # the second one is smaller now, but there is no room for another
    snapshot.put(frame_of(21, "e10"))
    snapshot.put(frame_of(22, "e11"))
    assert shared(Form.RECORD) == [11, 13, 15]  # the first one is empty now, so there is room for another


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
    await broker.insert([NewRecord(make_uuid(n), f"e{event}", json.dumps([n, padding]).encode(), "ada")], OPERATOR)
