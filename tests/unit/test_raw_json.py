from __future__ import annotations

import json
import re
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import raw_json
from broker.errors import BadRequest


class Body(msgspec.Struct, forbid_unknown_fields=True):
    event: str
    data: msgspec.Raw
    count: int = 0


_decoder = msgspec.json.Decoder(Body)


def decoded(body: bytes) -> bytes:
    """What is stored of ``data``."""
    value, compact = raw_json.decode(_decoder, body)
    return compact(bytes(value.data))


def with_data(data: bytes) -> bytes:
    return b'{"event":"a","data":%b}' % data


def refusal(body: bytes) -> str:
    with pytest.raises(BadRequest) as error:
        decoded(body)
    return error.value.detail


@pytest.mark.parametrize(
    "data",
    [
        b"1e400", b"-0", b"-0.0", b"1E+5", b"0.10", b"123456789012345678901234567890",
        b'{"b":1,"a":2,"b":3}',
        rb'"\/\u0041\u00e9\n\"\\"', rb'"\u2028"', "\"\u2028\u2029\x85 é 🦀\"".encode(), b'"\x7f"',
        rb'"\ud800"', rb'"\uDBFF\ud800\udc00\uDFFF"', rb'{"\ud800":"\\ud800"}', rb'"\\\udc00\ud83d\ude00"',
        b"null", b"true", b'""', b"[]", b"{}",
    ],
)  # fmt: skip
def test_data_is_kept_byte_for_byte(data: bytes) -> None:
    assert decoded(with_data(data)) == data


def test_white_space_is_taken_out_but_never_from_a_string() -> None:
    data = b' \t{\r\n "a b" :\n[ 1 ,\t" \\n  x " ] }  '
    assert decoded(with_data(data)) == b'{"a b":[1," \\n  x "]}'


@pytest.mark.parametrize("blank", [b" ", b"\t", b"\n", b"\r"])
def test_each_kind_of_white_space_is_taken_out(blank: bytes) -> None:
    assert decoded(with_data(b"[1,%b2]" % blank)) == b"[1,2]"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(_json, st.booleans(), st.integers(0, 3))
def test_any_json_is_kept_in_its_compact_form(value: Any, escaped: bool, indent: int) -> None:
    sent = json.dumps(value, ensure_ascii=escaped, indent=indent).encode(errors="surrogatepass")
    compact = json.dumps(value, ensure_ascii=escaped, separators=(",", ":")).encode()
    assert decoded(with_data(sent)) == compact
    assert b"\n" not in compact


@given(st.text(st.sampled_from('\\"u dD8c0/n\ud83d\ude00'), max_size=40))
def test_any_mixture_of_escapes_and_halves_is_kept(text: str) -> None:
    data = json.dumps(text).encode()
    assert decoded(with_data(data)) == data


@pytest.mark.parametrize(
    "data",
    [
        b"", b"NaN", b"Infinity", b"-Infinity", b"nul", b"True", b"01", b"1.", b".5", b"+1", b"-", b"1e", b"0x10",
        b"[1,]", b'{"a":1,}', b"{a:1}", b"'a'", b"[", b'"', b'"\\', b"1 2", b"// a\n1", b"\xef\xbb\xbf1",
        b'"a\nb"', b'"a\rb"', b'"\x00"', b'"\x1f"', rb'"\x41"', rb'"\u12"', rb"\ud800", rb'"\ud800',
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused(data: bytes) -> None:
    assert refusal(with_data(data)).startswith("the body is not JSON: ")


@pytest.mark.parametrize("data", [b"\xff", b'"\xc3"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf5\x80\x80\x80"'])
def test_what_is_not_utf8_is_refused_and_its_place_named(data: bytes) -> None:
    assert re.fullmatch(r"the body is not UTF-8 \(byte 2[01]\)", refusal(with_data(data)))


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"[]", "expected `object`, got `array`"),
        (b'"x"', "expected `object`, got `str`"),
        (b"null", "expected `object`, got `null`"),
        (b'{"event":1,"data":1}', "event: expected `str`, got `int`"),
        (b'{"event":"a","data":1,"count":"1"}', "count: expected `int`, got `str`"),
        (b'{"event":"a"}', "object missing required field `data`"),
        (b'{"data":1}', "object missing required field `event`"),
        (b'{"event":"a","data":1,"dta":1}', "object contains unknown field `dta`"),
        (rb'{"event":"a","data":1,"\ud800":1}', r"object contains unknown field `\ud800`"),
        (rb'{"event":"a\ud800","data":1}', "event: half a surrogate pair is no character; take it out"),
        (rb'{"event":1,"data":"\ud800"}', "event: expected `str`, got `int`"),
    ],
)
def test_a_refusal_names_the_field(body: bytes, detail: str) -> None:
    assert refusal(body) == detail


