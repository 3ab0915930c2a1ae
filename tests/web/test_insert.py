from __future__ import annotations

import gzip
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.settings import MIB
from tests.support.answers import JSON, exchange, insert, post, problem, request_head
from tests.support.samples import BAD_NAMES
from tests.support.servers import ServerProcess, wait_for


def test_an_insert_answers_the_record_that_is_then_in_the_log(ada: httpx.Client) -> None:
    before = time.time()
    answer = insert(ada, "insert/whole", b'{"first_name": "Rusty"}')
    record = answer.json()
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert list(record) == [
        "uuid", "event", "timestamp", "published", "cancelled", "data", "id", "user", "inserted_at", "published_at",
    ]  # fmt: skip
    assert (record["event"], record["data"], record["user"]) == ("insert/whole", {"first_name": "Rusty"}, "ada")
    assert (record["published"], record["cancelled"]) == (True, False)
    assert record["timestamp"] == record["inserted_at"] == record["published_at"]
    assert before - 0.001 <= record["inserted_at"] <= time.time()
    assert UUID(record["uuid"]).version == 7
    assert ada.get("/collections/insert/whole").json() == [record]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is empty"),
        (b"event=a&data=1", "the body is not JSON"),
        (b'{"event":"a","data":NaN}', "the body is not JSON"),
        (b'{"event":"a","data":-Infinity}', "the body is not JSON"),
        (b'{"event":"a","data":1}{', "the body is not JSON: trailing characters"),
        (b'{"event":"a","data":"a\nevent: b"}', "the body is not JSON"),
        (b'{"event":"a","data":"\xff"}', "the body is not UTF-8 (byte 21)"),
        (b'{"event":"\xed\xa0\x80","data":1}', "the body is not UTF-8 (byte 10)"),
        (b'{"\xff":"a","data":1}', "the body is not UTF-8 (byte 2)"),
        (b'{"event":"a","data":%b}' % (b"[" * 10_000 + b"]" * 10_000), "nested more than 256 deep"),
        (b'{"event":"a","data":%b}' % (b'{"a":' * 10_000 + b"1" + b"}" * 10_000), "nested more than 256 deep"),
        (b'{"":' * 10_000, "nested more than 256 deep"),
        (b'"text"', "expected `object`, got `str`"),
        (b"null", "expected `object`, got `null`"),
        (b"{}", "missing required field `event`"),
        (b'{"event":"a"}', "missing required field `data`"),
        (b'{"data":1}', "missing required field `event`"),
        (b'{"event":5,"data":1}', "event: expected `str`, got `int`"),
        (b'{"event":null,"data":1}', "event: expected `str`, got `null`"),
        (rb'{"event":"a\ud800","data":1}', "event: half a surrogate pair"),
        (b'{"event":"a","data":1,"published":"yes"}', "published: expected `bool | null`, got `str`"),
        (b'{"event":"a","data":1,"published":1}', "published: expected `bool | null`, got `int`"),
        (b'{"event":"a","data":1,"uuid":7}', "uuid: expected `str | null`, got `int`"),
        (b'{"event":"a","data":1,"uuid":"7"}', "uuid: expected 36 characters"),
        (b'{"event":"a","data":1,"cancelled":false}', "unknown field `cancelled`"),
        (b'{"event":"a","data":1,"Timestamp":1}', "unknown field `Timestamp`"),
    ],
)
def test_bad_input_is_refused_and_named(ada: httpx.Client, body: bytes, sentence: str) -> None:
    assert sentence in problem(post(ada, "/insert", body), 400)


@pytest.mark.parametrize(("name", "sentence"), BAD_NAMES.items(), ids=ascii)
def test_a_bad_event_name_is_refused(ada: httpx.Client, name: str, sentence: str) -> None:
    detail = problem(post(ada, "/insert", json.dumps({"event": name, "data": 1}).encode()), 400)
    assert detail.startswith("event: ")
    assert sentence in detail


