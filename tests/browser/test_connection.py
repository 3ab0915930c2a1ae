"""The client's connection in a real browser: devices that sleep, pages that are kept, tabs, rights, and the server's
ends. T numbers are those of tests/js/README.md."""

from __future__ import annotations

import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.support.documents import ROOT
from tests.support.relay import Relay
from tests.support.rules import apply_rules
from tests.support.servers import BOUND_S, ServerProcess, wait_for

PAGE = """<!doctype html><meta charset="utf-8"><title>page</title><p id="value"></p>
<script type="module">
  import { createBroker } from "/broker.js";
  const broker = (window.broker = createBroker(new URLSearchParams(location.search).get("at") ?? undefined));
  window.statuses = [];
  window.shows = 0;
  addEventListener("pageshow", ({ persisted }) => persisted && window.shows++);
  broker.event("value").subscribe((data) => (document.all.value.textContent = data ?? ""));
  broker.status.subscribe((status) => window.statuses.push((document.body.dataset.status = status)));
</script>"""
RULES = """
[[event]]
name = "value"
read = "public"
insert = "user"

[[event]]
name = "note/{who}"
read = "{who}"
insert = "{who}"
"""
LIVE = "document.body.dataset.status === 'live'"


@pytest.fixture(name="folder")
def make_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "index.html").write_text(PAGE)
    (folder / "elsewhere.html").write_text("<!doctype html><title>elsewhere</title>")
    return folder


def waits(page: Page, expression: str) -> None:
    page.wait_for_function(expression, timeout=1_000 * BOUND_S, polling=20)


def shows(page: Page, value: str) -> None:
    waits(page, f"document.all.value.textContent === '{value}'")


@contextmanager
def opened(browser: Browser, url: str) -> Iterator[Page]:
    """A page with a storage of its own, once it is live; it must not have raised an error."""
    context = browser.new_context()
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    waits(page, LIVE)
    yield page
    context.close()
    assert errors == []


def insert(server: ServerProcess, value: str) -> None:
    with server.client("ada") as ada:
        assert ada.post("/insert", json={"event": "value", "data": value}).status_code == 201


def subscribers(server: ServerProcess) -> int:
    with server.client() as nobody:
        found = re.search(r"^broker_subscribers (\d+)$", nobody.get("/metrics").text, re.MULTILINE)
    assert found
    return int(found[1])


def test_a_network_that_has_fallen_silent_during_a_sleep_is_noticed_after_it(
    browser: Browser, tmp_path: Path, folder: Path
) -> None:
    """T10, with a clock that jumps an hour."""
    with ServerProcess(tmp_path / "data", "--static", str(folder)) as server, Relay(server.port) as relay:
        context = browser.new_context()
        page = context.new_page()
        page.clock.install()
        page.goto(f"{server.url}/?at={relay.url}")
        waits(page, LIVE)
        insert(server, "before")
        shows(page, "before")
        relay.fall_silent()
        insert(server, "while it slept")
        page.clock.fast_forward("01:00:00")
        shows(page, "while it slept")
        insert(server, "after")
        shows(page, "after")
        context.close()


def test_a_token_is_renewed_after_eight_hours_of_sleep_before_the_stream_is_opened(
    browser: Browser, tmp_path: Path, folder: Path
) -> None:
    """T23, with a clock that jumps."""
    with ServerProcess(tmp_path / "data", "--static", str(folder), token_ttl_s=36_000) as server:
        context = browser.new_context()
        page = context.new_page()
        page.clock.install()
        page.goto(server.url)
        page.evaluate("broker.signUp('eve', 'correct horse')")
        waits(page, f"broker.user.get() && {LIVE}")
        paths: list[str] = []
        page.on("request", lambda request: paths.append(request.url.removeprefix(server.url)))
        with page.expect_request(f"{server.url}/events"):
            page.clock.fast_forward("08:00:00")
            page.evaluate("dispatchEvent(new Event('online'))")
        assert paths[:2] == ["/token", "/events"]
        page.evaluate("broker.event('value').set('renewed')")
        insert(server, "after")
        shows(page, "after")
        assert page.evaluate("broker.user.get()") == {"username": "eve"}
        context.close()


