from __future__ import annotations

import contextlib
import json
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from tests.support.answers import exchange, insert, problem, request_head
from tests.support.rules import apply_rules, give_roles, operate
from tests.support.samples import BAD_NAMES
from tests.support.servers import BOUND_S, ServerProcess

Records = list[dict[str, Any]]


def _inserted(client: httpx.Client, event: str, count: int) -> Records:
    return [insert(client, event, b"%d" % n).json() for n in range(count)]


@pytest.fixture(scope="module")
def seven(ada: httpx.Client) -> Records:
    return _inserted(ada, "log/seven", 7)


@pytest.mark.parametrize("alias", ["/collections", "/collection"])
def test_the_log_has_all_states_oldest_first(ada: httpx.Client, alias: str) -> None:
    event = f"log{alias}/states"
    fields = [b"", b',"timestamp":9e9', b',"timestamp":9e9', b',"published":true', b',"timestamp":-1']
    records = [insert(ada, event, more=more).json() for more in fields]
    records[2] = ada.post(f"/cancel/{records[2]['uuid']}").json()
    answer = ada.get(f"{alias}/{event}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert "link" not in answer.headers
    assert answer.json() == records
    assert [each["id"] is not None for each in records] == [True, False, False, False, True]


def test_an_empty_log_is_an_empty_array_and_no_lines(ada: httpx.Client) -> None:
    assert ada.get("/collections/log/none").json() == []
    assert ada.get("/collections/log/none?limit=5&order=desc").json() == []
    lines = ada.get("/collections/log/none", headers={"Accept": "application/x-ndjson"})
    assert (lines.status_code, lines.content) == (200, b"")


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/html, Application/X-NDJSON;q=0.9"])
def test_a_log_is_lines_if_asked_for(ada: httpx.Client, seven: Records, accept: str) -> None:
    answer = ada.get("/collections/log/seven", headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("}\n")
    assert [json.loads(line) for line in answer.text.splitlines()] == seven


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_a_log_larger_than_a_portion_is_whole(ada: httpx.Client, accept: str) -> None:
    event = f"log/large/{accept}"
    for _ in range(5):
        insert(ada, event, b'"%b"' % (b"x" * 700_000))
    answer = ada.get(f"/collections/{event}", headers={"Accept": accept})
    assert answer.headers["transfer-encoding"] == "chunked"
    records = answer.json() if accept.endswith("/json") else [json.loads(line) for line in answer.text.splitlines()]
    assert [len(record["data"]) for record in records] == [700_000] * 5


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_http_1_0_gets_no_chunks(server: ServerProcess, ada: httpx.Client, seven: Records, version: str) -> None:
    head = request_head(ada, f"GET /collections/log/seven HTTP/{version}", "Connection: close")
    answer, body = exchange(server, head)
    assert ("transfer-encoding: chunked" in answer.lower()) == (version == "1.1")
    if version == "1.0":
        assert json.loads(body) == seven


# Pages


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 3, 6, 7, 8, 1000])
@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_the_pages_are_the_log(ada: httpx.Client, seven: Records, order: str, limit: int, accept: str) -> None:
    found: Records = []
    address, pages = f"/collections/log/seven?limit={limit}&order={order}", 0
    while address:
        answer = ada.get(address, headers={"Accept": accept})
        page = answer.json() if accept.endswith("/json") else [json.loads(line) for line in answer.text.splitlines()]
        assert len(page) == min(limit, 7 - len(found))
        found += page
        pages += 1
        address = str(answer.url.join(answer.links["next"]["url"])) if "link" in answer.headers else ""
    assert found == (seven if order == "asc" else seven[::-1])
    assert pages == -(-7 // limit)


@pytest.mark.parametrize("event", ["a b", "é/名", "a?b=c&d", "a#b", "50%25", '"><;,', "/a//b/", "a+b", "...", "\ufffd"])
def test_any_name_finds_its_log_and_its_next_page(ada: httpx.Client, event: str) -> None:
    event = f"log/names/{uuid4()}/{event}"
    sent = [ada.post("/insert", json={"event": event, "data": n}).json() for n in range(2)]
    first = ada.get(f"/collections/{quote(event)}?limit=1")
    assert re.fullmatch(r"<[!-~]+>; rel=\"next\"", first.headers["link"])
    assert first.json() + ada.get(first.url.join(first.links["next"]["url"])).json() == sent


def test_the_next_page_is_relative_to_the_address_that_was_asked_for(ada: httpx.Client, seven: Records) -> None:
    """A proxy may have taken a prefix from it, of which nobody here knows."""
    for path in ("/collections/log/seven", "/collection/log/seven"):
        answer = ada.get(f"{path}?limit=1&order=desc")
        assert answer.headers["link"] == f'<?limit=1&after={seven[-1]["uuid"]}&order=desc>; rel="next"'
        behind = httpx.URL(f"https://live.example/prefix{path}?limit=1").join(answer.links["next"]["url"])
        assert behind.path == f"/prefix{path}"


def test_after_starts_behind_a_record_in_either_order(ada: httpx.Client, seven: Records) -> None:
    address = f"/collections/log/seven?after={seven[2]['uuid']}"
    assert ada.get(address).json() == seven[3:]
    assert ada.get(address + "&order=desc").json() == seven[1::-1]
    assert ada.get(address + "&limit=2").json() == seven[3:5]
    assert ada.get(f"/collections/log/seven?after={seven[-1]['uuid']}&limit=2").json() == []


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("limit=0", "limit: expected 1 to 1000"), ("limit=1001", "limit: expected 1 to 1000"),
        ("limit=-1", "limit: "), ("limit=", "limit: "), ("limit=1.5", "limit: "), ("limit=%D9%A1", "limit: "),
        ("limit=1%0A", "limit: "), ("limit=" + "9" * 5000, "limit: "),
        ("after=", "after: expected 36 characters"), ("after=7", "after: expected 36 characters"),
        ("after=515f6bb3-7f8f-4053-9658-f31120b25378", "after: this event has no record"),
        ("order=up", "order: expected asc"), ("order=DESC", "order: expected asc"),
        ("skip=1", "skip: there is no such parameter; use after"), ("Sort=1", "use order"), ("limits=1", "use limit"),
        ("_=1", "_: there is no such parameter; use limit, after, order"),
        ("offset=1", "offset: there is no such parameter; use after"), ("limit", "limit: "),
        ("limit=%FF", "UTF-8"), ("%C3=1", "UTF-8"), ("order=%ED%A0%80", "UTF-8"),
    ],
)  # fmt: skip
def test_a_bad_query_is_refused_and_named(ada: httpx.Client, query: str, sentence: str) -> None:
    assert sentence in problem(ada.get(f"/collections/log/seven?{query}"), 400)


