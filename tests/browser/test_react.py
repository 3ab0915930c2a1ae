"""The hooks for React in a real browser: React 18 and 19, in StrictMode, with the warnings of their development builds.

T1 to T50 are the pitfalls of such clients, which the tests of the client number alike."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from tests.support.documents import ROOT
from tests.support.esbuild import ESBUILD
from tests.support.forms import Hold, keys
from tests.support.servers import BOUND_S, ServerProcess, wait_for

SOURCES = ROOT / "src" / "broker" / "js"
HERE = ROOT / "tests" / "js" / "react"
MODULES = HERE / "node_modules"
HTML = """<!doctype html><meta charset="utf-8"><title>a page</title><link rel="icon" href="data:,">
<div id="root"></div><script type="module" src="/page.js"></script>"""
Insert = Callable[[dict[str, Any]], None]
NARROW_MS = 30_000  # after which the client closes a stream that nobody watches

pytestmark = pytest.mark.skipif(
    not (ESBUILD.exists() and (MODULES / "react-19").exists()) and not os.environ.get("CI"),
    reason="NO PAGE OF REACT WAS TESTED: install Node.js and npm, and type: make test",
)


@pytest.fixture(scope="module", params=["18", "19"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages and the program of the server, bundled with one version of React; and a second copy of the client."""
    folder = tmp_path_factory.mktemp(f"react-{request.param}")
    copy = folder / "copy"
    shutil.copytree(SOURCES, copy)
    aliases = {
        "react": MODULES / f"react-{request.param}",
        "react-dom": MODULES / f"react-dom-{request.param}",
        "zerocode-broker/react": SOURCES / "react.js",
        "zerocode-broker/preload": SOURCES / "preload.js",
        "zerocode-broker": SOURCES / "broker.js",
        "copy/react": copy / "react.js",
    }
    options = ["--bundle", "--jsx=automatic", '--define:process.env.NODE_ENV="development"', "--log-level=error"]
    options += [f"--alias:{name}={path}" for name, path in aliases.items()]
    site = folder / "site"
    for entry, out, *more in (
        ("page.jsx", site / "page.js", "--format=esm"),
        ("hydrate.jsx", site / "hydrate.js", "--format=esm"),
        ("server.jsx", folder / "server.mjs", "--platform=node", "--format=esm", f"--banner:js={REQUIRE}"),
    ):
        subprocess.run([str(ESBUILD), str(HERE / entry), f"--outfile={out}", *options, *more], check=True)
    (site / "index.html").write_text(HTML)
    return folder


# React's own modules are CommonJS, and a bundle of ES modules has no `require`.
REQUIRE = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);"


@pytest.fixture(name="server")
def serve(built: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "data", "--static", str(built / "site"), retry_ms=200) as server:
        yield server


@pytest.fixture(name="insert")
def insert_as_ada(server: ServerProcess) -> Iterator[Insert]:
    with server.client("ada") as ada:

        def insert(data: dict[str, Any]) -> None:
            records = [{"event": event, "data": value} for event, value in data.items()]
            answer = ada.post("/insert", json=records)
            assert answer.status_code == 201, answer.text

        yield insert


@pytest.fixture(name="printed")
def make_printed() -> list[str]:
    """The errors and warnings of all pages, but not what the browser itself prints about the network."""
    return []


@pytest.fixture
def context(browser: Browser, server: ServerProcess, printed: list[str]) -> Iterator[BrowserContext]:
    """Its pages must not print an error or a warning, as long as the server runs."""
    context = browser.new_context()

    def log(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            printed.append(message.text)

    context.on("console", log)
    context.on("weberror", lambda error: printed.append(str(error.error)))
    yield context
    context.close()
    assert printed == []


@pytest.fixture
def page(context: BrowserContext, server: ServerProcess) -> Page:
    page = context.new_page()
    page.goto(server.url)
    return page


def waits(page: Page, expression: str) -> None:
    page.wait_for_function(expression, timeout=1_000 * BOUND_S, polling=20)


def reads(page: Page, name: str, text: str) -> None:
    expect(page.locator(f"#{name}")).to_have_text(text, timeout=1_000 * BOUND_S)


def streams(server: ServerProcess) -> int:
    """How many streams are open, as the server counts them."""
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("broker_subscribers ")))


