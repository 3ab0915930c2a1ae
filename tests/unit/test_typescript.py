"""The text of the declarations. Whether the compiler accepts them is in tests/web/test_compiler.py."""

from __future__ import annotations

import json
import os
import random
import re
import time
import tracemalloc
from collections.abc import Callable, Mapping
from uuid import UUID

import pytest

from broker.typescript import declarations
from tests.support.frames import frame_of

NAMES = 100_000 if os.environ.get("BROKER_BIG") else 20_000
ORDER = b'{"id":7,"name":"Ada","tags":["a"],"address":{"zip":"1"}}'


def text_of(latest: Mapping[str, object], out_of_time: Callable[[], bool] = lambda: False) -> str:
    """The declarations for events with these data, the oldest first. Bytes are JSON."""
    data = {name: each if isinstance(each, bytes) else json.dumps(each).encode() for name, each in latest.items()}
    frames = {name: frame_of(position, name, each) for position, (name, each) in enumerate(data.items(), 1)}
    return declarations([frames[name] for name in sorted(frames)], out_of_time)


def members_of(latest: Mapping[str, object]) -> dict[str, str]:
    """The types by their keys, each on one line."""
    text = text_of(latest)
    assert re.fullmatch(r"(//.*\n)+interface BrokerEvents \{\n(.*\n)*\}\n", text)
    members = re.findall(
        r"^  (\[name: `[^\n]*?`\]|\"[^\n]*?\"): (.*?);$(?=\n  [\"\[]|\n\})", text, re.MULTILINE | re.DOTALL
    )
    return {key: re.sub(r"\n\s*", " ", union) for key, union in members}


def test_every_event_has_a_property_with_its_type() -> None:
    text = text_of({"user": {"first_name": "Rusty", "ages": [3, 3.5]}, "headline": "Hello"})
    assert text.endswith(
        """
interface BrokerEvents {
  "headline": string;
  "user": {
    "ages": number[];
    "first_name": string;
  };
}
"""
    )


def test_without_events_the_interface_is_empty() -> None:
    assert text_of({}).endswith("\ninterface BrokerEvents {\n}\n")


@pytest.mark.parametrize(
    ("data", "written"),
    [
        (1, "number"),
        (0.5, "number"),
        (b"9" * 30, "number"),
        (True, "boolean"),
        ("text", "string"),
        ([], "unknown[]"),
        ([None], "unknown[]"),
        (["text", None, 1], "(number | string | null)[]"),
        ([[1]], "number[][]"),
        ({}, "{ [key: string]: unknown }"),
        ({"7": {"a": None}}, '{ [key: string]: { "a": unknown; } }'),
        ([{"a": 1}, {"b": 1}], '{ "a"?: number; "b"?: number; }[]'),
        ([{}, 1], "(number | { [key: string]: unknown })[]"),
    ],
)
def test_the_type_of_data(data: object, written: str) -> None:
    assert members_of({"event": data}) == {'"event"': written}


# Patterns


def test_names_that_differ_in_data_become_a_pattern_whose_type_is_of_all_of_them() -> None:
    found = members_of({"orders/7": {"a": 1}, "orders/8": {"a": "x", "b": 1}, "user": 1})
    assert found == {"[name: `orders/${string}`]": '{ "a": number | string; "b"?: number; }', '"user"': "number"}


def test_names_that_differ_in_words_keep_their_types_and_a_pattern_is_for_further_ones() -> None:
    found = members_of({"todo/milk": {"done": True}, "todo/bread": None, "todo/total": 1})
    assert found == {
        "[name: `todo/${string}`]": "unknown",
        '"todo/bread"': "unknown",
        '"todo/milk"': '{ "done": boolean; }',
        '"todo/total"': "number",
    }
    assert members_of({"a/x/z": 1, "a/y/z": "x"})["[name: `a/${string}/z`]"] == "number | string"


