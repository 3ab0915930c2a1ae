"""``GET /pending``: what waits for its time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.answers import follow, insert, problem
from tests.support.postgres import options_of
from tests.support.servers import Frame, ServerProcess, StreamReader, streaming

Records = list[dict[str, Any]]
NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server on which nothing else is pending."""
    options = options_of(request.param, request)
    with ServerProcess(tmp_path_factory.mktemp("pending"), *options) as server, server.client("ada") as client:
        yield client


@pytest.fixture(scope="module")
def waiting(own: httpx.Client) -> Records:
    """By due time, and at the same time by number."""
    for event, due in (("a/1", 9000000003), ("b", 9000000001), ("a/2", 9000000002), ("b", 9000000001)):
        insert(own, event, b'{"n":1.50}', b',"timestamp":%d,"until":9000000009' % due)
    insert(own, "now")
    insert(own, "a/only", b"1", b',"timestamp":9000000000,"published":true')
    cancelled = insert(own, "a/3", b"1", b',"timestamp":9000000000').json()
    own.post(f"/cancel/{cancelled['uuid']}")
    logs = [record for event in ("b", "a/2", "a/1") for record in own.get(f"/collections/{event}").json()]
    assert len(logs) == 4
    return logs


def test_what_is_pending_is_listed_by_due_time(own: httpx.Client, waiting: Records) -> None:
    answer = own.get("/pending")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert "link" not in answer.headers
    assert answer.json() == waiting
    assert [each["published"] for each in answer.json()] == [False] * 4
    assert '"data":{"n":1.50}' in answer.text


def test_it_comes_as_lines_if_asked_for(own: httpx.Client, waiting: Records) -> None:
    answer = own.get("/pending", headers=NDJSON)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.text.splitlines()] == waiting


def test_a_filter_is_that_of_the_stream(own: httpx.Client, waiting: Records) -> None:
    assert own.get("/pending?event=a/*").json() == waiting[2:]
    assert own.get("/pending?event=b&event=a/1").json() == [*waiting[:2], waiting[3]]
    assert own.get("/pending?event=none").text == "[]\n"
    assert own.get("/pending?event=none", headers=NDJSON).text == ""


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 1000])
def test_the_pages_are_the_whole(own: httpx.Client, waiting: Records, limit: int) -> None:
    assert follow(own, f"/pending?limit={limit}") == waiting
    assert follow(own, f"/pending?limit={limit}&event=b&event=a/1") == [*waiting[:2], waiting[3]]


def test_a_page_says_where_the_next_one_is(own: httpx.Client, waiting: Records) -> None:
    link = own.get("/pending?event=b&limit=1").headers["link"]
    assert link == f'<?event=b&limit=1&after={waiting[0]["uuid"]}>; rel="next"'
    assert "link" not in own.get("/pending?event=b&limit=2").headers


def test_a_page_of_large_records_ends_early(own: httpx.Client, waiting: Records) -> None:
    for _ in range(7):
        insert(own, "large", b'"%b"' % (b"x" * 1_000_000), b',"timestamp":9000000009')
    first = own.get("/pending?event=large&limit=7")
    assert 1 < len(first.json()) < 7
    assert len(follow(own, "/pending?event=large&limit=7")) == 7
    assert len(own.get("/pending?event=large").json()) == 7
    for each in follow(own, "/pending?event=large&limit=7"):
        own.post(f"/cancel/{each['uuid']}")


def test_what_has_become_due_is_not_pending(own: httpx.Client, waiting: Records) -> None:
    record = insert(own, "soon", b"1", b',"timestamp":%f' % (time.time() + 0.3)).json()
    assert own.get("/pending?event=soon").json() == [record]
    while own.get("/pending?event=soon").json():
        time.sleep(0.02)
    assert own.get("/snapshot?event=soon").json()[0]["uuid"] == record["uuid"]
    assert own.get(f"/pending?after={record['uuid']}").json() == waiting  # it still says where it was


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("limit=0", "limit: expected 1 to 1000"), ("limit=1001", "limit: expected 1 to 1000"),
        ("after=7", "expected 36 characters"), ("after=515f6bb3-7f8f-4053-9658-f31120b25378", "after: no record has"),
        ("event=$ready", "reserved"), ("topic=a", "use event"), ("skip=1", "use after"), ("_=1", "no such parameter"),
    ],
)  # fmt: skip
def test_a_bad_query_is_refused_and_named(own: httpx.Client, query: str, sentence: str) -> None:
    assert sentence in problem(own.get(f"/pending?{query}"), 400)