def test_after_a_record_of_another_event_is_refused(ada: httpx.Client, seven: Records) -> None:
    assert "after: " in problem(ada.get(f"/collections/log/none?after={seven[0]['uuid']}"), 400)


# Names


@pytest.mark.parametrize("alias", ["/collections", "/collection"])
@pytest.mark.parametrize("name", [name for name in BAD_NAMES if "\ud800" not in name], ids=ascii)
def test_a_bad_event_name_is_refused(server: ServerProcess, ada: httpx.Client, alias: str, name: str) -> None:
    path = quote(name).replace(".", "%2E")  # else a client would rewrite the address
    answer, body = exchange(server, request_head(ada, f"GET {alias}/{path} HTTP/1.1"))
    assert answer.startswith("HTTP/1.1 400 ")
    assert "event: " in json.loads(body)["detail"] or "line break" in json.loads(body)["detail"]


@pytest.mark.parametrize("name", ["%FF", "a%C3", "%ED%A0%80", "%C0%80", "ok/%E9/%EF%BF%BD"])
def test_a_name_that_is_not_utf8_is_refused(ada: httpx.Client, name: str) -> None:
    assert "not percent-encoded UTF-8" in problem(ada.get(f"/collections/{name}"), 400)


def test_bytes_beyond_ascii_in_an_address_are_refused(server: ServerProcess, ada: httpx.Client) -> None:
    for address in (b"/collections/\xff", "/collections/é".encode(), b"/collections/a?order=\xff"):
        head = request_head(ada, "GET @ HTTP/1.1").replace(b"@", address)
        assert exchange(server, head)[0].startswith("HTTP/1.1 400 ")


def test_a_line_break_at_the_end_is_not_passed_over(ada: httpx.Client, seven: Records) -> None:
    assert "line break" in problem(ada.get("/collections/log/seven%0A"), 400)


def test_no_name_at_all_is_not_found_or_empty(ada: httpx.Client) -> None:
    problem(ada.get("/collections"), 404)
    assert "event: the name is empty" in problem(ada.get("/collections/"), 400)


@pytest.mark.parametrize("ends", ["the role", "the user"])
def test_a_client_that_reads_slowly_receives_little_behind_the_end_of_its_right(tmp_path: Path, ends: str) -> None:
    rules = 'roles = ["staff"]\n[[event]]\nname = "log/*"\nread = "@staff"\nlog = "@staff"\ninsert = "user"\n'
    with ServerProcess(tmp_path) as server, server.client("ada") as ada, server.client("bob") as bob:
        apply_rules(server, rules)
        give_roles(server, "bob", "staff")
        for _ in range(20):
            batch = [{"event": "log/1", "data": 10_000 * "x"}] * 100
            assert ada.post("/insert", json=batch).status_code == 201
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            slow.settimeout(BOUND_S)
            slow.connect(("127.0.0.1", server.port))
            token = f"Authorization: {bob.headers['authorization']}"
            slow.sendall(f"GET /collections/log/1 HTTP/1.1\r\nHost: x\r\n{token}\r\n\r\n".encode())
            received = slow.recv(4_000)
            assert received.startswith(b"HTTP/1.1 200")
            if ends == "the role":
                give_roles(server, "bob")
            else:
                (user,) = operate(server, "GET", "/users?name=bob")
                operate(server, "POST", f"/users/{user['id']}/disable")
            end = b""
            with contextlib.suppress(ConnectionResetError):
                while portion := slow.recv(1 << 20):
                    received, end = received + portion, portion[-9:]
        # What the system has accepted for the connection, and one portion, were on their way already.
        assert len(received) < 12_000_000
        assert not end.endswith(b"0\r\n\r\n"), "it looks like a complete response"
