"""The index of filters finds what a walk over all filters would find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.live.filter_index import FilterIndex
from broker.names import Filter

NAMES = ["a", "a/b", "a/bc", "a/b/c", "ab", "b", "b/a"]
_filters = st.lists(st.sampled_from(["*", *NAMES, *(f"{name}*" for name in NAMES)]), max_size=3).map(
    lambda patterns: Filter.parse(patterns, 9)
)


@given(st.lists(_filters, max_size=6), st.sets(st.integers(0, 5)), st.sampled_from(["", "a", "a/", "a/b", "a/b/", "c"]))
def test_it_finds_whatever_matches(filters: list[Filter], gone: set[int], begins: str) -> None:
    index: FilterIndex[int] = FilterIndex()
    for number, filter in enumerate(filters):
        index.add(filter, number)
    for number in gone & set(range(len(filters))):
        index.discard(filters[number], number)
    left = {number: filter for number, filter in enumerate(filters) if number not in gone}
    for name in NAMES:
        assert index.matching(name) == {number for number, filter in left.items() if filter.matches(name)}
    names = [name for name in NAMES if name.startswith(begins)]
    near = index.near([begins])
    assert near >= {number for number, filter in left.items() if any(filter.matches(name) for name in names)}
    assert near <= left.keys()


def test_what_has_another_beginning_is_not_near() -> None:
    index: FilterIndex[str] = FilterIndex()
    index.add(Filter.parse(["pub/1", "hall/bob/*"], 9), "one")
    index.add(Filter.parse(["hall/*"], 9), "other")
    assert index.near(["hall/eve/"]) == {"other"}


def test_nothing_is_left_of_what_is_discarded() -> None:
    index: FilterIndex[str] = FilterIndex()
    filter = Filter.parse(["a", "b*"], 9)
    index.add(filter, "one")
    index.discard(filter, "one")
    index.discard(filter, "one")
    assert (index._by_name, index._by_prefix) == ({}, {})