def test_in_strict_mode_there_is_one_stream_and_values_lists_and_writes_are_shown(
    page: Page, server: ServerProcess, insert: Insert
) -> None:
    """T1."""
    insert({"sale": {"percent": 10}, "orders/1": {"item": "milk", "qty": 3}, "orders/2": {"item": "rice", "qty": 1}})
    page.evaluate("show('Shop')")
    reads(page, "sale", "10 % live undefined 0")  # by whom is only for users
    reads(page, "orders", "1 rice,3 milk")
    reads(page, "status", "live")
    reads(page, "nothing", "[null,null,[],null]")
    insert({"sale": {"percent": 20}})
    reads(page, "sale", "20 % live undefined 0")
    assert page.evaluate("[streams.length, open]") == [1, 1]
    assert streams(server) == 1

    page.evaluate("broker.signUp('bob', 'correct horse')")
    reads(page, "sale", "20 % live ada 0")
    bought = "document.querySelector('#buy').click(); document.querySelector('#unsent').textContent"
    page.evaluate(f"(() => {{ {bought} }})()")
    reads(page, "orders", "1 rice,2 tea,3 milk")
    page.locator("#more").click()
    reads(page, "sale", "21 % live bob 0")
    reads(page, "size", "3")
    reads(page, "unsent", "0")
    assert page.evaluate("open") == streams(server) == 1


def test_what_is_not_shown_any_more_is_not_watched_after_a_while(
    context: BrowserContext, server: ServerProcess
) -> None:
    """T1: to leave a page and come back costs nothing."""
    page = context.new_page()
    page.clock.install()
    page.goto(server.url)
    page.evaluate("show('Shop')")
    reads(page, "status", "live")
    for _ in range(3):
        page.evaluate("show('Nothing')")
        page.evaluate("show('Shop')")
    reads(page, "status", "live")
    page.clock.fast_forward(NARROW_MS + 1_000)
    reads(page, "status", "live")
    assert page.evaluate("[streams.length, open]") == [1, 1]
    page.evaluate("show('Nothing')")
    page.clock.fast_forward(NARROW_MS - 1_000)
    assert page.evaluate("open") == 1
    page.clock.fast_forward(2_000)
    waits(page, "open === 0")
    wait_for(lambda: streams(server) == 0)


def test_another_name_is_shown_and_null_watches_nothing(page: Page, server: ServerProcess, insert: Insert) -> None:
    insert({"one": "first", "two": "second"})
    for name, text in (("one", "first"), ("two", "second"), (None, "nothing"), ("three", "nothing")):
        page.evaluate("name => show('Chosen', { name })", name)
        reads(page, "chosen", text)
    insert({"three": "third"})
    reads(page, "chosen", "third")


@pytest.fixture(name="two")
def open_two(page: Page, context: BrowserContext, server: ServerProcess) -> tuple[Page, Page]:
    """Two windows of one user, with the same form."""
    other = context.new_page()
    other.goto(server.url)
    for each in (page, other):
        each.evaluate("show('Profile')")
    page.evaluate("broker.signUp('ada', 'correct horse').then(() => {})")
    for each in (page, other):
        reads(each, "saved", "live true")
    return page, other


