"""Many records in one `POST /insert`: an array, or lines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from broker.errors import SettingsError
from broker.settings import Settings
from tests.support.answers import JSON, insert, post, problem
from tests.support.documents import HTTP, Shell, blocks, section
from tests.support.samples import BAD_NAMES
from tests.support.servers import ServerProcess, streaming

LINES = {"Content-Type": "application/x-ndjson"}


def send_array(client: httpx.Client, records: list[bytes], **headers: str) -> httpx.Response:
    return client.post("/insert", content=b"[" + b",".join(records) + b"]", headers=JSON | headers)


def send_lines(client: httpx.Client, records: list[bytes], **headers: str) -> httpx.Response:
    return client.post("/insert", content=b"\n".join(records), headers=LINES | headers)


Send = Callable[..., httpx.Response]
both = pytest.mark.parametrize("send", [send_array, send_lines])


def record(event: str, data: bytes = b"1", more: bytes = b"") -> bytes:
    return b'{"event":"%b","data":%b%b}' % (event.encode(), data, more)


def known(uuid: object) -> bytes:
    return b',"uuid":"%b"' % str(uuid).encode()


def batch_problem(answer: httpx.Response, status: int, index: int) -> str:
    """The detail of an error that names one record of a batch, without its beginning."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert list(body) == ["type", "title", "status", "detail", "index"]
    assert body["index"] == index
    begin, _, detail = body["detail"].partition(": ")
    assert begin == f"record {index}"
    return str(detail)


def positions(records: list[dict[str, Any]]) -> list[int]:
    return [int(each["id"].rpartition("-")[2]) for each in records]