def test_a_refusal_is_short_however_long_the_fields_name_is() -> None:
    detail = refusal(b'{"event":"a","data":1,"%b":1}' % (b"x" * 100_000))
    assert detail.startswith("object contains unknown field `xxx")
    assert len(detail) < 300


_array_decoder = msgspec.json.Decoder(list[Body])


@given(st.lists(_json, min_size=1, max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_what_is_kept_of_many_is_what_is_kept_of_each(values: list[Any], escaped: bool, indent: int | None) -> None:
    sent = [with_data(json.dumps(value, ensure_ascii=escaped, indent=indent).encode()) for value in values]
    each = [decoded(body) for body in sent]
    array = b"[" + b" , ".join(sent) + b"]"
    many = raw_json.decode_array(_array_decoder, array)
    lines = raw_json.decode_lines(_decoder, sent)
    assert [decoded(element) for element in raw_json.split(array)] == each
    for bodies, compact in filter(None, (many, lines)):
        assert [compact(bytes(body.data)) for body in bodies] == each


def test_many_with_half_a_surrogate_pair_are_left_to_be_read_one_by_one() -> None:
    halves = [with_data(rb'"\ud800"'), with_data(rb'" \\ud800\ud83d\ude00\uDFFF"')]
    array = b"[" + b",".join(halves) + b"]"
    assert raw_json.decode_array(_array_decoder, array) is raw_json.decode_lines(_decoder, halves) is None
    assert raw_json.split(array) == halves


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_json_may_be_nested_256_deep_and_no_deeper(opening: bytes) -> None:
    def nested(depth: int) -> bytes:
        closing = b"]" if opening == b"[" else b"}"
        return with_data(opening * (depth - 1) + b"1" + closing * (depth - 1))

    assert decoded(nested(256)).count(opening) == 255
    assert refusal(nested(257)).startswith("the JSON is nested more than 256 deep")
    assert refusal(nested(10_000)).startswith("the JSON is nested more than 256 deep")


def test_brackets_side_by_side_or_within_strings_are_not_depth() -> None:
    data = b'["' + b"[" * 1000 + b'\\"[{",' + b"[]," * 1000 + b"{}]"
    assert decoded(with_data(data)) == data


def test_depth_is_seen_behind_a_string_that_does_not_end() -> None:
    assert refusal(b'{"event":"a\n","data":' + b"[" * 10_000)


@pytest.mark.parametrize(
    "hostile",
    [
        b"[" * 300 + b'"' + rb"\"" * 400_000,
        b"[" * 300 + b'"' + b"\\\n" * 400_000,
        b"[" * 300 + b'""' * 400_000,
        b"[" * 300 + b'"' * 799_999,
        b'{"data":' + b'["a' * 300 + b"\\" * 700_000,
    ],
)
def test_no_body_takes_longer_than_its_length_allows(hostile: bytes) -> None:
    """A pattern that fails and tries again would take hours for these; the loop, and all streams, would wait for it."""
    begun = time.process_time()
    with pytest.raises(BadRequest):
        raw_json.decode(_decoder, hostile)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    "hostile",
    [
        b'[{"data":"' + rb"\"" * 500_000,
        b'[{"data":"\\ud800' + b"\\\n" * 500_000,
        b'[{"data":' + b"[" * 1_000_000,
        b'[{"data":' + b"[" * 300 + b'""' * 400_000,
        b'["a' * 250_000,
        b'[{"data":["' + b"\\ud800" * 170_000 + b'"]},',
    ],
)
def test_no_batch_takes_longer_than_its_length_allows(hostile: bytes) -> None:
    begun = time.process_time()
    assert raw_json.decode_array(_array_decoder, hostile) is None
    with pytest.raises(BadRequest):
        raw_json.split(hostile)
    assert time.process_time() - begun < 5