def test_what_is_typed_into_a_form_is_kept_while_another_window_writes_and_the_component_renders(
    two: tuple[Page, Page],
) -> None:
    """T35."""
    page, other = two
    page.get_by_label("text").focus()
    keys(page, "T")
    other.evaluate("""() => {
      let count = 0;
      const patch = () => broker.event("profile").patch({ text: `${count++}`, check: count % 2 > 0 });
      window.writing = setInterval(patch, 50);
    }""")
    keys(page, "he quick brown fox jumps over the lazy dog")
    other.evaluate("clearInterval(writing)")
    assert page.get_by_label("text").input_value() == "The quick brown fox jumps over the lazy dog"
    other.evaluate("broker.event('profile').patch({ text: 'theirs', check: true }).then(() => {})")
    reads(page, "theirs", "theirs")
    expect(page.get_by_label("check")).to_be_checked()
    page.get_by_role("button", name="Keep").click()
    expect(other.get_by_label("text")).to_have_value("The quick brown fox jumps over the lazy dog")
    reads(page, "saved", "live true")
    reads(page, "theirs", "none")
    assert page.evaluate("open") == 1


def test_a_form_that_is_not_shown_any_more_saves_what_was_typed_and_another_name_shows_another_event(
    two: tuple[Page, Page],
) -> None:
    page, other = two
    page.get_by_label("text").focus()
    keys(page, "last words")
    page.evaluate("show('Nothing')")
    expect(other.get_by_label("text")).to_have_value("last words")
    other.evaluate("broker.event('other').set({ text: 'another', extra: 'theirs' }).then(() => {})")
    other.evaluate("show('Profile', { name: 'other' })")
    expect(other.get_by_label("text")).to_have_value("another")
    other.evaluate("show('Profile', { name: 'other', extra: true })")
    expect(other.get_by_label("extra")).to_have_value("theirs")
    reads(other, "saved", "live true")
    assert other.evaluate("broker.event('profile').get()?.text ?? 'last words'") == "last words"


def test_nothing_of_one_event_is_written_to_the_next_one_that_a_form_shows(two: tuple[Page, Page]) -> None:
    page, other = two
    for extra in (True, False, True):  # a control that goes and comes back
        page.evaluate("extra => show('Profile', { name: 'one', extra })", extra)
        if extra:
            expect(page.get_by_label("extra")).to_be_visible()
            page.get_by_label("extra").fill("of one")
            page.keyboard.press("Tab")
            reads(page, "saved", "live true")
    page.get_by_label("text").fill("typed")
    page.evaluate("show('Profile', { name: 'two', extra: true })")
    reads(page, "saved", "live true")
    expect(page.get_by_label("text")).to_have_value("")
    expect(page.get_by_label("extra")).to_have_value("")
    other.evaluate("show('Profile', { name: 'one' })")
    expect(other.get_by_label("text")).to_have_value("typed")
    page.evaluate("form.save().then(() => {})")
    assert page.evaluate("[broker.event('two').get(), form.saved, form.undoable]") == [None, True, False]


def test_a_render_that_is_thrown_away_opens_nothing(
    context: BrowserContext, server: ServerProcess, printed: list[str]
) -> None:
    """T2."""
    page = context.new_page()
    page.clock.install()
    page.goto(server.url)
    page.evaluate("show('ThrownAway')")
    reads(page, "fallback", "loading")
    page.clock.fast_forward(1_000)
    assert page.evaluate("streams.length") == 0

    server.stop()  # so that it stays suspended
    page.evaluate("show('Ready')")
    reads(page, "fallback", "loading")
    waits(page, "streams.length > 0")
    page.evaluate("show('Nothing')")
    server.start()
    waits(page, "open === 1")
    wait_for(lambda: streams(server) == 1)
    page.clock.fast_forward(NARROW_MS + 1_000)
    waits(page, "open === 0")
    wait_for(lambda: streams(server) == 0)
    assert all("the server cannot be reached" in line for line in printed)
    printed.clear()