def log(client: httpx.Client, event: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = client.get(f"/collections/{event}").json()
    return records


# What is stored


@both
def test_a_batch_answers_an_array_of_the_records_that_are_then_in_the_log(ada: httpx.Client, send: Send) -> None:
    event = f"batch/whole/{uuid4()}"
    answer = send(ada, [record(event, b"%d" % n) for n in range(100)])
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    records = answer.json()
    assert [each["data"] for each in records] == list(range(100))
    assert positions(records) == list(range(positions(records)[0], positions(records)[0] + 100))
    assert len({each["uuid"] for each in records}) == 100
    assert log(ada, event) == records


@both
def test_a_thousand_are_in_a_row_though_others_come_in_between(
    server: ServerProcess, ada: httpx.Client, send: Send
) -> None:
    event = f"batch/row/{uuid4()}"
    with ThreadPoolExecutor(5) as threads:
        batches = [threads.submit(send, ada, [record(event, b"%d" % n) for n in range(1000)]) for _ in range(3)]
        singles = []
        while not all(batch.done() for batch in batches):
            singles.append(insert(ada, f"{event}/single").json())
        for batch in batches:
            found = positions(batch.result().json())
            assert found == list(range(found[0], found[0] + 1000))
    assert singles
    in_all = [*positions(log(ada, event)), *positions(singles)]
    assert len(set(in_all)) == len(in_all) == 3000 + len(singles)


@both
def test_one_alone_is_answered_with_an_array_too(ada: httpx.Client, send: Send) -> None:
    answer = send(ada, [record("batch/one")])
    assert answer.status_code == 201
    assert [each["event"] for each in answer.json()] == ["batch/one"]


@both
def test_subscribers_hear_a_batch_in_its_order(server: ServerProcess, ada: httpx.Client, send: Send) -> None:
    prefix = f"batch/heard/{uuid4()}"
    with streaming(server, f"/events?event={prefix}*") as stream:
        stream.wait("$ready")
        sent = [record(f"{prefix}/{n % 7}", b"%d" % n) for n in range(500)]
        answered = send(ada, sent).json()
        stream.wait(f"{prefix}/2", 72)
        stream.wait(f"{prefix}/{499 % 7}", 72)
    assert [(frame.id, frame.json()) for frame in stream.records()] == [(each["id"], each["data"]) for each in answered]


@both
def test_pending_log_only_and_immediate_records_may_be_mixed(ada: httpx.Client, send: Send) -> None:
    event = f"batch/mixed/{uuid4()}"
    answer = send(
        ada,
        [
            record(event, b"0"),
            record(event, b"1", b',"timestamp":4102444800.50'),
            record(event, b"2", b',"published":true'),
            record(event, b"3", b',"timestamp":1.5e9'),
        ],
    )
    now, later, quiet, past = answer.json()
    assert '"timestamp":4102444800.50,"published":false' in answer.text
    assert '"timestamp":1.5e9,"published":true' in answer.text
    assert later["id"] is quiet["id"] is None
    assert (later["published"], quiet["published"]) == (False, True)
    first, second = positions([now, past])
    assert second == first + 1
    assert log(ada, event) == [now, later, quiet, past]
    assert ada.post(f"/cancel/{later['uuid']}").status_code == 200


@both
@pytest.mark.parametrize(
    "data",
    [
        b"1e400", b"-0", b"[1E+5,0.10]", b"123456789012345678901234567890", b"null", b'{"b":1,"a":2,"b":3}',
        rb'"\ud800"', rb'{"\udc00":"\\ud800\ud83d\ude00"}', rb'"\/\u0041\n"', '"\u2028\x85\x7fé🦀"'.encode(),
        b'["[[{{\\"]],","{"]',
    ],
)  # fmt: skip
def test_data_is_kept_as_it_was_sent(ada: httpx.Client, send: Send, data: bytes) -> None:
    event = f"batch/data/{uuid4()}"
    answer = send(ada, [record(event, b'" a "'), record(event, b" \t" + data + b" "), record(event, rb'"\uDFFF"')])
    assert answer.status_code == 201
    kept = [b'" a "', data, rb'"\uDFFF"']
    for content in (answer.content, ada.get(f"/collections/{event}").content):
        assert content.count(b'"data":') == 3
        assert all(b'"data":%b,"id":' % each in content for each in kept)


@both
def test_with_return_minimal_each_is_uuid_and_id(ada: httpx.Client, send: Send) -> None:
    event = f"batch/minimal/{uuid4()}"
    answer = send(ada, [record(event), record(event, b"2", b',"published":true')], Prefer="return=minimal")
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == [{"uuid": each["uuid"], "id": each["id"]} for each in log(ada, event)]


@both
def test_a_batch_sent_again_answers_the_first_records(ada: httpx.Client, send: Send) -> None:
    event = f"batch/again/{uuid4()}"
    batch = [record(event, b"%d" % n, known(uuid4())) for n in range(5)]
    first = send(ada, batch[:3])
    longer = send(ada, [*batch[2:], batch[4]])
    again = send(ada, batch)
    assert [each.status_code for each in (first, longer, again)] == [201, 201, 200]
    assert longer.json()[0] == first.json()[2]
    assert longer.json()[2] == longer.json()[3]
    assert again.json() == [*first.json(), *longer.json()[1:3]] == log(ada, event)


# The form of the body


@pytest.mark.parametrize(
    "body",
    [b"%b\n%b", b"%b\n%b\n", b"%b\r\n%b\r\n", b"\n\n%b\n\r\n \t \n%b\n\n", b" %b \r\n\t%b"],
)
def test_lines_may_be_blank_and_end_as_they_like(ada: httpx.Client, body: bytes) -> None:
    event = f"batch/lines/{uuid4()}"
    answer = ada.post("/insert", content=body % (record(event, b"1"), record(event, b"2")), headers=LINES)
    assert answer.status_code == 201
    assert [each["data"] for each in answer.json()] == [1, 2]


def test_an_array_may_have_white_space_around_and_within(ada: httpx.Client) -> None:
    body = b" \r\n\t[ %b ,\n%b ]\n" % (record("batch/white", b"[ 1 ]"), record("batch/white"))
    answer = post(ada, "/insert", body)
    assert answer.status_code == 201
    assert answer.text.startswith('[{"uuid":')
    assert '"data":[1],' in answer.text


@pytest.mark.parametrize(
    "content_type",
    ["application/x-ndjson", "Application/X-NDJSON; charset=UTF-8", 'application/x-ndjson;charset="utf-8"'],
)
def test_lines_of_utf8_are_a_supported_media_type(ada: httpx.Client, content_type: str) -> None:
    answer = ada.post("/insert", content=record("batch/type"), headers={"Content-Type": content_type})
    assert answer.status_code == 201
    assert len(answer.json()) == 1


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/ndjson"])
def test_any_other_media_type_is_refused_and_both_are_named(ada: httpx.Client, content_type: str) -> None:
    answer = ada.post("/insert", content=record("batch/type"), headers={"Content-Type": content_type})
    assert "Content-Type: application/json or application/x-ndjson" in problem(answer, 415)


def test_lines_are_for_inserts_only(server: ServerProcess) -> None:
    with server.client() as nobody:
        answer = nobody.post("/login", content=b'{"username":"ada","password":"x"}', headers=LINES)
        assert problem(answer, 415).endswith("Content-Type: application/json")


# What is refused


@both
@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (b"1", "expected `object`, got `int`"),
        (b"null", "expected `object`, got `null`"),
        (b"[[1]]", "expected `object`, got `array`"),
        (b'"text"', "expected `object`, got `str`"),
        (b"{}", "object missing required field `event`"),
        (b'{"event":"a"}', "object missing required field `data`"),
        (b'{"event":5,"data":1}', "event: expected `str`, got `int`"),
        (b'{"event":"a","data":1,"dta":1}', "object contains unknown field `dta`"),
        (b'{"event":"a","data":1,"a - at `$[9].b":1}', "object contains unknown field"),
        (b'{"event":"a","data":1,"published":1}', "published: expected `bool | null`, got `int`"),
        (
            b'{"event":"a","data":1,"timestamp":true}',
            'timestamp: expected a number of seconds since 1970, or a string such as "2030-01-01T12:00:00Z", got true',
        ),
        (
            b'{"event":"a","data":1,"timestamp":"2026-11-27T12:00:00"}',
            "timestamp: 2026-11-27T12:00:00 has no time zone",
        ),
        (b'{"event":"a","data":1,"timestamp":1700000000000}', "timestamp: 1700000000000 is after the year 9999"),
        (b'{"event":"a","data":1,"uuid":"7"}', "uuid: expected 36 characters"),
        (b'{"event":"$a","data":1}', BAD_NAMES["$ready"]),
        (rb'{"event":"a\ud800","data":1}', "event: half a surrogate pair is no character; take it out"),
        (b'{"event":"a","data":%b}' % (b"[" * 256 + b"]" * 256), "the JSON is nested more than 256 deep"),
        (b'{"event":"a","data":%b}' % (b"[" * 9999 + b"]" * 9999), "the JSON is nested more than 256 deep"),
    ],
)
def test_a_bad_record_is_named_and_nothing_is_stored(
    ada: httpx.Client, send: Send, place: int, bad: bytes, sentence: str
) -> None:
    event = f"batch/bad/{uuid4()}"
    batch = [record(event, b'"[{,"')] * 4
    batch.insert(place, bad)
    assert sentence in batch_problem(send(ada, batch), 400, place)
    assert log(ada, event) == []