_FIELDS = ("event", "data", "timestamp", "published", "uuid", r"\ud800", "")
_VALUES = (
    "1", '"a"', "null", "true", "[]", "{}", "-1e-400", "9e9", "0e99999999999999999999", "NaN", r'"\ud800"', r'"\u0000"',
    '"$"', '"é"', "\udcff", '"01890a5d-ac96-774b-bcce-b302099a8057"', '"',
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(_FIELDS), st.sampled_from(_VALUES)), max_size=4))
def test_any_body_is_stored_or_refused_with_a_reason(ada: httpx.Client, fields: list[tuple[str, str]]) -> None:
    fields = [("event", '"insert/any"'), ("data", "1"), *fields]
    body = "{" + ",".join(f'"{name}":{value}' for name, value in fields) + "}"
    answer = post(ada, "/insert", body.encode(errors="surrogateescape"))
    if answer.is_success:
        assert ada.get("/collections/" + answer.json()["event"]).content.count(answer.content.rstrip(b"\n")) == 1
    else:
        assert answer.status_code == 409 or problem(answer, 400)


@pytest.mark.parametrize(
    "data",
    [
        b"1e400", b"-0", b"[1E+5,0.10]", b"123456789012345678901234567890", b"null", b'{"b":1,"a":2,"b":3}',
        rb'"\ud800"', rb'{"\udc00":"\\ud800\ud83d\ude00"}', rb'"\/\u0041\n"', '"\u2028\x85\x7fé🦀"'.encode(),
    ],
)  # fmt: skip
def test_data_is_kept_as_it_was_sent(ada: httpx.Client, data: bytes) -> None:
    event = f"insert/data/{uuid4()}"
    answer = insert(ada, event, b" \n" + data + b"\t")
    assert answer.status_code == 201
    assert b'"data":%b,"id":' % data in answer.content
    assert b'"data":%b,"id":' % data in ada.get(f"/collections/{event}").content


@pytest.mark.parametrize(
    "text",
    ["0", "-0", "-1.50", "1.7e9", "17E+8", "-62135596800", "1700000000.123456789", "0." + "1" * 62, "1e-400", "0e99"],
)
def test_a_timestamp_of_the_past_is_published_at_once_and_echoed_as_sent(ada: httpx.Client, text: str) -> None:
    answer = insert(ada, "insert/past", more=b',"timestamp":%b' % text.encode())
    assert answer.status_code == 201
    assert f'"timestamp":{text},"published":true' in answer.text
    assert answer.json()["id"] is not None
    assert f'"timestamp":{text},' in ada.get("/collections/insert/past?order=desc&limit=1").text


@pytest.mark.parametrize("text", ["253402300799", "4102444800.5", "4.1e9"])
def test_a_timestamp_of_the_future_waits_and_is_echoed_as_sent(ada: httpx.Client, text: str) -> None:
    answer = insert(ada, "insert/future", more=b',"timestamp":%b' % text.encode())
    record = answer.json()
    assert f'"timestamp":{text},"published":false,"cancelled":false' in answer.text
    assert record["id"] is record["published_at"] is None
    assert ada.get(f"/cancel/{record['uuid']}").status_code == 200


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('"1700000000"', "expected a number"), ("true", "expected a number"), ("false", "expected a number"),
        ("[1]", "expected a number"), ("{}", "expected a number"),
        ("-62135596801", "before the year 1"), ("-62135596800.1", "before the year 1"), ("-1e99", "before the year 1"),
        ("1700000000000", "looks like milliseconds: divide by 1000"), ("253402300800", "after the year 9999"),
        ("1700000000000000", "looks like microseconds: divide by 1000000"),
        ("1700000000000000000", "looks like nanoseconds: divide by 1000000000"),
        ("1e21", "after the year 9999; it is in seconds since 1970"),
        ("1e400", "after the year 9999; it is in seconds since 1970"),
        ("1e9999999999999999999", "huge exponent"), ("9" * 65, "65 characters"),
        ("9" * 100_000, "100000 characters"), ("NaN", "not JSON"), ("01", "not JSON"), ("+1", "not JSON"),
    ],
)  # fmt: skip
def test_a_bad_timestamp_is_refused(ada: httpx.Client, text: str, sentence: str) -> None:
    assert sentence in problem(insert(ada, "insert/bad", more=b',"timestamp":%b' % text.encode()), 400)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2001-09-09T03:46:40+02:00", "1000000000"),
        ("2001-09-09T01:46:40.2500000001Z", "1000000000.250001"),
        ("2096-10-02t07:06:40z", "4000000000"),
    ],
)
def test_a_timestamp_of_rfc_3339_is_answered_as_seconds(ada: httpx.Client, text: str, number: str) -> None:
    answer = insert(ada, "insert/rfc-3339", more=b', "timestamp" : "%b" ' % text.encode())
    published = "false" if number.startswith("4") else "true"
    assert answer.status_code == 201
    assert f'"timestamp":{number},"published":{published}' in answer.text
    assert f'"timestamp":{number},' in ada.get("/collections/insert/rfc-3339?order=desc&limit=1").text
    assert not answer.json()["published"] or answer.json()["id"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("2026-11-27T12:00:00", "timestamp: 2026-11-27T12:00:00 has no time zone; write it behind the seconds"),
        ("2026-11-27T12:00:60Z", "is a leap second"), ("2026-02-30T12:00:00Z", "there is no such time"),
        ("0000-01-01T00:00:00Z", "before the year 1"), ("9999-12-31T23:59:59-01:00", "after the year 9999"),
        ("tomorrow", 'or a string such as "2030-01-01T12:00:00Z", got "tomorrow"'),
        (r"\ud800", "or a string such as"),
    ],
)  # fmt: skip
def test_a_timestamp_that_is_no_instant_is_refused(ada: httpx.Client, text: str, sentence: str) -> None:
    assert sentence in problem(insert(ada, "insert/bad", more=b',"timestamp":"%b"' % text.encode()), 400)