def test_a_page_that_the_browser_has_frozen_resumes_and_other_tabs_are_unharmed(
    browser: Browser, tmp_path: Path, folder: Path
) -> None:
    """T12."""
    with (
        ServerProcess(tmp_path / "data", "--static", str(folder)) as server,
        opened(browser, server.url) as page,
        opened(browser, server.url) as other,
    ):
        control = page.context.new_cdp_session(page)
        control.send("Page.setWebLifecycleState", {"state": "frozen"})
        insert(server, "meanwhile")
        shows(other, "meanwhile")
        control.send("Page.setWebLifecycleState", {"state": "active"})
        shows(page, "meanwhile")
        assert page.evaluate("broker.status.get()") == "live"


def test_a_page_that_was_kept_for_the_back_button_is_live_again(browser: Browser, tmp_path: Path, folder: Path) -> None:
    """T13. The browser of the other tests keeps no pages, because Playwright turns that off."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    keeping = browser.browser_type.launch(
        executable_path=program,
        args=["--no-sandbox", "--disable-gpu"],
        ignore_default_args=["--disable-back-forward-cache"],
    )
    with (
        ServerProcess(tmp_path / "data", "--static", str(folder)) as server,
        opened(keeping, server.url) as page,
    ):
        insert(server, "before")
        shows(page, "before")
        page.goto(f"{server.url}/elsewhere.html")
        wait_for(lambda: subscribers(server) == 0, what="the end of the stream")
        insert(server, "meanwhile")
        page.go_back(wait_until="commit")  # a kept page is not loaded
        shows(page, "meanwhile")
        assert page.evaluate("shows") == 1, "the page was loaded anew"
        assert subscribers(server) == 1
    keeping.close()


def test_a_browser_that_says_it_is_offline_is_not_believed(browser: Browser, tmp_path: Path, folder: Path) -> None:
    """T31."""
    with ServerProcess(tmp_path / "data", "--static", str(folder)) as server:
        context = browser.new_context()
        context.add_init_script("Object.defineProperty(Navigator.prototype, 'onLine', { get: () => false })")
        page = context.new_page()
        page.goto(server.url)
        assert page.evaluate("navigator.onLine") is False
        waits(page, LIVE)
        record = page.evaluate(
            "broker.signUp('eve', 'correct horse').then(() => broker.event('value').set('sent'))",
        )
        assert record["data"] == "sent"
        context.close()


def test_a_page_of_another_origin_resumes_and_the_browser_asks_once_for_each_address(
    browser: Browser, tmp_path: Path, folder: Path
) -> None:
    """T42. The server permits it for two hours (tests/web/test_cors.py)."""
    with (
        ServerProcess(tmp_path / "data", "--static", str(folder), retry_ms=50) as server,
        Relay(server.port) as relay,
        opened(browser, f"{server.url}/?at={relay.url}") as page,
    ):
        for number in range(5):
            page.evaluate(f"void broker.event('more/{number}').subscribe(() => {{}})")
            waits(page, f"broker.event('more/{number}').state.get().status === 'live'")
        page.evaluate("broker.signUp('eve', 'correct horse')")
        waits(page, f"broker.user.get() && {LIVE}")
        for number in range(3):
            page.evaluate(f"broker.event('value').set('{number}')")
        assert relay.count(b"POST /events ") >= 7
        assert relay.count(b'"last_event_id":') >= 5
        asked = {path: relay.count(f"OPTIONS /{path} ".encode()) for path in ("events", "insert")}
    # A header that is new, as Authorization after the login, is asked for once more.
    assert asked["events"] <= 2
    assert asked["insert"] == 1


def test_a_name_that_is_forbidden_denies_no_other_and_a_login_while_the_page_is_open_brings_it(
    browser: Browser, tmp_path: Path, folder: Path
) -> None:
    with ServerProcess(tmp_path / "data", "--static", str(folder), rights_reset_s=0.1) as server:
        with server.client("eve") as eve:
            eve.post("/insert", json=[{"event": "note/eve", "data": "hers"}, {"event": "value", "data": "public"}])
        apply_rules(server, RULES)
        with opened(browser, server.url) as page:
            page.evaluate("void broker.event('note/eve').subscribe((data) => (window.note = data))")
            waits(page, "broker.event('note/eve').state.get().status === 'denied'")
            shows(page, "public")
            assert page.evaluate("broker.event('value').state.get().status") == "live"
            page.evaluate("broker.logIn('eve', 'correct horse')")
            waits(page, "window.note === 'hers' && broker.event('note/eve').state.get().status === 'live'")
            assert page.evaluate("broker.logOut().then(() => window.note ?? null)") is None
            waits(page, "broker.event('note/eve').state.get().status === 'denied'")
            shows(page, "public")


def test_two_tabs_have_one_login_and_one_logout(browser: Browser, tmp_path: Path, folder: Path) -> None:
    with ServerProcess(tmp_path / "data", "--static", str(folder), rights_reset_s=0.1) as server:
        with server.client("eve") as eve:
            eve.post("/insert", json={"event": "note/eve", "data": "hers"})
        apply_rules(server, RULES)
        with opened(browser, server.url) as page:
            tab = page.context.new_page()
            tab.goto(server.url)
            for each in (page, tab):
                each.evaluate("void broker.event('note/eve').subscribe((data) => (window.note = data))")
            page.evaluate("broker.logIn('eve', 'correct horse')")
            waits(tab, "broker.user.get()?.username === 'eve' && window.note === 'hers'")
            page.evaluate("broker.logOut()")
            waits(tab, "broker.user.get() === null && window.note === undefined")
            waits(tab, f"broker.event('note/eve').state.get().status === 'denied' && {LIVE}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ends_is_waited_for(browser: Browser, tmp_path: Path, folder: Path, number: int) -> None:
    """T6, T7, T8: killed, and stopped. The written value is stored once."""
    with (
        ServerProcess(tmp_path / "data", "--static", str(folder), retry_ms=100) as server,
        opened(browser, server.url) as page,
    ):
        page.evaluate("broker.signUp('eve', 'correct horse')")
        waits(page, f"broker.user.get() && {LIVE}")
        server.stop(number)
        page.evaluate("void broker.event('value').set('written without a server')")
        waits(page, "document.body.dataset.status === 'reconnecting'")
        server.start()
        waits(page, f"{LIVE} && broker.outbox.get().length === 0")
        with server.client("ada") as ada:
            assert [each["data"] for each in ada.get("/collections/value").json()] == ["written without a server"]
        assert subscribers(server) == 1


def test_a_full_server_is_asked_again_until_there_is_room(browser: Browser, tmp_path: Path, folder: Path) -> None:
    """T8."""
    with ServerProcess(tmp_path / "data", "--static", str(folder), subscribers_max=1, retry_ms=100) as server:
        with opened(browser, server.url):
            context = browser.new_context()
            page = context.new_page()
            page.goto(server.url)
            waits(page, "document.body.dataset.status === 'offline'")
        waits(page, LIVE)
        insert(server, "there is room")
        shows(page, "there is room")
        context.close()


def test_an_upgrade_of_the_server_leaves_the_open_page_alone_and_a_reload_has_the_new_client(
    browser: Browser, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgraded = tmp_path / "upgraded"
    shutil.copytree(ROOT / "src" / "broker", upgraded / "broker", ignore=shutil.ignore_patterns("__pycache__"))
    patch = upgraded / "broker" / "js" / "patch.js"
    patch.write_text(patch.read_text() + "\nexport const upgraded = true;\n")
    with (
        ServerProcess(tmp_path / "data", "--static", str(folder), retry_ms=100) as server,
        opened(browser, server.url) as page,
    ):
        insert(server, "old")
        shows(page, "old")
        version = re.compile(r"/broker/(\w+)/broker\.js")
        loaded = "performance.getEntriesByType('resource').map(({ name }) => name).join()"
        before = version.findall(page.evaluate(loaded))
        server.stop()
        monkeypatch.setenv("PYTHONPATH", str(upgraded))
        server.python = sys.executable  # a new process, because the one that forks servers has the old modules
        server.start()
        waits(page, LIVE)
        insert(server, "new")
        shows(page, "new")
        context: Any = browser.new_context()  # without what a browser keeps for a minute
        other = context.new_page()
        other.goto(server.url)
        waits(other, LIVE)
        after = version.findall(other.evaluate(loaded))
        shows(other, "new")
        context.close()
        assert before
        assert after
        assert set(before).isdisjoint(after)
