"""The newest frames in memory, against a plain list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.live.frames import Frame
from broker.live.recent_frames import RecentFrames
from broker.names import EVERYTHING, Filter
from tests.support.frames import frame_of


@given(
    st.lists(st.tuples(st.sampled_from(["a", "ab", "b"]), st.integers(1, 30)), max_size=60),
    st.sampled_from([[], ["a"], ["a*"], ["none"]]),
    st.sampled_from([1, 5, 100]),
    st.sampled_from([1, 40, 1000]),
    st.sampled_from([1, 20, 1000]),
)
def test_reads_give_every_matching_frame_from_wherever_it_holds(
    records: list[tuple[str, int]], patterns: list[str], records_max: int, bytes_max: int, read_max: int
) -> None:
    start = 7  # what was published before the process began is not here
    recent, filter = RecentFrames(start, records_max, bytes_max), Filter.parse(patterns, 10)
    frames = [frame_of(n, event, named=b"%d;" % n + b"x" * size) for n, (event, size) in enumerate(records)]
    for frame in frames:
        recent.put(frame)
    upto = start + len(frames)
    assert not recent.holds(start - 1)
    assert recent.holds(upto)
    for after in filter_held(recent, start, upto):
        got: list[Frame] = []
        reached = after
        while reached < upto:
            some, now = recent.read(filter, reached, upto, read_max)
            assert now > reached
            assert len(some) <= 1 or len(b"".join(frame.named for frame in some)) <= read_max
            got, reached = got + some, now
        assert got == [frame for frame in frames[after - start :] if filter.matches(frame.event)]


def filter_held(recent: RecentFrames, start: int, upto: int) -> list[int]:
    held = [after for after in range(start, upto + 1) if recent.holds(after)]
    assert held == list(range(held[0], upto + 1))  # without a hole, up to the newest
    return held


def test_it_holds_at_least_its_bounds_and_at_most_twice_that() -> None:
    recent = RecentFrames(0, records_max=100, bytes_max=10**9)
    for n in range(1, 1_001):
        recent.put(frame_of(n, named=b"x"))
        assert recent.holds(max(0, n - 100))
        assert not recent.holds(n - 201)
    small = RecentFrames(0, records_max=10**9, bytes_max=1_000)
    for n in range(1, 1_001):
        small.put(frame_of(n, named=b"x" * 10))
        assert small.holds(max(0, n - 100))
        assert not small.holds(n - 202)


def test_a_read_ends_where_it_is_told_to() -> None:
    recent = RecentFrames(0, 100, 1_000)
    for n in range(1, 6):
        recent.put(frame_of(n, named=b"%d" % n))
    frames, reached = recent.read(EVERYTHING, 1, 3, 1_000)
    assert ([frame.named for frame in frames], reached) == ([b"2", b"3"], 3)


def test_a_read_examines_no_more_records_than_it_may() -> None:
    recent = RecentFrames(0, 100, 1_000)
    for n in range(1, 6):
        recent.put(frame_of(n, "other" if n == 2 else "e"))
    frames, reached = recent.read(Filter.parse(["e"], 1), 1, 5, 1_000, records_max=2)
    assert ([frame.position for frame in frames], reached) == ([3], 3)