def test_a_batch_may_have_numbers_and_strings(ada: httpx.Client) -> None:
    times = ["1.50", '"1970-01-01T00:00:01.5Z"', "null"]
    batch = ",".join(f'{{"event":"insert/both","data":1,"timestamp":{each}}}' for each in times)
    answer = post(ada, "/insert", f"[{batch}]".encode())
    assert [each["timestamp"] for each in answer.json()[:2]] == [1.5, 1.5]
    assert answer.text.count('"timestamp":1.50,') == answer.text.count('"timestamp":1.5,') == 1
    bad = post(ada, "/insert", f"[{batch}]".replace("01.5Z", "01.5").encode())
    assert (bad.status_code, bad.json()["index"]) == (400, 1)
    assert "record 1: timestamp: 1970-01-01T00:00:01.5 has no time zone" in bad.json()["detail"]


def test_a_log_only_record_has_no_id_whatever_its_timestamp(ada: httpx.Client) -> None:
    inserted = [insert(ada, "insert/quiet", more=b',"published":true' + t).json() for t in (b"", b',"timestamp":9e9')]
    for record in inserted:
        assert (record["published"], record["cancelled"]) == (True, False)
        assert record["id"] is record["published_at"] is None
    assert ada.get("/collections/insert/quiet").json() == inserted


@pytest.mark.parametrize("prefer", ["return=minimal", "respond-async, return=minimal"])
def test_return_minimal_answers_uuid_and_id_only(ada: httpx.Client, prefer: str) -> None:
    answer = ada.post("/insert", json={"event": "insert/minimal", "data": 1}, headers={"Prefer": prefer})
    record = ada.get("/collections/insert/minimal?order=desc&limit=1").json()[0]
    assert answer.status_code == 201
    assert answer.json() == {"uuid": record["uuid"], "id": record["id"]}


# The body


def _body_of(size: int) -> bytes:
    frame = b'{"event":"insert/large","data":"%b"}'
    return frame % (b"x" * (size - len(frame) + 2))


def test_a_body_of_one_mebibyte_is_taken_and_one_byte_more_is_not(ada: httpx.Client) -> None:
    assert post(ada, "/insert", _body_of(MIB)).status_code == 201
    assert "larger than 1048576 bytes (body_bytes_max)" in problem(post(ada, "/insert", _body_of(MIB + 1)), 413)


def test_a_chunked_body_has_the_same_bound(ada: httpx.Client) -> None:
    def chunks(body: bytes) -> Iterator[bytes]:
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    assert ada.post("/insert", content=chunks(_body_of(MIB)), headers=JSON).status_code == 201
    problem(ada.post("/insert", content=chunks(_body_of(MIB + 1)), headers=JSON), 413)


