"""A real browser reads the stream and calls the API, from a page of another origin, with nothing but what it has."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page

from broker.records import make_uuid
from tests.support.pages import insert
from tests.support.samples import SAMPLES, insert_all
from tests.support.servers import ServerProcess, streaming, wait_for

RETRY_MS = 100


@pytest.fixture
def page(browser: Browser, origin: str) -> Iterator[Page]:
    page = browser.new_page()
    page.goto(origin)
    yield page
    page.close()


@pytest.fixture
def broker(tmp_path: Path, origin: str) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, "--origin", origin, retry_ms=RETRY_MS) as running:
        yield running


def page_waits(page: Page, condition: str) -> None:
    page.wait_for_function(condition, timeout=20_000, polling=20)


@contextmanager
def publishing(client: httpx.Client, event: str) -> Iterator[list[int]]:
    """Inserts 0, 1, 2 … in the background, each again until it is acknowledged; yields the list of those that are."""
    acknowledged: list[int] = []
    stop = threading.Event()
    failures: list[Exception] = []

    def publish() -> None:
        try:
            while not stop.is_set():
                body = {"event": event, "data": len(acknowledged), "uuid": str(make_uuid(time.time_ns() // 1_000_000))}
                wait_for(partial(_stored, client, body), what="an acknowledgement")
                acknowledged.append(len(acknowledged))
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield acknowledged
    finally:
        stop.set()
        thread.join()
    assert not failures, failures


def _stored(client: httpx.Client, body: dict[str, object]) -> bool:
    try:
        return client.post("/insert", json=body).status_code in (200, 201)
    except httpx.TransportError:
        return False


def _longer(items: list[int], than: int) -> bool:
    return len(items) > than


def test_a_page_gets_the_snapshot_and_then_every_event(page: Page, broker: ServerProcess) -> None:
    with broker.client("ada") as ada:
        insert(ada, "user", {"first_name": "old"})
        first = insert(ada, "user", {"first_name": "Rusty"})
        page.evaluate("url => listen(url, 'user')", f"{broker.url}/events")
        page_waits(page, "ready.length == 1")
        assert page.evaluate("got") == [[first, "user", '{"first_name":"Rusty"}']]
        assert page.evaluate("ready") == [first]
        second = insert(ada, "user", {"first_name": "Dusty"})
        page_waits(page, "got.length == 2")
        assert page.evaluate("got[1]") == [second, "user", '{"first_name":"Dusty"}']


def test_a_filter_holds_for_a_page(page: Page, broker: ServerProcess) -> None:
    with broker.client("ada") as ada:
        page.evaluate(
            "url => listen(url, 'orders/1', 'user', 'last')", f"{broker.url}/events?event=orders/*&event=last"
        )
        page_waits(page, "ready.length == 1")
        for event in ("user", "orders/1", "user", "last"):
            insert(ada, event, 1)
        page_waits(page, "got.some(each => each[1] == 'last')")
        assert [event for _, event, _ in page.evaluate("got")] == ["orders/1", "last"]


def test_data_arrives_in_a_page_to_the_character(page: Page, broker: ServerProcess) -> None:
    page.evaluate("url => listen(url, 'exact')", f"{broker.url}/events")
    page_waits(page, "ready.length == 1")
    with broker.client("ada") as ada:
        expected = insert_all(ada, "exact")
    page_waits(page, f"got.length == {len(expected)}")
    # The driver's own transport would not carry half a surrogate pair: the page compares.
    for index, (name, data) in enumerate(zip(SAMPLES, expected, strict=True)):
        assert page.evaluate("([index, data]) => got[index][2] === data", [index, data]), name
        assert page.evaluate("index => { JSON.parse(got[index][2]); return true }", index), name


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_page_misses_nothing_and_gets_nothing_twice_when_the_server_restarts(
    page: Page, broker: ServerProcess, number: signal.Signals
) -> None:
    page.evaluate("url => listen(url, 'tick')", f"{broker.url}/events")
    page_waits(page, "ready.length == 1")
    restarts = 3
    with broker.client("ada") as ada:
        with publishing(ada, "tick") as acknowledged:
            for restart in range(restarts):
                # Under way, and the page is reading.
                page_waits(page, f"ready.length == {restart + 1} && got.length > {50 * (restart + 1)}")
                status = broker.stop(number)
                assert status == (0 if number == signal.SIGTERM else -number)
                before = len(acknowledged)
                broker.start()
                wait_for(partial(_longer, acknowledged, before + 20), what="inserts after the restart")
            page_waits(page, f"ready.length == {restarts + 1}")
        last = insert(ada, "tick", "end")
        page_waits(page, f"got.at(-1)[0] == '{last}'")
        log = ada.get("/collections/tick").json()
    got = page.evaluate("got")
    assert [(each["id"], each["data"]) for each in log[:-1]] == [
        (event_id, int(data)) for event_id, _, data in got[:-1]
    ]
    assert [each["data"] for each in log[:-1]] == acknowledged, "each is stored once"
    assert [int(event_id.rpartition("-")[2]) for event_id, _, _ in got] == list(range(1, len(got) + 1))
    assert page.evaluate("opened") == restarts + 1
    print(f"\n{number.name}: {restarts} restarts, {len(got)} records, none missing, none twice")


def test_a_page_resumes_by_itself_when_records_went_in_while_it_was_away(page: Page, broker: ServerProcess) -> None:
    with broker.client("ada") as ada:
        insert(ada, "away", 0)
        page.evaluate("url => listen(url, 'away')", f"{broker.url}/events")
        page_waits(page, "ready.length == 1")
        broker.stop()
        page_waits(page, "failed.length > 0")
        # The server comes back on another port at first: the page is away, and records go in.
        port, broker.port = broker.port, 0
        broker.start()
    with broker.client("ada") as ada:
        for data in range(1, 4):
            insert(ada, "away", data)
    broker.stop()
    broker.port = port
    broker.start()
    page_waits(page, "ready.length == 2")
    assert [data for _, _, data in page.evaluate("got")] == ["0", "1", "2", "3"]
    assert set(page.evaluate("failed")) == {0}, "0 is CONNECTING: it never gave up"


def test_a_page_is_told_to_forget_what_it_has_when_the_log_is_another_one(
    page: Page, broker: ServerProcess, tmp_path: Path
) -> None:
    with broker.client("ada") as ada:
        insert(ada, "user", "old")
    page.evaluate("url => listen(url, 'user', '$reset', '$skipped')", f"{broker.url}/events")
    page_waits(page, "ready.length == 1")
    broker.stop()
    broker.data = tmp_path / "another"
    broker.start()
    page_waits(page, "ready.length == 2")
    with broker.client("ada") as ada:
        new = insert(ada, "user", "new")
    page_waits(page, "got.length == 3")
    assert [each[1:] for each in page.evaluate("got")] == [
        ["user", '"old"'],
        ["$reset", '{"reason":"unknown-id"}'],
        ["user", '"new"'],
    ]
    assert page.evaluate("got[2][0]") == new


def test_a_page_that_finds_the_server_full_comes_in_when_there_is_room(
    browser: Browser, origin: str, tmp_path: Path
) -> None:
    page = browser.new_page()
    page.goto(origin)
    with ServerProcess(tmp_path, "--origin", origin, retry_ms=RETRY_MS, subscribers_max=1) as broker:
        with streaming(broker) as other:
            other.wait("$ready")
            page.evaluate("url => listen(url, 'user')", f"{broker.url}/events")
            page_waits(page, "opened >= 3")
            assert page.evaluate("ready") == []
        page_waits(page, "ready.length == 1")
        assert set(page.evaluate("failed")) == {0}, "0 is CONNECTING: it never gave up"
    page.close()


def test_a_page_of_another_origin_signs_up_logs_in_inserts_and_cancels(page: Page, broker: ServerProcess) -> None:
    def call(method: str, path: str, *rest: object) -> Any:
        return page.evaluate("args => call(...args)", [method, broker.url + path, *rest])

    user = {"username": "grace", "password": "correct horse"}
    assert call("POST", "/users", {**user, "info": {"team": "navy"}})["status"] == 201
    token = call("POST", "/login", user)["body"]["jwt"]
    assert call("GET", "/users/me", None, token)["body"]["info"] == {"team": "navy"}
    page.evaluate("url => listen(url, 'form')", f"{broker.url}/events")
    page_waits(page, "ready.length == 1")

    inserted = call("POST", "/insert", {"event": "form", "data": {"n": 1}}, token)
    assert inserted["status"] == 201
    page_waits(page, "got.length == 1")
    assert page.evaluate("got[0][0]") == inserted["body"]["id"]

    later = call("POST", "/insert", {"event": "form", "data": {"n": 2}, "timestamp": time.time() + 3600}, token)
    assert later["body"]["published"] is False
    for method in ("POST", "GET"):
        cancelled = call(method, f"/cancel/{later['body']['uuid']}", None, token)
        assert cancelled["status"] == 200
        assert cancelled["body"]["cancelled"] is True

    # Errors are read by the page too, and the headers that it needs.
    refused = call("POST", f"/cancel/{inserted['body']['uuid']}", None, token)
    assert refused["status"] == 409
    assert "published already" in refused["body"]["detail"]
    assert call("POST", "/insert", {"event": "form", "data": 1})["status"] == 401
    assert call("POST", "/login", {**user, "password": "wrong horse"})["status"] == 401
    assert 'rel="next"' in call("GET", "/collections/form?limit=1", None, token)["link"]
    assert page.evaluate("got.length") == 1


def test_a_page_of_an_origin_that_was_not_given_is_kept_out(
    browser: Browser, origin: str, broker: ServerProcess
) -> None:
    page = browser.new_page()
    page.goto(origin.replace("127.0.0.1", "localhost"))
    page.evaluate("url => listen(url, 'user')", f"{broker.url}/events")
    page_waits(page, "failed.length > 0")
    assert page.evaluate("source.readyState") == 2, "closed"
    message = page.evaluate("url => fetch(url).catch(error => error.name)", f"{broker.url}/healthz")
    assert message == "TypeError"
    page.close()