def test_it_needs_a_token(server: ServerProcess) -> None:
    with server.client() as anyone:
        answer = anyone.get("/pending")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        problem(answer, 401)


def test_head_has_no_body(own: httpx.Client, waiting: Records) -> None:
    answer = own.head("/pending?limit=1")
    assert (answer.status_code, answer.content, "link" in answer.headers) == (200, b"", True)


# $pending


def hints(stream: StreamReader) -> list[Frame]:
    return [frame for frame in stream.frames if frame.event == "$pending"]


def bearer(client: httpx.Client) -> str:
    return f"Authorization: {client.headers['Authorization']}\r\n"


def test_a_stream_says_when_what_is_pending_has_changed(server: ServerProcess, ada: httpx.Client) -> None:
    with streaming(server, "/events?event=hint&pending=yes", headers=bearer(ada)) as stream:
        ready = stream.wait("$ready")[-1]
        insert(ada, "hint")
        stream.wait("hint")
        assert hints(stream) == []
        record = insert(ada, "another", b"1", b',"timestamp":9e9').json()
        stream.wait("$pending", 1)
        ada.post(f"/cancel/{record['uuid']}")
        stream.wait("$pending", 2)
        insert(ada, "hint", b"2", b',"timestamp":%f' % (time.time() + 2.5))
        stream.wait("$pending", 3)
        stream.wait("hint", 2)
        stream.wait("$pending", 4)
        assert [(frame.id, frame.data) for frame in hints(stream)] == [("", "{}")] * 4
        assert ready.id
        # The id that a client resumes from is still that of the last record.
        assert stream.last_id == next(frame.id for frame in reversed(stream.frames) if frame.event == "hint")


def test_many_changes_at_once_are_announced_once_a_second(server: ServerProcess, ada: httpx.Client) -> None:
    with streaming(server, "/events?event=hint&pending=yes", headers=bearer(ada)) as stream:
        stream.wait("$ready")
        began, inserted = time.monotonic(), 0
        while len(hints(stream)) < 3:
            insert(ada, "burst", b"1", b',"timestamp":9e9')
            inserted += 1
        assert time.monotonic() - began > 1.9
        assert inserted > 20


def test_a_stream_that_did_not_ask_is_not_told(server: ServerProcess, ada: httpx.Client) -> None:
    with (
        streaming(server, "/events?event=quiet", headers=bearer(ada)) as quiet,
        streaming(server, "/events?event=quiet&pending=yes", headers=bearer(ada)) as stream,
    ):
        stream.wait("$ready")
        quiet.wait("$ready")
        insert(ada, "another", b"1", b',"timestamp":9e9')
        stream.wait("$pending")
        insert(ada, "quiet")
        quiet.wait("quiet")
        assert hints(quiet) == []


def test_the_hint_may_be_asked_for_in_a_body(server: ServerProcess, ada: httpx.Client) -> None:
    with ada.stream("POST", "/events", json={"event": "quiet", "pending": "yes"}) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line == "event: $ready")
        insert(ada, "another", b"1", b',"timestamp":9e9')
        assert next(line for line in lines if line == "event: $pending")


def test_the_hint_needs_a_token(server: ServerProcess, ada: httpx.Client) -> None:
    with server.client() as anyone:
        problem(anyone.get("/events?pending=yes"), 401)
        problem(anyone.post("/events", json={"pending": "yes"}), 401)
    assert "pending: the only possible value is yes" in problem(ada.get("/events?pending=no"), 400)


def test_a_stream_of_the_hint_alone_has_no_records(server: ServerProcess, ada: httpx.Client) -> None:
    with (
        streaming(server, "/events?event=$pending", headers=bearer(ada)) as alone,
        streaming(server, "/events?event=$pending&event=hinted", headers=bearer(ada)) as both,
    ):
        ready = alone.wait("$ready")[-1]
        assert "denied" not in ready.data
        both.wait("$ready")
        insert(ada, "hinted")
        insert(ada, "another", b"1", b',"timestamp":9e9')
        alone.wait("$pending")
        both.wait("hinted")
        both.wait("$pending")
        assert [frame.event for frame in alone.frames if frame.data] == ["$ready", "$pending"]
    body = {"event": ["$pending", "hinted"], "new": ["$pending", "hinted"], "last_event_id": ready.id}
    with ada.stream("POST", "/events", json=body) as answer:
        assert next(line for line in answer.iter_lines() if line == "event: hinted")
    with server.client() as anyone:
        problem(anyone.get("/events?event=$pending"), 401)