@pytest.mark.parametrize(
    ("more", "begun"),
    [
        (["Content-Length: 1048577"], b'{"event":'),
        (["Content-Length: 999999999999999999", "Expect: 100-continue"], b""),
        (["Transfer-Encoding: chunked"], b"100001\r\n" + b"[" * (MIB + 1)),
    ],
)
def test_a_large_body_is_refused_before_it_is_all_sent(
    server: ServerProcess, ada: httpx.Client, more: list[str], begun: bytes
) -> None:
    head = request_head(ada, "POST /insert HTTP/1.1", "Content-Type: application/json", *more)
    answer, body = exchange(server, head + begun)
    assert answer.startswith("HTTP/1.1 413 ")
    assert json.loads(body)["status"] == 413


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/json; a=b",
        "application/json; charset=utf8",
        "application/json; charset='utf-8'",
        "application/json ; charset = UTF8",
        "application/json; charset=unicode-1-1-utf-8",
    ],
)
def test_json_of_utf8_is_a_supported_media_type(ada: httpx.Client, content_type: str) -> None:
    body = b'{"event":"insert/type","data":1}'
    assert ada.post("/insert", content=body, headers={"Content-Type": content_type}).status_code == 201


@pytest.mark.parametrize("path", ["/insert", "/users", "/login"])
@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonp",
     "application/problem+json", ";", "é"],
)  # fmt: skip
def test_any_other_media_type_is_refused(ada: httpx.Client, path: str, content_type: str | None) -> None:
    headers = [] if content_type is None else [(b"Content-Type", content_type.encode("latin-1"))]
    answer = ada.post(path, content=b"{}", headers=headers)
    assert "Content-Type: application/json" in problem(answer, 415)
    told = content_type and content_type.strip(";")
    assert (f"Content-Type: {told} is not" if told else "there is no Content-Type") in problem(answer, 415)


@pytest.mark.parametrize("charset", ["latin-1", "iso-8859-1", "utf-16", "''", "x" * 200])
@pytest.mark.parametrize("path", ["/insert", "/users", "/login"])
def test_another_charset_is_refused_by_its_name(ada: httpx.Client, path: str, charset: str) -> None:
    headers = {"Content-Type": f"application/json; charset={charset}"}
    assert problem(ada.post(path, content=b"{}", headers=headers), 415).startswith(
        f"charset={charset[:50]} is not supported"
    )


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd", "gzip, identity", "x"])
@pytest.mark.parametrize("path", ["/insert", "/users", "/login"])
def test_a_compressed_body_is_refused_by_its_header(ada: httpx.Client, path: str, coding: str) -> None:
    """RFC 9110, section 15.5.16. Also where the header is not true: nobody knows what else is not."""
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    answer = ada.post(path, content=gzip.compress(b"{}"), headers=headers)
    assert problem(answer, 415).startswith(f"Content-Encoding: {coding} is not supported")
    assert answer.headers["accept-encoding"] == "identity"


def test_a_body_that_says_that_it_is_not_compressed_is_taken(ada: httpx.Client) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "identity"}
    assert ada.post("/insert", content=b'{"event":"insert/type","data":1}', headers=headers).status_code == 201


RECORD = '{"event":"insert/encoding","data":"ä"}'


@pytest.mark.parametrize(
    ("encoding", "sentence"),
    [
        ("gzip", "compressed (gzip)"), ("latin-1", "not UTF-8 (byte 35)"),
        *[(f"utf-{bits}{order}", "UTF-16 or UTF-32") for bits in (16, 32) for order in ("", "-le", "-be")],
    ],
)  # fmt: skip
@pytest.mark.parametrize("media", ["application/json", "application/x-ndjson"])
def test_another_encoding_is_told_by_its_name(ada: httpx.Client, encoding: str, sentence: str, media: str) -> None:
    body = gzip.compress(RECORD.encode()) if encoding == "gzip" else RECORD.encode(encoding)
    answer = ada.post("/insert", content=body, headers={"Content-Type": media})
    assert (answer.status_code, sentence in answer.json()["detail"]) == (400, True), answer.text


