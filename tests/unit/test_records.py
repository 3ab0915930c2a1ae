from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadRequest
from broker.records import (
    TIMESTAMP_MAX,
    TIMESTAMP_MIN,
    EventId,
    Record,
    encode_receipt,
    encode_record,
    make_uuid,
    parse_timestamp,
    parse_uuid,
    read_time,
    read_time_parameter,
    seconds_text,
)

UUID_TEXT = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("-0.0", 0),
        ("0e999999999", 0),
        ("1700000000", 1_700_000_000_000_000),
        ("1700000000.5", 1_700_000_000_500_000),
        ("1.7e9", 1_700_000_000_000_000),
        ("17E+8", 1_700_000_000_000_000),
        ("0.0000001", 1),
        ("-0.0000001", 0),
        ("1e-400", 1),
        ("1.0000000000000000000000000000000000000000000000000000000001", 1_000_001),
        (str(TIMESTAMP_MIN), TIMESTAMP_MIN * 1_000_000),
        (str(TIMESTAMP_MAX), TIMESTAMP_MAX * 1_000_000),
    ],
)
def test_a_timestamp_is_rounded_up_to_microseconds(text: str, microseconds: int) -> None:
    assert parse_timestamp(text) == microseconds


@given(st.decimals(TIMESTAMP_MIN, TIMESTAMP_MAX, places=9))
def test_a_record_is_never_early_and_less_than_a_microsecond_late(seconds: Decimal) -> None:
    assert parse_timestamp(str(seconds)) == math.ceil(Fraction(seconds) * 1_000_000)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('"5"', "expected a number"),
        ("true", "expected a number"),
        ("null", "got null"),
        ("[1]", "expected a number"),
        ("{}", "expected a number"),
        ("-62135596801", "before the year 1"),
        ("-62135596800.000001", "before the year 1"),
        ("-1e300", "before the year 1"),
        ("253402300800", "milliseconds: divide by 1000"),
        ("253402300799.1", "after the year 9999"),
        ("1700000000000", "milliseconds: divide by 1000"),
        ("1e400", "after the year 9999"),
        ("1e9999999999999999999999", "huge exponent"),
        ("-1e9999999999999999999999", "huge exponent"),
        ("1e-9999999999999999999999", "huge exponent"),
        ("0." + "1" * 63, "65 characters; at most 64"),
        ("1" * 10_000, "10000 characters"),
    ],
)
def test_a_bad_timestamp_is_refused_and_told_why(text: str, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence) as refusal:
        parse_timestamp(text)
    assert refusal.value.detail.startswith("timestamp: ")
    assert len(refusal.value.detail) < 200


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", "0"),
        ("1969-12-31T23:59:59Z", "-1"),
        ("2026-11-27T12:00:00Z", "1795780800"),
        ("2026-11-27t12:00:00z", "1795780800"),
        ("2026-11-27T13:00:00+01:00", "1795780800"),
        ("2026-11-27T08:30:00-03:30", "1795780800"),
        ("2026-11-28T11:59:00+23:59", "1795780800"),
        ("2026-11-27T12:00:00-00:00", "1795780800"),
        ("2026-11-27T12:00:00.000Z", "1795780800"),
        ("2026-11-27T12:00:00.5Z", "1795780800.5"),
        ("2026-11-27T12:00:00.123456+00:00", "1795780800.123456"),
        ("2026-11-27T12:00:00.1234560000Z", "1795780800.123456"),
        ("2026-11-27T12:00:00.1234560001Z", "1795780800.123457"),
        ("2026-11-27T12:00:00.9999999Z", "1795780801"),
        (f"2026-11-27T12:00:00.{'0' * 9_999}1Z", "1795780800.000001"),
        ("1969-12-31T23:59:59.25Z", "-0.75"),
        ("2024-02-29T00:00:00Z", "1709164800"),
        ("0001-01-01T00:00:00Z", str(TIMESTAMP_MIN)),
        ("0001-01-01T01:00:00+01:00", str(TIMESTAMP_MIN)),
        ("9999-12-31T23:59:59Z", str(TIMESTAMP_MAX)),
        ("9999-12-31T22:59:59-01:00", str(TIMESTAMP_MAX)),
    ],
)
def test_a_string_of_rfc_3339_is_read_as_seconds(text: str, seconds: str) -> None:
    expected = (seconds, parse_timestamp(seconds))
    assert read_time(json.dumps(text)) == expected
    assert read_time_parameter(text, "at") == read_time_parameter(text.replace("+", " "), "at") == expected