@both
def test_of_several_bad_records_the_first_is_named_whatever_is_wrong_with_it(ada: httpx.Client, send: Send) -> None:
    bad = [record("$name"), record("a", more=b',"timestamp":"1"'), record("a", more=b',"uuid":"1"'), b"1"]
    for _ in bad:
        bad.append(bad.pop(0))
        batch_problem(send(ada, [record("batch/first"), *bad]), 400, 1)
    assert log(ada, "batch/first") == []


@both
def test_what_makes_no_sense_goes_before_what_is_in_conflict(ada: httpx.Client, send: Send) -> None:
    uuid = known(uuid4())
    assert insert(ada, "batch/sense", b"1", uuid).status_code == 201
    conflict = record("batch/sense", b"2", uuid)
    batch_problem(send(ada, [conflict, record("$name")]), 400, 1)
    batch_problem(send(ada, [conflict, record("a", more=b',"timestamp":"1"')]), 400, 1)
    batch_problem(send(ada, [conflict, record("a")]), 409, 0)


@both
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_known_uuid_with_anything_else_is_named_and_nothing_is_stored(
    ada: httpx.Client, send: Send, place: int
) -> None:
    event, uuid = f"batch/conflict/{uuid4()}", uuid4()
    assert insert(ada, f"{event}/known", more=known(uuid)).status_code == 201
    batch = [record(event)] * 4
    batch.insert(place, record(event, b"1", known(uuid)))
    assert str(uuid) in batch_problem(send(ada, batch), 409, place)
    assert log(ada, event) == []


def test_a_single_insert_has_no_index(ada: httpx.Client) -> None:
    uuid = known(uuid4())
    assert insert(ada, "batch/single", b"1", uuid).status_code == 201
    assert not problem(insert(ada, "batch/single", b"2", uuid), 409).startswith("record")
    assert problem(insert(ada, "$batch"), 400).startswith("event: ")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'[{"event":"batch/syntax","data":1},]', "the body is not JSON: trailing comma in array (byte 35)"),
        (b'[{"event":"batch/syntax","data":1}', "the body is not JSON: "),
        (b'[{"event":"batch/syntax","data":1}]]', "the body is not JSON: trailing characters (byte 36)"),
        (b'[{"event":"batch/syntax","data":1} {}]', "the body is not JSON: expected ',' or ']' (byte 35)"),
        (b'[1,{"event":"batch/syntax","data":NaN}]', "the body is not JSON: invalid character (byte 34)"),
        (rb'[{"event":"batch/syntax","data":"\ud800"},]', "the body is not JSON: trailing comma"),
        (b'[{"event":"batch/syntax","data":"\xff"}]', "the body is not UTF-8 (byte 33)"),
        (b"[", "the body is not JSON"),
    ],
)
def test_an_array_that_is_no_json_is_refused_and_the_byte_named(ada: httpx.Client, body: bytes, sentence: str) -> None:
    assert problem(post(ada, "/insert", body), 400).startswith(sentence)
    assert log(ada, "batch/syntax") == []


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b'{"event":"a","data":1', "the line is not JSON"),
        (b'{"event":"a","data":NaN}', "the line is not JSON: invalid character (byte 20)"),
        (b'{"event":"a",\n"data":1}', "the line is not JSON"),
        (b'{"event":"a","data":1} {"event":"a","data":1}', "the line is not JSON: trailing characters (byte 24)"),
        (b'{"event":"a","data":1},', "the line is not JSON: trailing characters (byte 23)"),
        (b'{"event":"a","data":"\xff"}', "the line is not UTF-8 (byte 21)"),
        (b"\x0c", "the line is"),
    ],
)
def test_a_line_that_is_no_json_is_named(ada: httpx.Client, line: bytes, sentence: str) -> None:
    answer = send_lines(ada, [record("batch/line"), b"", record("batch/line"), line, record("batch/line")])
    assert batch_problem(answer, 400, 2).startswith(sentence)
    assert log(ada, "batch/line") == []


