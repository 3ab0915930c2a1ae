from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.answers import exchange
from tests.support.servers import ServerProcess

ORIGIN = {"Origin": "http://localhost:3000"}
CALLS = [
    ("GET", "/healthz", 200),
    ("GET", "/users/me", 200),
    ("GET", "/collections/cors", 200),
    ("POST", "/insert", 415),
    ("GET", "/cancel/515f6bb3-7f8f-4053-9658-f31120b25378", 404),
    ("GET", "/nothing", 404),
    ("GET", "/collections/$x", 400),
    ("DELETE", "/insert", 405),
    ("OPTIONS", "/insert", 405),
    ("HEAD", "/events", 200),
    ("GET", "/docs", 200),
    ("GET", "/metrics", 200),
]


@pytest.mark.parametrize(("method", "path", "status"), CALLS)
def test_a_page_of_the_origin_may_read_every_answer(ada: httpx.Client, method: str, path: str, status: int) -> None:
    answer = ada.request(method, path, headers=ORIGIN)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert answer.headers["access-control-expose-headers"] == "Date, ETag, Last-Event-ID, Link, Retry-After"
    assert answer.headers["vary"] == "Origin"
    assert answer.headers["access-control-allow-credentials"] == "true"  # for it is listed: test_cookies.py


@pytest.mark.parametrize(("method", "path", "status"), CALLS)
@pytest.mark.parametrize(
    "origin",
    [None, "http://localhost:3001", "https://localhost:3000", "http://localhost:3000.evil.example", "null", ""],
)
def test_any_other_page_may_read_none_and_no_cache_mixes_them_up(
    ada: httpx.Client, method: str, path: str, status: int, origin: str | None
) -> None:
    answer = ada.request(method, path, headers={} if origin is None else {"Origin": origin})
    assert answer.status_code == status
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert answer.headers["vary"] == "Origin"


def test_a_401_may_be_read_too(server: ServerProcess) -> None:
    with server.client() as nobody:
        answer = nobody.post("/insert", headers=ORIGIN)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "http://localhost:3000")


@pytest.mark.parametrize("path", ["/insert", "/users", "/login", "/events", "/collections/a", "/cancel/x", "/nothing"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_preflight_needs_no_token_and_names_what_is_allowed(server: ServerProcess, path: str, method: str) -> None:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization,content-type"}
    with server.client() as nobody:
        answer = nobody.options(path, headers=ORIGIN | asked)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert method in answer.headers["access-control-allow-methods"].split(", ")
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert allowed == ["Authorization", "Content-Type", "Last-Event-ID", "Prefer", "Cache-Control", "If-None-Match"]
    assert answer.headers["vary"] == "Origin"


def test_a_preflight_of_another_page_is_not_allowed(server: ServerProcess) -> None:
    with server.client() as nobody:
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        answer = nobody.options("/insert", headers=asked)
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "Origin"


def test_a_stream_has_the_headers(server: ServerProcess) -> None:
    with server.client() as client, client.stream("GET", "/events?event=cors", headers=ORIGIN) as answer:
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert answer.headers["vary"] == "Origin"


def test_no_header_comes_twice(server: ServerProcess) -> None:
    head, _ = exchange(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\nOrigin: http://localhost:3000\r\n\r\n")
    names = [line.partition(":")[0].lower() for line in head.split("\r\n")[1:] if line]
    assert len(names) == len(set(names))


@pytest.fixture(scope="module")
def anyone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("anyone"), "--origin", "*") as running:
        yield running


def test_any_origin_is_a_star_and_never_with_credentials(anyone: ServerProcess) -> None:
    with anyone.client() as client:
        for path in ("/healthz", "/nothing"):
            answer = client.get(path, headers={"Origin": "http://any.example"})
            assert answer.headers["access-control-allow-origin"] == "*"
            assert answer.headers["vary"] == "Origin"
            assert "access-control-allow-credentials" not in answer.headers


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for pages of two origins, one written as a browser would not send it, and with headers of their own."""
    given = ("--origin", "http://a.example", "--origin", "HTTPS://M\u00fcnchen.example:443")
    headers = ("--allow-header", "baggage", "--allow-header", "X-Requested-With", "--allow-header", "content-type")
    with ServerProcess(tmp_path_factory.mktemp("several"), *given, *headers) as running:
        yield running


def test_several_origins_are_each_answered_with_themselves(several: ServerProcess) -> None:
    with several.client() as client:
        for origin in ("http://a.example", "https://xn--mnchen-3ya.example"):
            assert client.get("/healthz", headers={"Origin": origin}).headers["access-control-allow-origin"] == origin


def test_further_headers_are_allowed_each_once(several: ServerProcess) -> None:
    with several.client() as client:
        asked = {"Origin": "http://a.example", "Access-Control-Request-Method": "POST"}
        allowed = client.options("/insert", headers=asked).headers["access-control-allow-headers"].split(", ")
    assert allowed[-2:] == ["baggage", "X-Requested-With"]
    assert len({name.lower() for name in allowed}) == len(allowed)
    assert "Content-Type" in allowed


def test_without_an_origin_every_port_of_this_machine_is_allowed(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, server.client() as client:
        for origin in ("http://localhost:3000", "http://127.0.0.1:5173", "http://localhost"):
            answer = client.get("/healthz", headers={"Origin": origin})
            assert answer.headers["access-control-allow-origin"] == origin
        for origin in ("https://localhost:3000", "http://localhost:3000.evil.example", "http://app.example", "null"):
            answer = client.get("/healthz", headers={"Origin": origin})
            assert "access-control-allow-origin" not in answer.headers


def test_none_allows_no_page(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "--origin", "none") as server, server.client() as client:
        answer = client.get("/healthz", headers=ORIGIN)
        assert "access-control-allow-origin" not in answer.headers


def test_the_log_says_once_which_page_was_refused(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, server.client() as client:
        for origin in ("http://app.example", "http://app.example", server.url, "null"):
            client.get("/healthz", headers={"Origin": origin})
        client.get("/healthz", headers={b"Origin": b"http://\x9b31m.example"})  # a terminal would turn red
        server.wait_for_log("31m")
        assert server.stop() == 0
        (page,) = [line for line in server.log if "restart with --origin 'http://app.example'" in line]
        assert "from 'http://app.example'" in page
        (colour,) = [line for line in server.log if "31m" in line]
        assert colour.count(r"'http://\x9b31m.example'") == 2
        (null,) = [line for line in server.log if "origin is null" in line]
        assert "serve it over http" in null
