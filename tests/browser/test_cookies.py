"""A plain EventSource in Chromium with a cookie or a ticket: across restarts, until they expire, and for one user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests.support.documents import ROOT, blocks
from tests.support.hosts import TWO_BROKERS, HostProcess
from tests.support.operators import insert
from tests.support.rules import apply_rules
from tests.support.servers import BOUND_S, ServerProcess, wait_for

RULES = '[[event]]\nname = "own/{who}"\nread = "{who}"\ninsert = "{who}"\n'
LISTEN = """url => {
    window.seen = [];
    window.source = new EventSource(url);
    const see = event => seen.push([event.type, event.data]);
    for (const name of ["own/ada", "own/bob", "$ready", "$login", "$reset"]) source.addEventListener(name, see);
    source.onerror = () => seen.push(["error", source.readyState]);
}"""
SESSION = """async ([url, jwt, body]) => {
    const headers = {Authorization: `Bearer ${jwt}`, "Content-Type": "application/json"};
    const answer = await fetch(url, {method: "POST", headers, body: JSON.stringify(body)});
    return [answer.status, await answer.json()];
}"""


class PageOf:
    """A page of the server itself, with what its EventSource has received."""

    def __init__(self, browser: Browser, server: ServerProcess, path: str = "") -> None:
        self.server = server
        self.url = f"{server.url.replace('127.0.0.1', 'localhost')}{path}"
        self.page: Page = browser.new_context().new_page()
        self.page.goto(f"{self.url}/docs")

    def session(self, jwt: str, **body: Any) -> dict[str, Any]:
        status, answer = self.page.evaluate(SESSION, [f"{self.url}/session", jwt, body])
        assert status == 200, answer
        result: dict[str, Any] = answer
        return result

    def listen(self, query: str = "") -> None:
        self.page.evaluate(LISTEN, f"{self.url}/events{query}")

    def seen(self) -> list[list[Any]]:
        found: list[list[Any]] = self.page.evaluate("seen")
        return found

    def sees(self, name: str, data: object = None, count: int = 1) -> None:
        text = None if data is None else json.dumps(data, separators=(",", ":"))
        wait_for(
            lambda: sum(kind == name and (text is None or sent == text) for kind, sent in self.seen()) >= count,
            what=lambda: f"{name} {text} in {self.seen()}",
        )

    def closes(self) -> None:
        """EventSource gives up for good."""
        wait_for(lambda: ["error", 2] in self.seen(), what=lambda: f"the end in {self.seen()}")

    def close(self) -> None:
        self.page.context.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, retry_ms=100) as running:
        apply_rules(running, RULES)
        yield running


@pytest.fixture
def page(browser: Browser, server: ServerProcess) -> Iterator[PageOf]:
    opened = PageOf(browser, server)
    yield opened
    opened.close()


@pytest.mark.parametrize("way", ["cookie", "ticket"])
def test_a_stream_goes_on_across_restarts_of_the_server(server: ServerProcess, page: PageOf, way: str) -> None:
    with server.client("ada") as ada:
        answer = page.session(server.token("ada"), **({"ticket": True} if way == "ticket" else {}))
        page.listen("?user=ada" + (f"&ticket={answer['ticket']}" if way == "ticket" else ""))
        page.sees("$ready")
        insert(ada, "own/ada", 0)
        page.sees("own/ada", 0)
        for number in (1, 2):
            server.stop()
            server.start()
            insert(ada, "own/ada", number)
            page.sees("own/ada", number)
    data = [sent for kind, sent in page.seen() if kind == "own/ada"]
    assert data == ["0", "1", "2"]  # nothing missed, and nothing twice
    assert "$reset" not in [kind for kind, _ in page.seen()]


def test_scripts_do_not_see_the_cookie(server: ServerProcess, page: PageOf) -> None:
    page.session(server.token("ada"))
    assert page.page.evaluate("document.cookie") == ""
    (cookie,) = page.page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("__Host-broker", True, "Strict")


def test_a_logout_ends_the_stream_and_takes_the_cookie_away(server: ServerProcess, page: PageOf) -> None:
    jwt = server.token("ada")
    page.session(jwt)
    page.listen("?user=ada")
    page.sees("$ready")
    page.page.evaluate(
        "([url, jwt]) => fetch(url, {method: 'POST', headers: {Authorization: `Bearer ${jwt}`}}).then(() => null)",
        [f"{page.url}/logout", jwt],
    )
    page.sees("$login", {"reason": "ended"})
    page.closes()
    assert page.page.context.cookies() == []


def test_without_the_cookie_a_stream_for_a_user_is_refused_and_the_page_is_notified(
    server: ServerProcess, page: PageOf
) -> None:
    """Elsewhere, a stream whose cookie had expired went on as a stranger's, and no one noticed (pimcore #346)."""
    page.session(server.token("ada"))
    page.page.evaluate("url => fetch(url, {method: 'DELETE'}).then(() => null)", f"{page.url}/session")
    assert page.page.context.cookies() == []
    page.listen("?user=ada")
    page.closes()
    page.listen()  # without `?user=`, the stream is opened without a login, and these rules show it no event
    page.sees("$ready")
    assert [kind for kind, _ in page.seen()] == ["$ready"]