@pytest.mark.parametrize(
    ("body", "headers"), [(b"[]", JSON), (b" [\n] ", JSON), (b"", LINES), (b"\r\n \n", LINES)], ids=str
)
def test_an_empty_batch_is_refused(ada: httpx.Client, body: bytes, headers: dict[str, str]) -> None:
    answer = ada.post("/insert", content=body, headers=headers)
    assert problem(answer, 400) == "the batch is empty; send one record or more"


def test_brackets_of_nothing_but_depth_are_refused(ada: httpx.Client) -> None:
    assert "nested more than 256 deep" in batch_problem(post(ada, "/insert", b"[" * 10_000), 400, 0)


# Bounds


@both
def test_more_than_batch_records_max_are_refused(ada: httpx.Client, send: Send) -> None:
    event = f"batch/many/{uuid4()}"
    detail = problem(send(ada, [record(event)] * 1001), 413)
    assert detail == "a batch of 1001 records; at most 1000 (batch_records_max): split it"
    assert "1001" in problem(send(ada, [record(event, rb'"\ud800"')] * 1001), 413)
    assert log(ada, event) == []


@both
def test_a_batch_has_the_same_bound_of_bytes_as_a_record(ada: httpx.Client, send: Send) -> None:
    batch = [record("batch/bytes", b'"%b"' % (b"x" * 100_000))] * 11
    assert "body_bytes_max" in problem(send(ada, batch), 413)
    assert send(ada, batch[:10]).status_code == 201


@both
def test_depth_is_counted_in_each_record_alone(ada: httpx.Client, send: Send) -> None:
    deepest = record("batch/deep", b"[" * 255 + b"]" * 255)
    assert send(ada, [deepest, record("batch/deep"), deepest]).status_code == 201
    wide = record("batch/wide", b"[" + b",".join([b'{"[":[]}'] * 300) + b"]")
    assert send(ada, [wide] * 100).status_code == 201


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with room for few event names."""
    with ServerProcess(
        tmp_path_factory.mktemp("small"), event_names_max=2, event_names_per_user_max=9, batch_records_max=5
    ) as running:
        yield running


@both
@pytest.mark.parametrize("place", [0, 2, 4])
def test_one_event_too_many_is_named_and_nothing_is_stored(small: ServerProcess, send: Send, place: int) -> None:
    with small.client("ada") as ada:
        for name in ("a", "b"):
            assert insert(ada, name).status_code == 201
        before = log(ada, "a")
        batch = [record("a")] * 4
        batch.insert(place, record("c"))
        assert "event_names_max" in batch_problem(send(ada, batch), 507, place)
        assert log(ada, "a") == before
        assert log(ada, "c") == []
        assert "at most 5 " in problem(send(ada, [record("a")] * 6), 413)


def test_a_batch_must_fit_the_queue() -> None:
    with pytest.raises(
        SettingsError, match=r"insert_queue_max \(argument\) is less than batch_records_max \(default\)"
    ):
        Settings(insert_queue_max=999)
    assert Settings(insert_queue_max=1000).batch_records_max == 1000


@pytest.mark.skipif(shutil.which("curl") is None, reason="install curl (Debian: apt install curl)")
def test_the_documented_commands_work_as_typed(tmp_path: Path) -> None:
    array, write, lines = (block.text for block in blocks(section(HTTP, "POST /insert"), "sh"))
    with ServerProcess(tmp_path / "data") as server:
        shell = Shell()
        shell.type(f"cd {tmp_path}; TOKEN={server.token('ada')}")
        assert shell.type(write) == ""
        answers = [
            json.loads(shell.type(each.strip().replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")))
            for each in (array, lines)
        ]
        shell.close()
    assert [each["data"] for each in answers[0]] == [{"percent": 20}, {"first_name": "Rusty"}]
    assert [each["data"] for each in answers[1]] == [{"percent": 30}, {"percent": 40}]
