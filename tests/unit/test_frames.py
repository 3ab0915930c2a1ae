"""One record in each form that a stream may ask for, and the frames of one turn together."""

from __future__ import annotations

import json

import pytest

from broker.live.frames import Encoder, Form, Frame, encode_all
from tests.support.frames import EPOCH, UUID_OF_ALL, frame_of

RECORD_FORMS = [Form.RECORD, Form.RECORD_WITH_USER]


def parsed(body: bytes) -> dict[str, object]:
    """The JSON of a record frame, of which everything else is checked."""
    id_line, data_line, *end = body.split(b"\n")
    assert end == [b"", b""], "one line of data, and one empty line at the end"
    assert data_line.startswith(b"data: ")
    record: dict[str, object] = json.loads(data_line[len(b"data: ") :])
    assert id_line.decode() == f"id: {record['id']}"
    return record


def test_the_named_form_is_an_event_of_the_records_name_with_its_data_alone() -> None:
    frame = frame_of(7, "orders/42", b'{"a":1}')
    assert frame.form(Form.NAMED) == b'id: 0a1b2c3d-7\nevent: orders/42\ndata: {"a":1}\n\n'
    assert frame.event_id == b"0a1b2c3d-7"


def test_a_record_frame_is_a_message_with_the_record_in_this_order() -> None:
    body = frame_of(7, "orders/42", b'{"a":1}').form(Form.RECORD_WITH_USER)
    assert body == (
        b'id: 0a1b2c3d-7\ndata: {"id":"0a1b2c3d-7","uuid":"01890a5d-ac96-774b-bcce-b302099a8057","event":"orders/42",'
        b'"user":"ada","timestamp":1700000000.5,"published_at":1700000000.5,"data":{"a":1}}\n\n'
    )


def test_only_the_form_with_the_user_names_the_user() -> None:
    frame = frame_of(1)
    assert parsed(frame.form(Form.RECORD_WITH_USER))["user"] == "ada"
    assert "user" not in parsed(frame.form(Form.RECORD))
    assert b"ada" not in frame.form(Form.RECORD)
    assert b"ada" not in frame.form(Form.NAMED)


@pytest.mark.parametrize("form", RECORD_FORMS)
@pytest.mark.parametrize("data", [b"null", b'"\\u00e9\xc3\xa9 \\n"', b"1.50e+3", b'{"b":1,"a":[],"b":2}', b'"\\ud800"'])
def test_data_is_in_a_record_frame_as_it_was_sent(form: Form, data: bytes) -> None:
    assert frame_of(1, data=data).form(form).endswith(b',"data":' + data + b"}\n\n")


@pytest.mark.parametrize("form", RECORD_FORMS)
def test_a_name_that_json_must_escape_is_escaped(form: Form) -> None:
    assert parsed(frame_of(1, 'a"\\é').form(form))["event"] == 'a"\\é'


@pytest.mark.parametrize("form", RECORD_FORMS)
def test_times_are_as_the_publisher_wrote_them_and_otherwise_when_the_record_was_due(form: Form) -> None:
    written = frame_of(1, timestamp="1.70e9", due_us=1_700_000_000_000_000, until="1700000099.250")
    assert b'"timestamp":1.70e9,"until":1700000099.250,"published_at":1700000000.5' in written.form(form)
    none = frame_of(1, due_us=1_699_999_999_000_001)
    assert b'"timestamp":1699999999.000001,"published_at":1700000000.5' in none.form(form)
    assert b'"until"' not in none.form(form)


@pytest.mark.parametrize("form", list(Form))
def test_without_its_id_a_frame_is_the_same_but_for_the_first_line(form: Form) -> None:
    frame = frame_of(12)
    assert b"id: 0a1b2c3d-12\n" + frame.without_id(form) == frame.form(form)


def test_null_is_a_removal_and_nothing_else_is() -> None:
    assert frame_of(1, data=b"null").removal
    assert not any(frame_of(1, data=data).removal for data in (b'"null"', b"[null]", b"false", b"0", b'""'))


def test_names_that_start_with_a_dollar_are_reserved() -> None:
    assert frame_of(1, "$rules").reserved
    assert not frame_of(1, "a$").reserved


def shown(frames: list[Frame], form: Form = Form.NAMED) -> list[str]:
    """The frames of a stream in short: the position of a record, or how many positions were passed up to which id."""
    short = []
    for body in encode_all(frames, form):
        fields = dict(line.split(": ", 1) for line in body.decode().strip().split("\n"))
        position = fields["id"].removeprefix(f"{EPOCH}-")
        if fields.get("event") == "$passed":
            short.append(f"{json.loads(fields['data'])['positions']} up to {position}")
        else:
            short.append(position)
    return short


@pytest.mark.parametrize("form", list(Form))
def test_adjacent_reserved_records_become_one_passed_with_the_id_of_the_last(form: Form) -> None:
    events = ["$a", "$b", "e", "$a", "e", "e", "$c", "$c", "$c"]
    frames = [frame_of(position, event) for position, event in enumerate(events, 1)]
    assert shown(frames, form) == ["2 up to 2", "3", "1 up to 4", "5", "6", "3 up to 9"]
    assert shown(frames[:2], form) == ["2 up to 2"]
    assert shown([], form) == []


def test_nothing_of_a_reserved_record_is_shown() -> None:
    secret = [frame_of(1, "$user/1", b'"secret"'), frame_of(2)]
    for form in Form:
        body = b"".join(encode_all(secret, form))
        assert b"secret" not in body
        assert b"$user" not in body
        assert str(UUID_OF_ALL).encode() not in body.partition(b"\n\n")[0]


def test_an_encoder_encodes_each_record_once_in_each_form_for_all_streams_of_a_turn() -> None:
    frames = [frame_of(1), frame_of(2)]
    encoder = Encoder(frames)
    with_user = encoder.encode(frames, Form.RECORD_WITH_USER)
    assert encoder.encode(frames[1:], Form.RECORD_WITH_USER)[0] is with_user[1]
    assert encoder.encode(frames, Form.NAMED)[0] is frames[0].named
    without = encoder.encode(frames, Form.RECORD)
    assert without != with_user
    assert all(one is other for one, other in zip(without, encoder.encode(frames, Form.RECORD), strict=True))