@pytest.mark.parametrize(
    ("path", "media", "body", "status"),
    [
        ("/insert", "application/json", b'{"event":"insert/mark","data":1}', 201),
        ("/insert", "application/json", b'[{"event":"insert/mark","data":1}]', 201),
        ("/insert", "application/x-ndjson", b'{"event":"insert/mark","data":1}\n{"event":"insert/mark","data":2}', 201),
        ("/login", "application/json", b'{"username":"ada","password":"correct horse"}', 200),
        ("/users", "application/json", b'{"username":"ada","password":"correct horse"}', 409),
    ],
)
def test_a_byte_order_mark_in_front_is_passed_over(
    ada: httpx.Client, path: str, media: str, body: bytes, status: int
) -> None:
    """RFC 8259, section 8.1: a parser may ignore it."""
    answer = ada.post(path, content=b"\xef\xbb\xbf" + body, headers={"Content-Type": media})
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("left_out", [{"timestamp": None}, {"published": None}, {"uuid": None}])
@pytest.mark.parametrize("many", [False, True], ids=["one", "batch"])
def test_null_is_the_same_as_leaving_a_field_out(ada: httpx.Client, left_out: dict[str, None], many: bool) -> None:
    body = {"event": "insert/null", "data": None, **left_out}
    answer = ada.post("/insert", json=[body] if many else body)
    assert answer.status_code == 201, answer.text
    record = answer.json()[0] if many else answer.json()
    assert (record["published"], record["data"], record["id"] is None) == (True, None, False)
    assert record["timestamp"] == record["inserted_at"]


@pytest.mark.parametrize(
    "prefer",
    ["return=minimal", "respond-async, return=minimal", 'RETURN="minimal"', "return=minimal; foo"],
)
def test_a_short_answer_is_preferred_in_any_spelling(ada: httpx.Client, prefer: str) -> None:
    record = {"event": "insert/prefer", "data": 1}
    assert ada.post("/insert", json=record, headers={"Prefer": prefer}).json().keys() == {"uuid", "id"}
    for other in ("return=representation", "xreturn=minimal", "return=minimally"):
        assert "data" in ada.post("/insert", json=record, headers={"Prefer": other}).json()


# Sent again


def test_the_same_insert_again_answers_the_first_record(ada: httpx.Client) -> None:
    uuid = str(uuid4())
    more = b',"timestamp":1.50,"uuid":"%b"' % uuid.encode()
    first = insert(ada, "insert/again", b"[1,2]", more)
    again = insert(ada, "insert/again", b"[1, 2]", more.replace(uuid.encode(), uuid.upper().encode()))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.content == again.content
    assert len(ada.get("/collections/insert/again").json()) == 1


def test_an_insert_with_the_same_instant_in_another_form_is_a_repeated_one(ada: httpx.Client) -> None:
    uuid = str(uuid4())
    forms = ['"2096-10-02T07:06:40.5Z"', '"2096-10-02T09:06:40.50000+02:00"', "4000000000.5", "4.0000000005e9"]
    answers = [
        insert(ada, "insert/instant", more=b',"timestamp":%b,"uuid":"%b"' % (each.encode(), uuid.encode()))
        for each in forms
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 200, 200]
    assert len({answer.content for answer in answers}) == 1
    other = insert(ada, "insert/instant", more=b',"timestamp":"2096-10-02T07:06:40Z","uuid":"%b"' % uuid.encode())
    assert uuid in problem(other, 409)


@pytest.mark.parametrize(
    "change",
    [{"event": "insert/other"}, {"data": "1.0"}, {"timestamp": "9.5"}, {"timestamp": None}, {"published": "true"}],
    ids=str,
)
def test_a_known_uuid_with_anything_else_is_refused(ada: httpx.Client, change: dict[str, str | None]) -> None:
    uuid = str(uuid4())

    def send(fields: dict[str, str | None]) -> httpx.Response:
        sent = ",".join(f'"{name}":{value}' for name, value in fields.items() if value is not None and name != "event")
        return post(ada, "/insert", f'{{"event":"{fields["event"]}",{sent}}}'.encode())

    fields: dict[str, str | None] = {"event": "insert/known", "data": "1", "timestamp": "9.0", "uuid": f'"{uuid}"'}
    assert send(fields).status_code == 201
    assert uuid in problem(send(fields | change), 409)
    assert send(fields).status_code == 200