def test_a_total_beside_one_order_or_many_keeps_its_type_and_is_a_part_of_the_family() -> None:
    for orders in ({"orders/7": "x"}, {"orders/7": "x", "orders/8": "x"}):
        found = members_of(orders | {"orders/total": 5})
        assert found["[name: `orders/${string}`]"] == "number | string"
        assert found['"orders/total"'] == "number"
        assert ('"orders/7"' in found) == (len(orders) == 1)


def test_a_pattern_also_has_the_types_of_names_with_more_segments() -> None:
    found = members_of({"a/7": 1, "a/8": 1, "a/7/b": "x", "a/8/b": "x", "a/c/d/e": True})
    assert found["[name: `a/${string}`]"] == "boolean | number | string"
    assert found["[name: `a/${string}/b`]"] == "string"


def test_a_pattern_has_the_types_of_names_that_another_pattern_replaced() -> None:
    found = members_of({"a/7": 1, "a/8": 1, "b/7": "x", "c/7": "x"})
    assert found["[name: `a/${string}`]"] == "number"
    assert found["[name: `${string}/7`]"] == "number | string"


def test_more_than_50_words_in_one_place_are_data() -> None:
    words = [f"{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(51)]
    assert members_of({f"user/{word}": n for n, word in enumerate(words)}) == {"[name: `user/${string}`]": "number"}
    assert len(members_of({f"user/{word}": 1 for word in words[:50]})) == 51
    assert members_of({f"{word}/profile": 1 for word in words}) == {"[name: `${string}/profile`]": "number"}


def test_no_pattern_matches_every_name() -> None:
    assert members_of({"a": 1, "b": 2}) == {'"a"': "number", '"b"': "number"}
    assert members_of({"7": 1, "8": 2}) == {'"7"': "number", '"8"': "number"}
    text = text_of({"1/7": 1, "1/8": 2, "2/7": 1, "a": 3})
    assert "[name" not in text
    assert '  "a": number;\n  // 3 more names are left out.\n}' in text


def test_a_pattern_is_inferred_from_the_newest_20() -> None:
    orders: dict[str, object] = {f"orders/{n}": "old" for n in range(100, 120)}
    orders |= {f"orders/{n}": n for n in range(20)}
    assert members_of(orders) == {"[name: `orders/${string}`]": "number"}
    assert members_of(orders | {"orders/120": "new"}) == {"[name: `orders/${string}`]": "number | string"}


def test_large_records_do_not_take_the_time_that_the_others_need() -> None:
    large = b"[" + b"1," * 10_000 + b"1]"
    events = {"a": large, "b": 1, "c/1": "x", "c/2": "y"}
    turns = iter(range(100))  # some more than the small ones need
    text = text_of(events, lambda: next(turns, None) is None)
    assert '"a": unknown;' in text
    assert '"b": number;' in text
    assert "[name: `c/${string}`]: string;" in text


def test_a_union_of_more_than_16_types_is_unknown() -> None:
    kinds = {f"k/{chr(97 + n)}": {chr(97 + n): 1} for n in range(17)}
    assert members_of(kinds)["[name: `k/${string}`]"] == "unknown"
    del kinds["k/a"]
    assert members_of(kinds)["[name: `k/${string}`]"].count(" | ") == 15


# Text


def test_names_and_keys_are_escaped() -> None:
    nasty = "`${x}\\\"'*/\u2028\u202e\ud800\U000e0001é😀"
    name = "`${x}\\\"'\u2028\u202e\U000e0001é😀$"
    found = members_of({f"{name}/a": {nasty: 1}, f"{name}/b": 1})
    assert list(found) == [
        r"[name: `\`\${x}\\\"'\u2028\u202e\udb40\udc01é😀$/${string}`]".replace(r"\\\"", r"\\" + '"'),
        r'''"`${x}\\\"'\u2028\u202e\udb40\udc01é😀$/a"''',
        r'''"`${x}\\\"'\u2028\u202e\udb40\udc01é😀$/b"''',
    ]
    assert r"""{ "`${x}\\\"'*/\u2028\u202e\ud800\udb40\udc01é😀": number; }""" in found.values()


def test_nothing_of_the_data_is_in_a_comment() -> None:
    text = text_of({f"event-{n:05}": {"key-x": "value-x"} for n in range(2_001)} | {"*/": 1})
    comments = [line for line in text.splitlines() if line.lstrip().startswith("//")]
    assert comments[-1] == "  // 2 more names are left out."
    assert not re.search("event-|key-|value-", "".join(comments))


def test_the_order_of_inserts_does_not_matter() -> None:
    events = {f"{a}/{b}": {"n": n, "s": "x"} for n, (a, b) in enumerate((a, b) for a in "abc7" for b in "xy12")}
    names = list(events)
    expected = text_of(events)
    for _ in range(5):
        random.shuffle(names)
        assert text_of({name: events[name] for name in names}) == expected


# Bounds


def word(number: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(number))


_uuids = random.Random(1)
KINDS: dict[str, Callable[[int], str]] = {
    "uuids of one family": lambda n: f"orders/{UUID(int=_uuids.getrandbits(128))}",
    "words alone": word,
    "words in three places": lambda n: f"{word(n % 46)}/{word(n // 46 % 46)}/{word(n // 2_116)}",
    "slashes": lambda n: "/" * (n % 200) + word(n),
    "wildcards everywhere": lambda n: f"{word(n % 45)}/{n}/{word(n // 45 % 45)}/{n % 97}/x",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_names_of_any_kind_are_within_the_bounds(kind: str) -> None:
    frames = [frame_of(n + 1, KINDS[kind](n), ORDER) for n in range(NAMES)]
    frames.sort(key=lambda frame: frame.event)
    gaps, last = [0.0], time.thread_time()

    def turn() -> bool:
        nonlocal last
        now = time.thread_time()
        gaps.append(now - last)
        last = now
        return False

    began = time.thread_time()
    text = declarations(frames, turn)
    took = time.thread_time() - began
    patterns = text.count("  [name: ")
    left_out = int(found[1]) if (found := re.search(r"// (\d+) more", text)) else 0
    print(
        f"{kind}: {took:.2f} s, the longest turn {1_000 * max(gaps):.1f} ms, {len(text):,} characters, {patterns} "
        f"patterns, {left_out:,} names left out"
    )
    assert len(text) < 1_001_000
    assert patterns <= 500
    assert text.count('\n  "') <= 2_000


@pytest.mark.slow
def test_the_text_has_at_most_a_million_characters() -> None:
    fields = {f"field number {n}": [{"a": "text"}, n][n % 2] for n in range(150)}
    text = text_of({f"{word(n)}": fields for n in range(250)})
    assert 950_000 < len(text) < 1_000_200
    assert re.search(r"\n  // \d\d more names are left out.\n\}\n$", text)


def test_a_type_of_more_than_16_kib_is_unknown() -> None:
    fields = {f"field number {n}": [{"a": "text"}, n][n % 2] for n in range(450)}
    assert members_of({"event": fields, "other": 1}) == {'"event"': "unknown", '"other"': "number"}


@pytest.mark.slow
def test_the_memory_does_not_depend_on_how_large_the_data_is() -> None:
    large = b"[" + b"[]," * 60_000 + b"[]]"  # 5 MB as Python objects
    frames = [frame_of(n, f"a/{n}", large) for n in range(1, 3)]
    tracemalloc.start()
    try:
        assert "unknown[][]" in declarations(frames, lambda: False)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("turns", [0, 1, 10, 50, 100, 150, 200, 250, 300, 400])
def test_what_is_not_inferred_in_time_is_unknown_or_left_out(turns: int) -> None:
    left = iter(range(turns))
    events = {f"{a}/{b}": {"n": 1} for a in "abc7" for b in "xy12"}
    text = text_of(events, lambda: next(left, None) is None)
    missing = int(found[1]) if (found := re.search(r"// (\d+) more", text)) else 0
    assert text.count("unknown") + text.count('"n"') + missing >= len(events) / 4
