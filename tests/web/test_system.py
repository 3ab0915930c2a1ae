from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.support.answers import insert, problem
from tests.support.servers import ServerProcess

TOKEN = "a token for metrics"


@pytest.fixture(scope="module")
def nobody(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server with a token for its metrics."""
    with ServerProcess(tmp_path_factory.mktemp("guarded"), metrics_token=TOKEN) as running, running.client() as client:
        yield client


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_token(nobody: httpx.Client, path: str) -> None:
    answer = nobody.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/docs",
        "/openapi.json",
        "/metrics",
        "/users/me",
        "/collections/system",
        "/collection/system",
    ],
)  # fmt: skip
def test_head_is_answered_as_get_without_the_body(ada: httpx.Client, path: str) -> None:
    """Monitors and `wget --spider` ask for it (RFC 9110, section 9.1)."""
    insert(ada, "system")
    with ada.stream("GET", path) as whole:
        headers = dict(whole.headers)
    answer = ada.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    for name in ("content-type", "cache-control", "vary"):
        assert answer.headers.get(name) == headers.get(name)
    assert ada.head(path).status_code == 200  # on the same connection


@pytest.mark.parametrize("path", ["/users/me", "/collections/system"])
def test_head_is_refused_as_get(nobody: httpx.Client, path: str) -> None:
    assert (nobody.head(path).status_code, nobody.head(path).content) == (401, b"")
    assert nobody.head("/nothing").status_code == 404


def test_metrics_are_prometheus_text_for_this_machine(nobody: httpx.Client, ada: httpx.Client) -> None:
    position = int(insert(ada, "system").json()["id"].rpartition("-")[2])
    answer = nobody.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert re.fullmatch(r"(# TYPE (\w+) (gauge|counter)\n(\2({\w+=\"\w+\"})? \d+\n)+)+", answer.text)
    found = dict(line.split() for line in answer.text.splitlines() if not line.startswith("#"))
    assert int(found["broker_position"]) >= position


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
def test_metrics_are_not_for_who_comes_through_a_proxy(nobody: httpx.Client, name: str) -> None:
    assert "for this machine" in problem(nobody.get("/metrics", headers={name: "127.0.0.1"}), 403)


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer  {TOKEN}"])
def test_metrics_are_for_whom_has_the_token(guarded: httpx.Client, authorization: str) -> None:
    headers = {"X-Forwarded-For": "192.0.2.1", "Authorization": authorization}
    assert guarded.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", TOKEN, f"Basic {TOKEN}", "Bearer é"]
)
def test_metrics_are_not_for_a_wrong_token(guarded: httpx.Client, authorization: str) -> None:
    headers = [(b"X-Forwarded-For", b"192.0.2.1"), (b"Authorization", authorization.strip().encode("latin-1"))]
    answer = guarded.get("/metrics", headers=headers)
    problem(answer, 403)
    assert TOKEN not in answer.text


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer x"])
def test_without_a_metrics_token_none_is_right(nobody: httpx.Client, authorization: str | None) -> None:
    headers = {"Forwarded": "for=192.0.2.1"} | ({} if authorization is None else {"Authorization": authorization})
    problem(nobody.get("/metrics", headers=headers), 403)
