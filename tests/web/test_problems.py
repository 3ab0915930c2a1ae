from __future__ import annotations

import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.support.answers import exchange, insert, problem, request_head
from tests.support.servers import BOUND_S, ServerProcess, wait_for

ALLOWED = {
    "/insert": "POST",
    "/login": "POST",
    "/token": "POST",
    "/users": "GET, HEAD, POST",
    "/users/me/password": "POST",
    "/users/x/disable": "POST",
    "/logout": "POST",
    "/rights": "GET, HEAD",
    "/": "GET, HEAD",
    "/about": "GET, HEAD",
    "/users/me": "GET, HEAD",
    "/collections/a": "GET, HEAD",
    "/collection/a/b": "GET, HEAD",
    "/cancel/x": "GET, POST",
    "/cancel": "GET, POST",
    "/events": "GET, HEAD, POST",
    "/openapi.json": "GET, HEAD",
    "/docs": "GET, HEAD",
    "/healthz": "GET, HEAD",
    "/readyz": "GET, HEAD",
    "/metrics": "GET, HEAD",
}
NO_JSON = ("/", "/events", "/docs", "/metrics")


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


@pytest.mark.parametrize(
    ("method", "path"),
    [(method, path) for path in ALLOWED for method in METHODS if method not in ALLOWED[path].split(", ")],
)
def test_a_wrong_method_is_told_the_right_ones(ada: httpx.Client, method: str, path: str) -> None:
    allowed = ALLOWED[path]
    answer = ada.request(method, path)
    assert answer.headers["allow"] == allowed
    if method == "HEAD":
        assert (answer.status_code, answer.content) == (405, b"")
    else:
        assert problem(answer, 405) == f"{method} is not allowed here; use {allowed}"


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/insert/", "/users/", "/users/you", "/events/", "//", "/INSERT", "/collections", "/%00", "/%FF"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_address_is_not_found(ada: httpx.Client, method: str, path: str) -> None:
    answer = ada.request(method, f"{ada.base_url}{path}")  # from a path alone, httpx would make `/` of `//`
    assert "nothing at this URL" in problem(answer, 404)
    assert answer.json()["type"] == "urn:broker:problem:not-found"


def test_what_is_refused_is_refused_in_the_order_of_who_then_what(server: ServerProcess) -> None:
    with server.client() as nobody:
        problem(nobody.get("/insert"), 405)
        problem(nobody.post("/insert", content=b"x"), 401)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a password hash that no program wrote, so that ada's login fails in a way nobody foresaw."""
    data = tmp_path_factory.mktemp("broken")
    with ServerProcess(data, "--origin", "http://localhost:3000") as running:
        running.client("ada").close()
        with closing(sqlite3.connect(data / "broker.db")) as db:
            db.execute("UPDATE users SET password_hash = 'not a hash'")
            db.commit()
        yield running


def test_what_nobody_foresaw_is_a_problem_too_and_told_to_the_log_alone(broken: ServerProcess) -> None:
    with broken.client() as client:
        body = {"username": "ada", "password": "correct horse"}
        answer = client.post("/login", json=body, headers={"Origin": "http://localhost:3000"})
        assert problem(answer, 500) == "something went wrong in the server; its log says what"
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        wait_for(lambda: any("InvalidHash" in line for line in broken.log))
        assert any("POST '/login' failed" in line for line in broken.log)
        assert client.get("/healthz").status_code == 200


def test_half_an_answer_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, server.client("ada") as ada:
        for _ in range(16):
            assert insert(ada, "large", b'"%b"' % (b"x" * 1_000_000)).status_code == 201
        with ada.stream("GET", "/collections/large") as answer:
            assert answer.status_code == 200
            with closing(sqlite3.connect(tmp_path / "broker.db")) as db:
                db.execute("ALTER TABLE records RENAME TO gone")
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
                answer.read()
        problem(ada.get("/collections/large"), 503)


def test_a_client_that_leaves_within_its_body_is_no_failure(server: ServerProcess, ada: httpx.Client) -> None:
    begun = len(server.log)
    head = request_head(ada, "POST /insert HTTP/1.1", "Content-Type: application/json", "Content-Length: 100")
    with socket.create_connection(("127.0.0.1", server.port), BOUND_S) as sock:
        sock.sendall(head + b'{"event":"problems/left","data":')
    assert insert(ada, "problems/after").status_code == 201
    assert ada.get("/collections/problems/left").json() == []
    assert not any("failed" in line for line in server.log[begun:])


def test_every_answer_of_json_ends_with_a_line_feed(server: ServerProcess, ada: httpx.Client) -> None:
    """So that the prompt of a shell stands on a line of its own."""
    record = insert(ada, "problems/line-feed")
    answers = [
        record,
        insert(ada, ""),  # a problem
        ada.post("/insert", json=[{"event": "problems/line-feed", "data": 1}]),
        ada.post("/insert", json={"event": "a", "data": 1}, headers={"Prefer": "return=minimal"}),
        ada.post("/login", json={"username": "ada", "password": "correct horse"}),
        ada.post("/token"),
        ada.post("/users", json={"username": "problems-line-feed", "password": "correct horse"}),
        *(ada.get(path) for path in ALLOWED if "GET" in ALLOWED[path] and path not in NO_JSON),
    ]
    for answer in answers:
        assert answer.headers["content-type"] in ("application/json", "application/problem+json")
        assert answer.content.endswith(b"\n"), answer.request.url
        assert not answer.content.endswith(b"\n\n"), answer.request.url
    head, body = exchange(server, b"nonsense\r\n\r\n")  # refused before there is a request
    assert (head.split()[1], body[-1]) == ("400", "\n")


def test_requests_behind_a_refused_one_are_answered(server: ServerProcess, ada: httpx.Client) -> None:
    refused = request_head(ada, "POST /insert HTTP/1.1", "Content-Type: text/plain", "Content-Length: 2") + b"{}"
    with socket.create_connection(("127.0.0.1", server.port), BOUND_S) as sock, sock.makefile("rb") as answers:
        sock.sendall(refused + request_head(ada, "GET /healthz HTTP/1.1", "Connection: close"))
        text = answers.read().decode()
    assert re.findall(r"HTTP/1\.1 (\d+)", text) == ["415", "200"]
    assert text.endswith('{"status":"ok"}\n')


@pytest.mark.parametrize(
    "garbage", [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"\x16\x03\x01\r\n"]
)
def test_what_is_not_http_is_refused(server: ServerProcess, garbage: bytes) -> None:
    assert exchange(server, garbage)[0].startswith("HTTP/1.1 400 ")
