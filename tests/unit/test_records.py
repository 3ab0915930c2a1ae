from __future__ import annotations

import json
import math
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