@given(
    st.integers(TIMESTAMP_MIN + 86_400, TIMESTAMP_MAX - 86_400),
    st.integers(-1_439, 1_439),
    st.text("0123456789", max_size=12),
)
def test_a_string_is_never_early_and_less_than_a_microsecond_late(seconds: int, zone: int, digits: str) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    local = moment.astimezone(timezone(timedelta(minutes=zone))).isoformat()
    text = f"{local[:19]}.{digits}{local[19:]}" if digits else local
    exact = seconds + (Fraction(int(digits), 10 ** len(digits)) if digits else 0)
    number, microseconds = read_time(f'"{text}"')
    assert microseconds == math.ceil(exact * 1_000_000)
    assert parse_timestamp(number) == microseconds


@pytest.mark.parametrize("text", ["0", "-1.50", "1.7e9", "17E+8", "1700000000.1234567"])
def test_a_number_is_returned_as_it_was_sent(text: str) -> None:
    assert read_time(text) == read_time_parameter(text, "at") == (text, parse_timestamp(text))


def test_the_escapes_of_a_json_string_are_read() -> None:
    assert read_time(r'"2026-11-27T12:00:00\u005a"') == ("1795780800", 1_795_780_800_000_000)


BAD_STRINGS = {
    "2026-11-27T12:00:00": "no time zone; write it behind the seconds, as in 2030-01-01T12:00:00Z",
    "2026-11-27T12:00:00.5": "no time zone",
    "2026-11-27T12:00": "no time zone",
    "2026-11-27 12:00:00": "no time zone",
    "2026-11-27": "expected a number of seconds since 1970, or a string such as",
    "2026-11-27 12:00:00Z": "or a string such as",
    "2026-11-27T12:00Z": "or a string such as",
    "2026-11-27T12:00:00+0100": "or a string such as",
    "2026-11-27T12:00:00+01": "or a string such as",
    "2026-11-27T12:00:00+24:00": "or a string such as",
    "2026-11-27T12:00:00+01:60": "or a string such as",
    "2026-11-27T12:00:00.Z": "or a string such as",
    "2026-11-27T12:00:00,5Z": "or a string such as",
    "2026-11-27T12:00:00Z\n": "or a string such as",
    " 2026-11-27T12:00:00Z": "or a string such as",
    "+2026-11-27T12:00:00Z": "or a string such as",
    "12026-11-27T12:00:00Z": "or a string such as",
    "2026-W48-5T12:00:00Z": "or a string such as",
    "20261127T120000Z": "or a string such as",
    "\u0662026-11-27T12:00:00Z": "or a string such as",
    "2026-11-27T12:00:00 Europe/Berlin": "or a string such as",
    "Fri, 27 Nov 2026 12:00:00 GMT": "or a string such as",
    "now": 'got "now"',
    "": 'got ""',
    "x" * 100_000: "or a string such as",
    "2016-12-31T23:59:60Z": "is a leap second",
    "2026-11-27T12:00:60+01:00": "is a leap second",
    "2026-02-29T12:00:00Z": "no such time as 2026-02-29T12:00:00Z",
    "2026-13-01T12:00:00Z": "no such time",
    "2026-00-01T12:00:00Z": "no such time",
    "2026-11-27T24:00:00Z": "no such time",
    "2026-11-27T12:60:00Z": "no such time",
    "2026-11-27T12:00:61Z": "no such time",
    "0000-12-31T23:59:59Z": "before the year 1",
    "0001-01-01T00:59:59.9999999+01:00": "before the year 1",
    "9999-12-31T23:59:59.0000001Z": "after the year 9999",
    "9999-12-31T23:59:59-00:01": "after the year 9999",
}


@pytest.mark.parametrize(("text", "sentence"), BAD_STRINGS.items(), ids=lambda each: each[:40])
def test_a_string_that_is_no_instant_is_refused_and_told_why(text: str, sentence: str) -> None:
    for read, sent in ((read_time, json.dumps(text)), (read_time_parameter, text)):
        with pytest.raises(BadRequest) as refusal:
            read(sent, "until")
        assert refusal.value.detail.startswith("until: ")
        assert sentence in refusal.value.detail
        assert len(refusal.value.detail) < 250


@pytest.mark.parametrize("raw", ["true", "null", "[1]", "{}", '"5"', r'"\ud800"'])
def test_what_is_neither_a_number_nor_a_time_is_refused(raw: str) -> None:
    with pytest.raises(BadRequest, match="timestamp: expected a number of seconds since 1970, or a string such as"):
        read_time(raw)


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "1_000", "\u0661", "+5", "01", "1.", ".5", " 5", "5\n", '"5"', "1e"]
)
def test_a_number_in_a_query_is_written_as_in_json(text: str) -> None:
    with pytest.raises(BadRequest, match="at: expected a number of seconds since 1970"):
        read_time_parameter(text, "at")