def test_another_users_cookie_does_not_open_a_stream_for_this_one(server: ServerProcess, page: PageOf) -> None:
    page.session(server.token("bob"))
    page.listen("?user=ada")
    page.closes()


def test_when_the_cookie_was_renewed_the_stream_goes_on_after_the_old_one_has_expired(
    browser: Browser, tmp_path: Path
) -> None:
    with ServerProcess(tmp_path, token_ttl_s=8, session_max_s=60, retry_ms=100) as server:
        apply_rules(server, RULES)
        page = PageOf(browser, server)
        jwt = server.token("ada")
        page.session(jwt)
        page.listen("?user=ada")
        page.sees("$ready")
        page.page.wait_for_timeout(1_500)  # so that the new one is valid for longer
        renewed = httpx.post(f"{server.url}/token", headers={"Authorization": f"Bearer {jwt}"}).json()["jwt"]
        page.session(renewed)
        page.sees("$login", {"reason": "expired"})
        page.sees("$ready", count=2)
        page.closes()  # with the second one
        page.close()


def test_when_a_ticket_has_expired_the_stream_ends_for_good_and_a_new_one_misses_nothing(
    browser: Browser, tmp_path: Path
) -> None:
    with ServerProcess(tmp_path, ticket_ttl_s=6, retry_ms=100) as server, server.client("ada") as ada:
        apply_rules(server, RULES)
        page = PageOf(browser, server)
        jwt = server.token("ada")
        insert(ada, "own/ada", 1)
        page.listen(f"?user=ada&ticket={page.session(jwt, ticket=True)['ticket']}")
        page.sees("own/ada", 1)
        page.sees("$login", {"reason": "expired"})
        page.closes()
        insert(ada, "own/ada", 2)
        (ready,) = (sent for kind, sent in page.seen() if kind == "$ready")
        ticket = page.session(jwt, ticket=True)["ticket"]
        page.listen(f"?user=ada&ticket={ticket}&last_event_id={json.loads(ready)['id']}")
        page.sees("own/ada", 2)
        assert ["own/ada", "1"] not in page.seen()
        page.close()