def test_a_suspended_component_shows_its_fallback_at_the_first_load_and_never_again(
    page: Page, server: ServerProcess, insert: Insert
) -> None:
    """T39."""
    insert({"sale": {"percent": 1}, "orders/1": {"item": "tea", "qty": 1}})
    page.evaluate("show('Ready')")
    reads(page, "sale", "1 % 1 live")
    fallbacks = page.evaluate("fallbacks")
    assert fallbacks >= 1
    for percent in range(2, 12):
        insert({"sale": {"percent": percent}})
        reads(page, "sale", f"{percent} % 1 live")
    page.evaluate("broker.signUp('bob', 'correct horse')")
    page.evaluate("broker.event('sale').set({percent: 50})")
    reads(page, "sale", "50 % 1 live")
    opened = page.evaluate("streams.length")
    page.evaluate("broker.logOut()")
    waits(page, f"streams.length > {opened}")
    reads(page, "sale", "50 % 1 live")
    assert page.evaluate("fallbacks") == fallbacks


def test_a_suspended_component_throws_what_its_user_may_not_read(built: Path, browser: Browser, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "--static", str(built / "site"), events_public="no") as server:
        page = browser.new_page()
        page.goto(server.url)
        page.evaluate("show('Ready')")
        reads(page, "error", "401 unauthorized")
        page.close()


def test_somebody_who_is_logged_in_sees_what_is_for_them_also_when_the_session_has_expired(
    page: Page, server: ServerProcess, printed: list[str]
) -> None:
    page.evaluate("show('Shop')")
    waits(page, "window.broker")
    page.evaluate("show('Login')")
    reads(page, "out", "log in")
    page.evaluate("broker.signUp('bob', 'correct horse')")
    reads(page, "in", "bob")
    expect(page.locator("#out")).to_have_count(0)
    with server.client("bob") as bob:  # ends all sessions
        bob.post("/users/me/password", json={"old": "correct horse", "password": "battery staple"})
    reads(page, "out", "log in")
    reads(page, "in", "bob")  # what is typed there is not lost
    assert all("the session of bob has ended" in line for line in printed)
    printed.clear()
    page.evaluate("broker.logIn('bob', 'battery staple')")
    expect(page.locator("#out")).to_have_count(0)
    page.evaluate("broker.logOut()")
    reads(page, "out", "log in")
    expect(page.locator("#in")).to_have_count(0)


def test_what_is_pending_is_shown_moved_and_cancelled(page: Page) -> None:
    page.evaluate("show('Later')")
    waits(page, "window.broker")
    page.evaluate("broker.signUp('bob', 'correct horse')")
    page.evaluate("broker.event('sale/1').set({percent: 5}, {at: '2080-01-01T00:00:00Z'})")
    page.evaluate("broker.event('other').set(1, {at: '2070-01-01T00:00:00Z'})")
    reads(page, "due", "sale/1 5 2080")
    reads(page, "all", "2")
    page.locator("#move").click()
    reads(page, "due", "sale/1 5 2090")
    page.locator("#cancel").click()
    reads(page, "due", "")
    reads(page, "all", "1")


@pytest.mark.parametrize("name", ["Copies", "ProvidedCopies", "AddressedCopies"])
def test_two_copies_of_the_package_share_the_provider_and_the_client(
    page: Page, server: ServerProcess, insert: Insert, name: str
) -> None:
    """T40."""
    insert({"sale": {"percent": 7}})
    page.evaluate("name => show(name)", name)
    reads(page, "sale", "7 % live undefined 0")
    reads(page, "other", "7 true")
    assert page.evaluate("[streams.length, open]") == [1, 1]


