"""JSON Schemas that are inferred from data."""

from __future__ import annotations

import json
import time
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.schema import DIALECT, infer, is_data

UUIDS = ("01890a5d-ac96-774b-bcce-b302099a8057", "01890A5E-1B44-7C1F-9D3E-5A2F60C4E8B1")
STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}


def schema_of(*samples: object) -> dict[str, Any]:
    """The schema of values, or of the bytes of JSON, the newest first."""
    texts = (each if isinstance(each, bytes) else json.dumps(each).encode() for each in samples)
    return infer(texts, lambda: False)


def record(**fields: object) -> dict[str, Any]:
    """The schema of an object with these fields, all of which are required."""
    return {"type": "object", "properties": fields, "required": sorted(fields)}


def array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def map_of(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


@pytest.mark.parametrize(
    ("samples", "schema"),
    [
        (["text"], STRING),
        ([True], {"type": "boolean"}),
        ([7], INTEGER),
        ([b"-0"], INTEGER),
        ([7, 1.5], NUMBER),
        ([b"1E5"], NUMBER),
        ([7, "text"], {"type": ["integer", "string"]}),
        ([{}], {"type": "object"}),
        ([[]], {"type": "array"}),
        ([[], {}], {"anyOf": [{"type": "array"}, {"type": "object"}]}),
        ([[], ["text"]], array(STRING)),
        ([["text", 1, 2, "more"]], array({"type": ["integer", "string"]})),
        ([{"a": {"b": [{"c": "text"}]}}], record(a=record(b=array(record(c=STRING))))),
        ([{"b": 1, "a": 2}], {"type": "object", "properties": {"a": INTEGER, "b": INTEGER}, "required": ["a", "b"]}),
        (["text", {"a": 1}, [1]], {"anyOf": [STRING, array(INTEGER), record(a=INTEGER)]}),
    ],
)
def test_a_schema_names_the_types_that_are_there(samples: list[object], schema: dict[str, Any]) -> None:
    assert schema_of(*samples) == schema
    assert schema_of(*reversed(samples)) == schema


def test_a_field_that_one_sample_lacks_is_optional() -> None:
    fields = {"a": INTEGER, "b": STRING, "c": NUMBER}
    assert schema_of({"a": 1, "b": "x"}, {"a": 2, "c": 0.5}) == {
        "type": "object", "properties": fields, "required": ["a"],
    }  # fmt: skip
    assert schema_of([{"a": 1}, {}]) == array({"type": "object", "properties": {"a": INTEGER}})


def test_null_says_nothing_until_there_is_another_type() -> None:
    assert schema_of(b"null") == {}
    assert schema_of({"a": None}) == record(a={})
    assert schema_of([None]) == {"type": "array"}
    assert schema_of({"a": None}, {"a": "text"}) == record(a={"type": ["null", "string"]})
    assert schema_of([None, {"a": 1}]) == array({"anyOf": [{"type": "null"}, record(a=INTEGER)]})


# Maps


@pytest.mark.parametrize(
    "text",
    [*UUIDS, "0", "-7", "2.50", "2024-01", "2024-01-31", "2024-01-31T09:30:00.5Z", "01HZX3V9T2Q8W6R4N0M1K5J7YB",
     "5f2b8c1d9e7a3b4c5d6e7f80", "cjld2cjxh0000qzrmn831i7rn", "d41d8cd98f00b204e9800998ecf8427e"],
)  # fmt: skip
def test_ids_numbers_and_times_are_data(text: str) -> None:
    assert is_data(text)


@pytest.mark.parametrize(
    "text",
    ["", "total", "first_name", "v2", "1st", "deadbeefcafe", "addressLine1Secondary", "a-b-c-d-e", "2024/01", "7\n"],
)
def test_words_are_not_data(text: str) -> None:
    assert not is_data(text)


@pytest.mark.parametrize("keys", [UUIDS, ["7"], ["7", "-1.5"], ["2024-01-31", "2024-02-01"]])
def test_an_object_whose_keys_are_data_is_a_map(keys: list[str]) -> None:
    data = {key: {"n": 1} if key == keys[0] else {"n": None, "m": "x"} for key in keys}
    fields: dict[str, Any] = {"n": INTEGER}
    if len(keys) > 1:
        fields = {"m": STRING, "n": {"type": ["integer", "null"]}}
    values = {"type": "object", "properties": fields, "required": ["n"]}
    assert schema_of(data) == map_of(values)
    assert schema_of({"below": [data]}) == record(below=array(map_of(values)))


def test_a_map_takes_in_what_other_samples_have_in_its_place() -> None:
    """Also a key that is a field in one sample, and a part of the map in another one."""
    union = {"type": ["integer", "string"]}
    assert schema_of({"7": "x"}, {}) == map_of(STRING)
    assert schema_of({"7": "x"}, {"7": 1, "total": 2}) == map_of(union)
    assert schema_of({"7": None}, {"total": "x"}) == map_of({"type": ["null", "string"]})


def test_more_than_50_keys_with_values_of_one_kind_are_a_map() -> None:
    def words(count: int) -> dict[str, object]:
        return {f"word{chr(97 + n // 26)}{chr(97 + n % 26)}": {"n": n} if n else None for n in range(count)}

    assert schema_of(words(51)) == map_of({"anyOf": [{"type": "null"}, record(n=INTEGER)]})
    assert "properties" in schema_of(words(50))
    assert "properties" in schema_of(words(51) | {"other": "text"})
    # They may also be spread over several objects.
    assert schema_of([{word: 1} for word in words(51)]) == array(map_of(INTEGER))


def test_an_object_with_too_many_or_too_long_keys_is_a_map() -> None:
    many = {f"word {n}": n if n % 2 else "text" for n in range(501)}
    assert schema_of(many) == map_of({"type": ["integer", "string"]})
    assert schema_of({"k" * 201: 1}) == map_of(INTEGER)


# What is hostile


@pytest.mark.parametrize("number", [b"9" * 30, b"9" * 5_000, b"-" + b"9" * 5_000, b"0." + b"9" * 5_000, b"1e400"])
def test_a_number_may_have_any_number_of_digits(number: bytes) -> None:
    assert schema_of(number) == (INTEGER if number.removeprefix(b"-").isdigit() else NUMBER)


def test_keys_are_compared_as_they_are_read_and_may_be_anything() -> None:
    assert schema_of(rb'{"a\u0062":"x","ab":1}') == record(ab=INTEGER)  # the last one counts, as in JavaScript
    assert schema_of('{"é":1}'.encode(), rb'{"\u00e9":1}') == record(é=INTEGER)
    for key in ("", "*", "?", ".", "__proto__", "constructor", 'a"b\\c', "\ud800", "\u2028", "{", "]", ",", ":"):
        assert schema_of({key: [{key: 1}]}) == record(**{key: array(record(**{key: INTEGER}))})
        assert schema_of({"a": key}) == record(a=STRING)


@pytest.mark.parametrize("nested", [b"[" * 256 + b"1" + b"]" * 256, b'{"a":' * 256 + b"1" + b"}" * 256])
def test_what_is_nested_deeper_than_32_levels_is_unknown(nested: bytes) -> None:
    schema, depth = schema_of(nested), 0
    while schema:
        schema, depth = schema.get("items") or schema.get("properties", {}).get("a", {}), depth + 1
    assert depth == 32
    # What follows it is read correctly.
    assert schema_of(b'{"deep":%b,"then":1}' % nested)["properties"]["then"] == INTEGER


MEGABYTE = 1_000_000
LARGE = {
    "empty arrays": b"[" + b"[]," * 340_000 + b"[]]",
    "numbers": b"[" + b"1," * 500_000 + b"1]",
    "a string": b'"' + b"\\u00e9" * 160_000 + b'"',
    "a key": b'{"' + b"k" * MEGABYTE + b'":1}',
    "objects": json.dumps([{"id": n, "name": f"No. {n}", "tags": [], "price": 1.5} for n in range(17_000)]).encode(),
    "different objects": json.dumps([{f"k{n}": n} for n in range(70_000)]).encode(),
    "many fields": json.dumps({f"k{n}": [n, "x", []][n % 3] for n in range(70_000)}).encode(),
    "deep and wide": b'{"a":' * 30 + json.dumps([{f"k{n}": [n]} for n in range(55_000)]).encode() + b"}" * 30,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", LARGE)
def test_a_megabyte_has_a_small_schema_and_other_threads_have_their_turns(kind: str) -> None:
    """The longest time between two turns is printed; it is up to 20 ms where one token has the whole megabyte."""
    gaps, last = [0.0], time.thread_time()

    def turn() -> bool:
        nonlocal last
        now = time.thread_time()
        gaps.append(now - last)
        last = now
        return False

    began = time.thread_time()
    schema = infer([LARGE[kind]], turn)
    print(f"{kind}: {time.thread_time() - began:.2f} s, the longest turn {1_000 * max(gaps):.1f} ms")
    assert len(json.dumps(schema)) < 5_000
    assert max(gaps) < 0.2
    assert jsonschema_rs.Draft202012Validator(schema).is_valid(json.loads(LARGE[kind]))


def test_20_samples_that_differ_have_a_schema_of_bounded_size() -> None:
    samples = [{f"k{n}": {f"{sample}-{m}": m for m in range(40)} for n in range(400)} for sample in range(20)]
    assert len(json.dumps(schema_of(*samples))) < 1_000_000


def test_of_large_samples_only_the_first_count() -> None:
    assert schema_of(LARGE["a string"], 1, True) == {"type": ["boolean", "integer", "string"]}
    assert schema_of(LARGE["a string"], LARGE["numbers"], True) == {"anyOf": [STRING, array(INTEGER)]}


def test_what_is_not_examined_in_time_is_unknown() -> None:
    assert infer([b'{"a":1}'], lambda: True) == {}
    turns = iter([False] * 3 + [True] * 1_000)
    assert infer([b"1", b"[" + b'"x",' * 100 + b'"x"]'], lambda: next(turns)) == {}


# Whatever the data is

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
_keys = st.sampled_from(["a", "b", "7", "*", "?", "", *UUIDS]) | _text
_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=5),
    max_leaves=30,
)


@given(st.lists(_json, min_size=1, max_size=5))
def test_every_sample_is_valid_under_the_schema_and_the_schema_is_valid(samples: list[object]) -> None:
    schema = schema_of(*samples)
    jsonschema_rs.meta.validate({"$schema": DIALECT} | schema)
    validator = jsonschema_rs.Draft202012Validator({"$schema": DIALECT} | schema)
    for sample in samples:
        assert validator.is_valid(sample), validator.evaluate(sample)


@given(st.lists(_json, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_samples_and_keys_does_not_matter(samples: list[object], random: Any) -> None:
    def shuffled(value: object) -> object:
        if isinstance(value, dict):
            return {key: shuffled(value[key]) for key in random.sample(list(value), len(value))}
        return [shuffled(each) for each in random.sample(value, len(value))] if isinstance(value, list) else value

    others = shuffled(samples)
    assert isinstance(others, list)
    assert json.dumps(schema_of(*others)) == json.dumps(schema_of(*samples))