def test_a_number_out_of_range_is_refused_in_a_query_too() -> None:
    with pytest.raises(BadRequest, match=r"at: 1700000000000 is after the year 9999; .* milliseconds"):
        read_time_parameter("1700000000000", "at")


@given(st.integers(TIMESTAMP_MIN * 1_000_000, TIMESTAMP_MAX * 1_000_000))
def test_microseconds_are_written_as_exact_seconds(microseconds: int) -> None:
    text = seconds_text(microseconds)
    assert parse_timestamp(text) == microseconds
    json.loads(text)


def test_the_uuids_made_are_version_7_and_in_the_order_of_time() -> None:
    made = [make_uuid(milliseconds) for milliseconds in range(1_700_000_000_000, 1_700_000_000_100)]
    assert made == sorted(made)
    assert {(each.version, each.variant) for each in made} == {(7, "specified in RFC 4122")}
    assert made[0].int >> 80 == 1_700_000_000_000
    within = [make_uuid(1) for _ in range(4_000)]
    assert within == sorted(within)
    assert len({each.int & (1 << 62) - 1 for each in within}) == 4_000  # nobody can tell the next one


def test_a_uuid_is_read_in_either_case() -> None:
    assert parse_uuid(UUID_TEXT) == parse_uuid(UUID_TEXT.upper()) == UUID(UUID_TEXT)


@pytest.mark.parametrize(
    "text",
    ["", "x", UUID_TEXT[:-1], UUID_TEXT + "\n", f"{{{UUID_TEXT}}}", "urn:uuid:", "\u0660" + UUID_TEXT[1:]],
)
def test_what_is_not_a_uuid_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="uuid: expected 36 characters"):
        parse_uuid(text)


def test_an_event_id_is_read_as_it_was_written() -> None:
    assert EventId.parse(str(EventId("9f3a1c07", 41))) == ("9f3a1c07", 41)
    assert EventId.parse("9f3a1c07-0") == ("9f3a1c07", 0)


@pytest.mark.parametrize(
    "text",
    [
        "", "1", "9f3a1c07", "9f3a1c07-", "9f3a1c07--1", "9f3a1c07-01", "9F3A1C07-1", "9f3a1c07-1\n",
        "9f3a1c07-1" + "0" * 18,
    ],
)  # fmt: skip
def test_a_malformed_event_id_is_none(text: str) -> None:
    assert EventId.parse(text) is None


def _record(**changes: object) -> Record:
    fields: dict[str, object] = {
        "uuid": UUID(UUID_TEXT), "event": "user", "data": b'{"b":1e400}', "user": "ada", "timestamp": None,
        "due_us": 1_500_000, "log_only": False, "inserted_us": 1_500_000,
    }  # fmt: skip
    return Record(**fields | changes)  # type: ignore[arg-type] # a mixture of types


def test_a_records_json_has_every_field_in_order() -> None:
    assert encode_record(_record(position=41, published_us=1_500_001, epoch="9f3a1c07")) == (
        b'{"uuid":"01890a5d-ac96-774b-bcce-b302099a8057","event":"user","timestamp":1.5,"published":true,'
        b'"cancelled":false,"data":{"b":1e400},"id":"9f3a1c07-41","user":"ada","inserted_at":1.5,'
        b'"published_at":1.500001}'
    )


@pytest.mark.parametrize(
    ("changes", "published", "cancelled", "event_id"),
    [
        ({}, False, False, None),
        ({"position": 1, "published_us": 1}, True, False, "e-1"),
        ({"cancelled": True}, True, True, None),
        ({"log_only": True}, True, False, None),
    ],
)
def test_the_four_states_of_a_record(
    changes: dict[str, object], published: bool, cancelled: bool, event_id: str | None
) -> None:
    view = json.loads(encode_record(_record(**changes, epoch="e")))
    assert (view["published"], view["cancelled"], view["id"]) == (published, cancelled, event_id)
    assert json.loads(encode_receipt(_record(**changes, epoch="e"))) == {"uuid": UUID_TEXT, "id": event_id}


def test_the_timestamp_is_echoed_as_it_was_sent() -> None:
    assert b'"timestamp":1.50E+0,' in encode_record(_record(timestamp="1.50E+0"))
