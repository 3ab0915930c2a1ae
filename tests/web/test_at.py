"""``GET /snapshot?at=``: the state as it was, and as it will be."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.support.answers import follow, insert, problem
from tests.support.postgres import options_of
from tests.support.servers import ServerProcess, streaming

Records = list[dict[str, Any]]
SOON, LATER, FAR = 9_000_000_000, 9_000_000_100, 9_000_000_200  # epoch seconds


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("at"), *options_of(request.param, request)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client("ada") as client:
        yield client


@pytest.fixture(scope="module")
def log(client: httpx.Client) -> Records:
    """Six records, each of them published at another time, and what is pending after them."""
    records = []
    for event, data, more in (
        ("b", b'{"n":1.50}', b""),
        ("a", b"2", b',"until":%d' % LATER),
        ("b", b"3", b""),
        ("é 1", b"4", b""),
        ("a", b"null", b""),
        ("a", b"6", b',"until":%d' % LATER),
    ):
        records.append(insert(client, event, data, more).json())
        time.sleep(0.002)  # so that the next one is published at another time
    insert(client, "b", b"7", b',"timestamp":%d,"until":%d' % (SOON, FAR))
    insert(client, "new", b"8", b',"timestamp":%d' % LATER)
    return records


def at(record: dict[str, Any]) -> str:
    return f"/snapshot?at={record['published_at']}"


def test_the_state_at_each_moment_is_what_had_been_published(client: httpx.Client, log: Records) -> None:
    state: dict[str, dict[str, Any]] = {}
    for record in log:
        state[record["event"]] = record
        answer = client.get(at(record))
        assert answer.json() == [state[name] for name in sorted(state) if state[name]["data"] is not None]
        assert answer.headers["last-event-id"] == record["id"]
    assert '"data":{"n":1.50}' in client.get(at(log[0])).text
    before = client.get(f"/snapshot?at={log[0]['published_at'] - 1}")
    assert before.json() == []
    assert before.headers["last-event-id"].endswith("-0")


def test_a_moment_in_between_has_the_state_before_it(client: httpx.Client, log: Records) -> None:
    moment = (log[1]["published_at"] + log[2]["published_at"]) / 2
    assert client.get(f"/snapshot?at={moment:.6f}").json() == client.get(at(log[1])).json()


def test_the_state_of_now_is_the_snapshot_byte_by_byte(client: httpx.Client, log: Records) -> None:
    now, past = client.get("/snapshot"), client.get(f"/snapshot?at={time.time() - 0.001:.6f}")
    assert past.content == now.content
    assert past.headers["etag"] == now.headers["etag"]
    assert past.headers["last-event-id"] == now.headers["last-event-id"]


def test_a_time_may_be_written_as_a_date(client: httpx.Client, log: Records) -> None:
    date = datetime.fromtimestamp(log[2]["published_at"], UTC).isoformat(timespec="microseconds")
    assert "+00:00" in date
    assert client.get(f"/snapshot?at={date}").json() == client.get(at(log[2])).json()  # the + was not encoded


def test_an_unchanged_state_of_the_past_is_not_sent_again(client: httpx.Client, log: Records) -> None:
    tag = client.get(at(log[3])).headers["etag"]
    insert(client, "other", b"1")
    again = client.get(at(log[3]), headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(at(log[2]), headers={"If-None-Match": tag}).status_code == 200
    insert(client, "other", b"null")


@pytest.mark.parametrize("order", ["name", "newest"])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_pages_of_the_past_are_the_whole(client: httpx.Client, log: Records, order: str, limit: int) -> None:
    whole = client.get(f"{at(log[5])}&order={order}").json()
    assert len(whole) == 3
    assert follow(client, f"{at(log[5])}&order={order}&limit={limit}") == whole
    if order == "newest":
        assert [record["id"] for record in whole] == [log[5]["id"], log[3]["id"], log[2]["id"]]


def test_the_past_is_filtered_and_searched_and_comes_without_data(client: httpx.Client, log: Records) -> None:
    url = at(log[5])
    assert [each["event"] for each in client.get(f"{url}&event=a*&event=b").json()] == ["a", "b"]
    assert [each["event"] for each in client.get(f"{url}&search=É").json()] == ["é 1"]
    assert all("data" not in each for each in client.get(f"{url}&data=no").json())
    lines = client.get(url, headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line) for line in lines.text.splitlines()] == client.get(url).json()
    assert client.head(url).headers["etag"] == client.get(url).headers["etag"]


def test_a_stream_continues_from_the_state_of_the_past(
    server: ServerProcess, client: httpx.Client, log: Records
) -> None:
    with streaming(server, last_id=client.get(at(log[2])).headers["last-event-id"]) as reader:
        reader.wait("$ready")
        assert [frame.id for frame in reader.records()][:3] == [record["id"] for record in log[3:]]


def test_the_future_has_what_is_pending_and_not_what_will_have_ended(client: httpx.Client, log: Records) -> None:
    def data(time_s: int, **options: Any) -> dict[str, Any]:
        answer = client.get(f"/snapshot?at={time_s}&event=a&event=b&event=new", **options)
        assert "etag" not in answer.headers
        assert "last-event-id" not in answer.headers
        return {record["event"]: record["data"] for record in answer.json()}

    assert data(SOON - 1) == {"a": 6, "b": 3}
    assert data(SOON) == {"a": 6, "b": 7}
    assert data(LATER) == {"b": 7, "new": 8}
    assert data(FAR) == {"new": 8}
    record = client.get(f"/snapshot?at={SOON}&event=b").json()[0]
    assert (record["id"], record["published"], record["published_at"]) == (None, False, None)
    assert follow(client, f"/snapshot?at={LATER}&limit=1") == client.get(f"/snapshot?at={LATER}").json()


def test_a_reader_without_a_token_sees_the_future_without_what_is_pending(
    server: ServerProcess, client: httpx.Client, log: Records
) -> None:
    with server.client() as anonymous:
        state = anonymous.get(f"/snapshot?at={LATER}&event=a&event=b&event=new").json()
    assert [(record["event"], record["data"]) for record in state] == [("b", 3)]
    assert "user" not in state[0]


def test_the_future_has_come(client: httpx.Client) -> None:
    due = round(time.time() + 0.4, 3)
    insert(client, "soon", b"1", b',"until":%.3f' % (due + 1e6))
    insert(client, "soon", b"2", b',"timestamp":%.3f' % due)
    future = client.get(f"/snapshot?at={due}&event=soon").json()[0]
    while time.time() < due + 0.2:
        time.sleep(0.01)
    record = client.get("/snapshot?event=soon").json()[0]
    assert {**future, **{field: record[field] for field in ("id", "published", "published_at")}} == record
    assert client.get(f"/snapshot?at={due - 0.05:.3f}&event=soon").json()[0]["data"] == 1
    assert client.get(f"/snapshot?at={time.time():.3f}&event=soon").json()[0] == record


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("at=", "at: expected a number of seconds since 1970"),
        ("at=yesterday", "at: expected a number of seconds since 1970"),
        ("at=2030-01-01T12:00:00", "at: 2030-01-01T12:00:00 has no time zone"),
        ("at=1700000000000", "looks like milliseconds"),
        ("at=1&at=2", "at: it was given more than once"),
        (f"at={SOON}&order=newest", "leave order=newest out"),
        ("asof=1", "at"),
        ("time=1", "at"),
    ],
)
def test_what_is_no_time_is_refused(client: httpx.Client, query: str, says: str) -> None:
    assert says in problem(client.get(f"/snapshot?{query}"), 400)