def test_a_known_uuid_of_another_user_is_refused(server: ServerProcess, ada: httpx.Client) -> None:
    more = b',"uuid":"%b"' % str(uuid4()).encode()
    assert insert(ada, "insert/users", more=more).status_code == 201
    with server.client("insert-other") as other:
        problem(insert(other, "insert/users", more=more), 409)


def test_a_cancelled_insert_sent_again_is_still_cancelled(ada: httpx.Client) -> None:
    more = b',"timestamp":9e9,"uuid":"%b"' % str(uuid4()).encode()
    uuid = insert(ada, "insert/undone", more=more).json()["uuid"]
    ada.post(f"/cancel/{uuid}")
    again = insert(ada, "insert/undone", more=more)
    assert again.status_code == 200
    assert again.json()["cancelled"] is True


def test_of_two_at_the_same_moment_the_first_wins(ada: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            more = b',"uuid":"%b"' % str(uuid4()).encode()
            answers = list(threads.map(lambda _, more=more: insert(ada, "insert/race", more=more), range(4)))
            assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
            assert len({answer.content for answer in answers}) == 1


def test_a_bad_row_never_fails_its_neighbours(ada: httpx.Client) -> None:
    more = b',"uuid":"%b"' % str(uuid4()).encode()
    assert insert(ada, "insert/neighbours", b"0", more).status_code == 201
    with ThreadPoolExecutor(8) as threads:
        sent = [(b"%d" % n, more if n % 2 else b"") for n in range(1, 41)]
        answers = list(threads.map(lambda each: insert(ada, "insert/neighbours", *each), sent))
    assert [answer.status_code for answer in answers] == [409, 201] * 20


# Bounds


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with room for little."""
    bounds: dict[str, Any] = {"event_names_max": 3, "snapshot_bytes_max": 1_000}
    bounds |= {name.replace("_max", "_per_user_max"): 9 * value for name, value in bounds.items()}
    bounds |= {"insert_queue_max": 2, "batch_records_max": 2}
    with ServerProcess(tmp_path_factory.mktemp("small"), **bounds) as running:
        yield running


def test_an_event_beyond_the_last_is_refused_and_known_ones_go_on(small: ServerProcess) -> None:
    with small.client("ada") as ada:
        assert [insert(ada, name).status_code for name in ("a", "b", "c", "a")] == [201] * 4
        assert "event_names_max" in problem(insert(ada, "d"), 507)
        assert insert(ada, "b").status_code == 201
        assert insert(ada, "d", more=b',"published":true').status_code == 201


def test_data_beyond_the_snapshots_bound_is_refused(small: ServerProcess) -> None:
    with small.client("ada") as ada:
        assert insert(ada, "a", b'"%b"' % (b"x" * 900)).status_code == 201
        assert "snapshot_bytes_max" in problem(insert(ada, "b", b'"%b"' % (b"x" * 900)), 507)
        assert "snapshot_bytes_max" in problem(insert(ada, "b", b'"%b"' % (b"x" * 900), b',"timestamp":9e9'), 507)
        assert insert(ada, "a").status_code == 201


def test_a_full_queue_asks_to_come_again(small: ServerProcess) -> None:
    with small.client("ada") as ada, closing(sqlite3.connect(small.data / "broker.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")  # as a backup would hold it
        answers: list[httpx.Response] = []
        waiting = [threading.Thread(target=lambda: answers.append(insert(ada, "a"))) for _ in range(2)]
        for thread in waiting:
            thread.start()
        wait_for(lambda: "broker_writes_waiting 2\n" in ada.get("/metrics").text)
        refused = insert(ada, "a")
        assert "2 writes are waiting" in problem(refused, 503)
        assert refused.headers["retry-after"] == "1"
        problem(ada.post(f"/cancel/{uuid4()}"), 503)
        db.execute("ROLLBACK")
        for thread in waiting:
            thread.join()
        assert [answer.status_code for answer in answers] == [201, 201]