class TestServerRendering:
    """T38: two users at once, in one process."""

    @pytest.fixture
    def said(self, built: Path, server: ServerProcess, insert: Insert) -> str:
        insert(
            {
                "sale": {"percent": 10},
                "inbox/ada/1": "</script><script>window.hacked = 1</script>",
                "inbox/bob/1": "for bob",
            }
        )
        readers = [f"{name}={server.token(name)}" for name in ("ada", "bob")] + ["nobody="]
        command = ["node", str(built / "server.mjs"), server.url, str(built / "site"), *readers]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def test_each_page_has_what_its_user_may_read_and_resumes_without_a_second_load(
        self, said: str, built: Path, server: ServerProcess, insert: Insert, printed: list[str], page: Page
    ) -> None:
        assert said.splitlines() == ["late is not preloaded"] * 3
        html = {name: (built / "site" / f"{name}.html").read_text() for name in ("ada", "bob", "nobody")}
        for name, other in (("ada", "bob"), ("bob", "ada"), ("nobody", "ada"), ("nobody", "bob")):
            assert f'<p id="user">{name}</p>' in html[name]
            assert f"inbox/{other}" not in html[name]
        insert({"inbox/ada/2": "between"})
        page.evaluate("createBroker().logIn('ada', 'correct horse')")
        page.goto(f"{server.url}/ada.html")
        reads(page, "status", "live")
        first = page.evaluate("first").split()
        assert first[:3] == ["ada", "10", "stale"]
        assert "between" not in first
        expect(page.locator("#inbox li")).to_have_text(["</script><script>window.hacked = 1</script>", "between"])
        reads(page, "sale", "10 live")
        reads(page, "slow", "10")
        reads(page, "ready-late", "null")
        (stream,) = page.evaluate("streams")
        assert stream["last_event_id"] == page.evaluate("state.id")
        # One event was not preloaded.
        assert stream["new"] == ["late"]
        assert set(stream["event"]) == {"sale", "late", "inbox/ada/*"}
        assert page.evaluate("[kept(), window.hacked]") == [True, None]
        insert({"sale": {"percent": 20}, "late": "on time"})
        reads(page, "sale", "20 live")
        reads(page, "late", "on time live")
        self.allow(printed)

    def test_what_is_typed_before_the_page_is_alive_is_kept_and_saved(
        self, said: str, server: ServerProcess, printed: list[str], page: Page
    ) -> None:
        page.evaluate("createBroker().logIn('ada', 'correct horse').then(() => {})")
        hold = Hold(page, "**/hydrate.js")
        page.goto(f"{server.url}/ada.html", wait_until="commit")
        expect(page.get_by_label("percent")).to_have_value("10")
        page.get_by_label("percent").fill("42")
        hold.end()
        reads(page, "sale", "42 live")
        reads(page, "saved", "true")
        expect(page.get_by_label("percent")).to_have_value("42")
        assert page.evaluate("kept()") is True
        self.allow(printed)

    def test_the_state_of_somebody_else_is_not_kept(
        self, said: str, server: ServerProcess, printed: list[str], page: Page
    ) -> None:
        page.evaluate("createBroker().logIn('ada', 'correct horse')")
        page.goto(f"{server.url}/bob.html")
        reads(page, "status", "live")
        reads(page, "user", "ada")
        reads(page, "sale", "10 live")
        (stream,) = page.evaluate("streams")
        assert "last_event_id" not in stream
        self.allow(printed)

    def test_what_everybody_may_read_stays_until_the_state_of_the_user_is_there(
        self, said: str, server: ServerProcess, printed: list[str], page: Page
    ) -> None:
        page.evaluate("createBroker().logIn('ada', 'correct horse')")
        page.add_init_script(SEEN)
        page.goto(f"{server.url}/nobody.html")
        reads(page, "user", "ada")
        reads(page, "sale", "10 live")
        (stream,) = page.evaluate("streams")
        assert "last_event_id" not in stream
        assert page.evaluate("seen") == ["10 stale", "10 live"]
        self.allow(printed)

    def allow(self, printed: list[str]) -> None:
        """React reports what the server has left to the page, and nothing else."""
        assert [line for line in printed if "late is not preloaded" not in line] == []
        printed.clear()


# Every text that an element has had.
SEEN = """window.seen = [];
new MutationObserver(() => {
  const text = document.querySelector("#sale")?.textContent;
  if (text && text !== seen.at(-1)) seen.push(text);
}).observe(document, { childList: true, subtree: true, characterData: true });"""