def test_a_page_of_another_site_gets_no_cookie_and_uses_a_ticket(
    browser: Browser, server: ServerProcess, origin: str
) -> None:
    """``localhost`` and ``127.0.0.1`` are two sites."""
    with server.client("ada") as ada:
        insert(ada, "own/ada", 1)
    page = browser.new_context().new_page()
    page.goto(origin.replace("127.0.0.1", "localhost"))
    jwt = server.token("ada")
    status, answer = page.evaluate(SESSION, [f"{server.url}/session", jwt, {}])
    assert (status, "ask for a ticket" in answer["detail"]) == (400, True)
    _, answer = page.evaluate(SESSION, [f"{server.url}/session", jwt, {"ticket": True}])
    page.evaluate(LISTEN, f"{server.url}/events?user=ada&ticket={answer['ticket']}")
    wait_for(lambda: ["own/ada", "1"] in page.evaluate("seen"))
    page.context.close()


def test_a_ticket_is_sent_to_nobody_as_the_referrer(browser: Browser, server: ServerProcess, page: PageOf) -> None:
    """Not by the stream, and not by a person who opens its URL as a page."""
    sent: list[dict[str, str]] = []
    page.page.on("request", lambda request: sent.append(request.headers))
    ticket = page.session(server.token("ada"), ticket=True)["ticket"]
    page.listen(f"?user=ada&ticket={ticket}")
    page.sees("$ready")
    page.page.evaluate("url => fetch(url).then(() => null)", f"{page.url}/about")
    page.page.evaluate("url => { window.location = url; }", f"{page.url}/events?ticket={ticket}")
    page.page.wait_for_timeout(300)
    page.page.goto(f"{page.url}/docs")
    assert len(sent) >= 4
    assert not [headers for headers in sent if ticket in headers.get("referer", "")]


@pytest.mark.parametrize("where", ["one page", "two pages"])
def test_two_mounted_brokers_under_one_host(browser: Browser, tmp_path: Path, where: str) -> None:
    with HostProcess(tmp_path, TWO_BROKERS, mount="") as host:
        people = {"/one": "ada", "/two": "bob"}
        pages: dict[str, PageOf] = {}
        context = browser.new_context()
        for path, name in people.items():
            body = {"username": name, "password": "correct horse"}
            jwt = httpx.post(f"{host.url}{path}/users", json=body).json()["jwt"]
            page = PageOf(browser, host, path)
            if where == "two pages":  # of one browser
                page.page.context.close()
                page.page = context.new_page()
                page.page.goto(f"{page.url}/docs")
            elif pages:
                page.page.context.close()
                page.page = pages["/one"].page
            pages[path] = page
            page.session(jwt)
        for path, name in people.items():
            page = pages[path]
            page.listen(f"?user={name}")
            page.sees("$ready")
            page.listen(f"?user={'ada' if name == 'bob' else 'bob'}")
            page.closes()
        names = {(cookie["name"], cookie["path"]) for cookie in pages["/two"].page.context.cookies()}
        assert names == {("__Secure-broker", "/one"), ("__Secure-broker", "/two")}
        context.close()


def test_the_code_of_the_documentation_goes_on_after_a_restart_and_ends_with_a_logout(
    browser: Browser, server: ServerProcess, origin: str
) -> None:
    http = (ROOT / "docs" / "http.md").read_text()
    section = http[http.index("## POST /session") : http.index("## GET /users/me")]
    (script,) = (block.text for block in blocks(section, "js"))
    with server.client("ada") as ada:
        page = browser.new_context().new_page()
        page.goto(origin)
        page.add_script_tag(content=script.replace("http://127.0.0.1:8080", server.url))
        page.evaluate(
            """jwt => {
                window.shown = [];
                window.done = false;
                listen(() => jwt, event => shown.push(event.data)).then(() => { window.done = true; });
            }""",
            ada.headers["Authorization"].removeprefix("Bearer "),
        )
        for number in (1, 2):
            insert(ada, "own/ada", number)
            page.wait_for_function(
                "number => shown.some(data => JSON.parse(data).data === number)",
                arg=number, timeout=1_000 * BOUND_S, polling=20,
            )  # fmt: skip
            server.stop()
            server.start()
        ada.post("/logout").raise_for_status()
        page.wait_for_function("window.done", timeout=1_000 * BOUND_S, polling=20)
        page.context.close()
