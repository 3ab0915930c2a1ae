"""``GET /schema/{event}`` and ``GET /types.d.ts``. What they infer is in tests/unit, and tests/web/test_compiler.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message

from broker import Broker, Settings
from broker.errors import NotFound, Unavailable
from broker.names import Filter
from broker.records import NewRecord, make_uuid
from broker.users import OPERATOR
from broker.web.schema import Types
from tests.support.answers import exchange, insert, problem, request_head
from tests.support.documents import HTTP, blocks
from tests.support.servers import ServerProcess, streaming, wait_for

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAMES = 30_000


@pytest.fixture(scope="module")
def schemas(ada: httpx.Client) -> httpx.Client:
    """Events whose names begin with schema/."""
    insert(ada, "schema/user", b'{"name":"Rusty","age":3}')
    insert(ada, "schema/user", b'{"name":"Rusty","tags":[]}')
    insert(ada, "schema/user", b"null")
    insert(ada, "schema/user", b'"log only"', b',"published":true')
    later = insert(ada, "schema/user", b'"cancelled"', b',"timestamp":9e9').json()["uuid"]
    assert ada.post(f"/cancel/{later}").status_code == 200
    insert(ada, "schema/user", b'"later"', b',"timestamp":9e9')
    insert(ada, "schema/user", b'{"name":null,"age":4.5}')
    insert(ada, "schema/é 1/a", b'{"\\ud800":1}')
    insert(ada, "schema/é 1/b", b"1")
    insert(ada, "schema/gone", b"1")
    insert(ada, "schema/gone", b"null")
    return ada


def schema(client: httpx.Client, path: str) -> dict[str, Any]:
    answer = client.get(f"/schema/{path}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found.pop("$schema") == DIALECT
    return found


def test_the_schema_is_that_of_the_latest_version(schemas: httpx.Client) -> None:
    answer = schemas.get("/schema/schema/user")
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.headers["cache-control"] == "no-store"
    assert "Authorization, Cookie" in answer.headers.get_list("vary")
    assert answer.text.endswith("}\n")
    assert answer.json() == {
        "$schema": DIALECT,
        "title": "schema/user",
        "type": "object",
        "properties": {"age": {"type": "number"}, "name": {}},
        "required": ["age", "name"],
    }


def test_older_versions_that_were_published_widen_it(schemas: httpx.Client) -> None:
    second = schema(schemas, "schema/user?versions=2")
    assert second["properties"] == {
        "age": {"type": "number"}, "name": {"type": ["null", "string"]}, "tags": {"type": "array"},
    }  # fmt: skip
    assert second["required"] == ["name"]
    # Removals, pending, cancelled and log-only records are no versions.
    assert schema(schemas, "schema/user?versions=20") == second
    insert(schemas, "schema/versions", b"1")
    for data in (b'"x"', b"true", b"[]"):
        insert(schemas, "schema/versions", data)
    types = {count: schema(schemas, f"schema/versions?versions={count}") for count in (1, 2, 3, 4)}
    assert types[1]["type"] == "array"
    assert types[2]["anyOf"] == [{"type": "boolean"}, {"type": "array"}]
    assert types[3]["anyOf"] == [{"type": ["boolean", "string"]}, {"type": "array"}]
    assert types[4]["anyOf"] == [{"type": ["boolean", "integer", "string"]}, {"type": "array"}]


def test_a_prefix_merges_the_newest_of_its_events(schemas: httpx.Client) -> None:
    answer = schemas.get("/schema/schema/%C3%A9%201/*")
    assert answer.json()["title"] == "schema/é 1/*"
    assert answer.json()["anyOf"] == [
        {"type": "integer"},
        {"type": "object", "properties": {"\ud800": {"type": "integer"}}, "required": ["\ud800"]},
    ]
    assert "\\ud800" in answer.text
    for n in range(25):
        insert(schemas, f"schema-many/{n}", b'"old"' if n < 5 else b"1")
    assert schema(schemas, "schema-many/*")["type"] == "integer"
    assert schema(schemas, "*")["title"] == "*"


@pytest.mark.parametrize("path", ["schema/none", "schema/gone", "schema/none/*"])
def test_without_state_there_is_no_schema(schemas: httpx.Client, path: str) -> None:
    assert "has state" in problem(schemas.get(f"/schema/{path}"), 404)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("user?versions=0", "from 1 to 20"),
        ("user?versions=21", "from 1 to 20"),
        ("user?versions=x", "from 1 to 20"),
        ("user?versions=%D9%A1", "from 1 to 20"),
        ("user?versions=1&versions=2", "one number"),
        ("user/*?versions=2", "for one event"),
        ("user?version=2", "use versions"),
        ("user?other=2", "no such parameter"),
        ("$rules", "reserved"),
        ("", "empty"),
        ("a*b", "no *"),
        ("%FF", "not percent-encoded UTF-8"),
    ],
)
def test_what_is_wrong_is_said(ada: httpx.Client, path: str, sentence: str) -> None:
    assert sentence in problem(ada.get(f"/schema/{path}"), 400)


def test_the_declarations_are_text_that_a_browser_shows(schemas: httpx.Client) -> None:
    answer = schemas.get("/types.d.ts")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "Authorization, Cookie" in answer.headers.get_list("vary")
    assert answer.text.startswith("// The types of ")
    assert answer.text.endswith("}\n")
    assert "http" not in answer.text.partition("\ninterface")[0]
    assert "[name: `schema/é 1/${string}`]" in answer.text
    assert "schema/gone" not in answer.text
    assert len(answer.content) == int(answer.headers["content-length"])


@pytest.mark.parametrize("path", ["/schema/schema/user", "/types.d.ts"])
def test_the_tag_is_of_the_state_and_the_id_is_what_a_stream_resumes_from(
    server: ServerProcess, schemas: httpx.Client, path: str
) -> None:
    first = schemas.get(path)
    known = {"If-None-Match": first.headers["etag"]}
    again = schemas.get(path, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert {again.headers[name] for name in ("etag", "last-event-id")} == {
        first.headers["etag"], first.headers["last-event-id"],
    }  # fmt: skip
    insert(schemas, "schema/other", b'"next"')
    after = schemas.get(path, headers=known)
    assert (after.status_code, after.headers["etag"] != first.headers["etag"]) == (200, True)
    with streaming(server, "/events?event=schema/other", last_id=first.headers["last-event-id"]) as stream:
        frames = stream.wait("$ready")
    assert [frame.data for frame in frames if frame.event == "schema/other"] == ['"next"']


@pytest.mark.parametrize("path", ["/schema/schema/user", "/types.d.ts"])
def test_head_and_http_1_0_are_answered(server: ServerProcess, schemas: httpx.Client, path: str) -> None:
    answer = schemas.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    body = exchange(server, request_head(schemas, f"GET {path} HTTP/1.0"))[1]
    assert body == schemas.get(path).text


@pytest.mark.parametrize("path", ["/schema/user", "/types.d.ts"])
def test_readers_are_those_of_the_state(server: ServerProcess, tmp_path: Path, path: str) -> None:
    with server.client() as anyone:
        assert anyone.get(path).status_code in (200, 404)
        assert "token" in problem(anyone.get(path, headers={"Authorization": "Bearer x.y.z"}), 401)
    with ServerProcess(tmp_path, events_public="no") as closed, closed.client() as anyone, closed.client("ada") as ada:
        insert(ada, "user")
        assert "token" in problem(anyone.get(path), 401)
        assert ada.get(path).status_code == 200


def test_the_examples_of_the_documents_are_what_is_inferred(tmp_path: Path) -> None:
    (schema,) = [block.text for block in blocks(HTTP, "json") if "$schema" in block.text]
    (types,) = [block.text for block in blocks(HTTP, "ts") if "interface" in block.text]
    with ServerProcess(tmp_path) as server, server.client("ada") as client:
        insert(client, "user", b'{"first_name":"Rusty","age":3,"nick":null}')
        assert client.get("/schema/user").json() == json.loads(schema)
        insert(client, "user", b'{"first_name":"Rusty","tags":[]}')
        for event, data in (("7", b'{"amount":1}'), ("8", b'{"amount":1,"note":"x"}'), ("total", b"2")):
            insert(client, f"orders/{event}", data)
        assert client.get("/types.d.ts").text.endswith(types)


# Many names


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, httpx.Client]]:
    """A server with many events, in no family."""
    with ServerProcess(tmp_path_factory.mktemp("full")) as server, server.client("ada") as ada:
        for start in range(0, NAMES, 1_000):
            batch = [
                {"event": f"event number {n}", "data": {"n": n, "tags": ["x"]}} for n in range(start, start + 1_000)
            ]
            ada.post("/insert", json=batch, headers={"Prefer": "return=minimal"}).raise_for_status()
        yield server, ada


def test_many_names_do_not_keep_other_requests_waiting(full: tuple[ServerProcess, httpx.Client]) -> None:
    server, ada = full
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(ada.get("/types.d.ts")))
    waits = []
    with server.client() as other:
        other.get("/healthz")
        began = time.monotonic()
        thread.start()
        while thread.is_alive():
            asked = time.monotonic()
            other.get("/healthz")
            waits.append(time.monotonic() - asked)
        took = time.monotonic() - began
    print(
        f"{NAMES:,} names: {took:.2f} s; meanwhile {len(waits)} other requests, which took "
        f"{1_000 * sorted(waits)[len(waits) // 2]:.1f} ms at the median and {1_000 * max(waits):.1f} ms at most"
    )
    assert f"{NAMES - 2_000} more names are left out" in answers[0].text
    assert len(waits) > 20
    assert max(waits) < 1


def test_the_declarations_are_made_once_for_all_who_ask_at_the_same_time(
    full: tuple[ServerProcess, httpx.Client],
) -> None:
    server, ada = full
    insert(ada, "event number 1", b"1")
    began = time.monotonic()
    text = ada.get("/types.d.ts").text
    one = time.monotonic() - began
    insert(ada, "event number 1", b'"x"')
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(httpx.get(f"{server.url}/types.d.ts", timeout=60).text))
        for _ in range(20)
    ]
    began = time.monotonic()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    took = time.monotonic() - began
    print(f"one request took {one:.2f} s, 20 at the same time {took:.2f} s")
    assert len(set(texts)) == 1
    assert texts[0] != text
    assert took < 5 * one + 2


def test_the_server_stops_while_declarations_are_made(full: tuple[ServerProcess, httpx.Client]) -> None:
    """It does not wait for their end. This is the last test of this server."""
    server, ada = full
    insert(ada, "event number 1", b"true")
    asking = threading.Thread(target=lambda: _ignoring_errors(f"{server.url}/types.d.ts"))
    asking.start()
    wait_for(lambda: httpx.get(f"{server.url}/healthz").status_code == 200)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 10
    asking.join()


def _ignoring_errors(url: str) -> None:
    with contextlib.suppress(httpx.HTTPError):
        httpx.get(url)


# Without HTTP


@pytest.mark.anyio
async def test_the_use_cases_return_the_id_of_the_state(tmp_path: Path) -> None:
    broker = Broker(Settings(data=tmp_path))
    async with broker.lifespan():
        with pytest.raises(NotFound):
            await broker.types.schema(Filter.parse(["a"], 1), "a", OPERATOR)
        assert (await broker.types.declarations(OPERATOR))[0] == broker.state_id()
        for data in (b"1", b'"x"'):
            await broker.insert([NewRecord(make_uuid(1), "a", data, "ada")], OPERATOR)
        event_id, found = await broker.types.schema(Filter.parse(["a"], 1), "a", OPERATOR, 2)
        assert event_id == broker.state_id()
        assert json.loads(found) == {"$schema": DIALECT, "title": "a", "type": ["integer", "string"]}
    with pytest.raises(Unavailable):
        await broker.types.schema(Filter.parse(["a"], 1), "a", OPERATOR, 2)
    found = (await broker.types.schema(Filter.parse(["a"], 1), "a", OPERATOR))[1]
    assert json.loads(found) == {"$schema": DIALECT, "title": "a"}  # it stops at once


@pytest.mark.anyio
async def test_callers_are_refused_when_too_many_wait(tmp_path: Path) -> None:
    broker = Broker(Settings(data=tmp_path, long_requests_max=8))
    async with broker.lifespan():
        await broker.insert([NewRecord(make_uuid(1), "a", b"1", "ada")], OPERATOR)
        clients = ["192.0.2.1"] * 6 + ["192.0.2.2"] * 6
        asked = [broker.types.schema(Filter.parse(["a"], 1), "a", OPERATOR, client=client) for client in clients]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(each, Unavailable) for each in found] == 2 * ([False] * 4 + [True] * 2)
        asked = [broker.types.schema(Filter.parse(["a"], 1), "a", OPERATOR) for _ in range(10)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(each, Unavailable) for each in found] == [False] * 8 + [True] * 2


@pytest.mark.anyio
async def test_the_schema_of_large_samples_that_differ_much_is_bounded(tmp_path: Path) -> None:
    """Each of these is just small enough, and no two have a key in common."""
    broker = Broker(Settings(data=tmp_path))
    async with broker.lifespan():
        for n in range(20):
            data: dict[str, Any] = {"zz": "s", "k": {f"x{n}_{at}": [] for at in range(400)}}
            for _ in range(27):
                data = {"a": data}
            await broker.insert([NewRecord(make_uuid(1), f"p/{n}", json.dumps(data).encode(), "ada")], OPERATOR)
        began = time.monotonic()
        _, found = await broker.types.schema(Filter.parse(["p/*"], 1), "p/*", OPERATOR)
        print(f"{len(found)} bytes in {time.monotonic() - began:.2f} s")
        assert len(found) < 1_000_000


@pytest.mark.anyio
async def test_a_client_that_does_not_read_is_given_up(tmp_path: Path) -> None:
    broker = Broker(Settings(data=tmp_path, subscriber_stall_s=0.05))
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) > 2:
            await asyncio.Event().wait()

    async with broker.lifespan():
        data = json.dumps({f"field number {n}": [[], n, "x"][n % 3] for n in range(400)}).encode()
        await broker.insert([NewRecord(make_uuid(1), f"event {n}", data, "ada") for n in range(20)], OPERATOR)
        with pytest.raises(Unavailable, match="does not read"):
            await Types(broker).declarations({"headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start"] + ["http.response.body"] * 2
    assert len(sent[1]["body"]) == 65_536


async def receive() -> Message:
    raise AssertionError("there is no body to read")
