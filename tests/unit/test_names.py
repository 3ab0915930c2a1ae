from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadRequest
from broker.names import EVERYTHING, NAME_BYTES_MAX, Filter, check_name
from tests.support.samples import BAD_NAMES


@pytest.mark.parametrize(("name", "sentence"), BAD_NAMES.items(), ids=ascii)
def test_a_bad_name_is_refused_and_told_why(name: str, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence) as refusal:
        check_name(name)
    assert refusal.value.detail.startswith("event: ")


@pytest.mark.parametrize(
    "name",
    ["a", "orders/42", "x" * 255, "é" * 127, "a$", "errors", "Error", "...", "a.b/c..d", "/", "名", " ", "%"],
)
def test_a_good_name_is_returned_as_it_is(name: str) -> None:
    assert check_name(name) == name


@given(st.text())
def test_what_passes_fits_into_one_line_of_a_stream(name: str) -> None:
    try:
        encoded = check_name(name).encode()
    except BadRequest:
        return
    assert 1 <= len(encoded) <= NAME_BYTES_MAX
    assert not any(byte < 32 or byte == 127 for byte in encoded)


def test_no_pattern_asks_for_every_event() -> None:
    assert Filter.parse([], 1) == EVERYTHING
    assert EVERYTHING.everything
    assert EVERYTHING.matches("anything")


def test_a_filter_matches_names_and_prefixes() -> None:
    asked = Filter.parse(["user", "orders/*"], 2)
    assert not asked.everything
    assert [name for name in ("user", "users", "orders/", "orders/42", "orders") if asked.matches(name)] == [
        "user",
        "orders/",
        "orders/42",
    ]


def test_a_lone_star_is_every_event_whatever_stands_beside_it() -> None:
    assert Filter.parse(["user", "*"], 2) is EVERYTHING


@pytest.mark.parametrize("pattern", ["", "a*b", "**", "$*", "a\n*", "error", "../*", "\x00"])
def test_a_pattern_that_could_match_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(BadRequest, match="event: "):
        Filter.parse([pattern], 10)


@pytest.mark.parametrize("prefix", ["o", "err", "error", "open", "a/.", "x" * 254])
def test_a_prefix_of_a_good_name_is_a_good_pattern(prefix: str) -> None:
    assert Filter.parse([prefix + "*"], 1).matches(prefix + "x")


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(BadRequest, match="3 filters on one stream; at most 2"):
        Filter.parse(["a", "b", "c"], 2)
