"""Forms in Chromium: what is typed is kept when it is refused, and stored when the page is closed; who has it open."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.support.forms import waits
from tests.support.rules import apply_rules
from tests.support.servers import BOUND_S, ServerProcess, wait_for

HTML = """<!doctype html><meta charset="utf-8"><title>A form</title><link rel="icon" href="data:,">
<form id="profile">
  <input name="text" aria-label="text"><textarea name="note" aria-label="note"></textarea>
  <input name="address.city" aria-label="city"><input name="email" type="email" aria-label="email">
  <input name="count" type="number" min="1" max="9" aria-label="count">
  <input name="code" pattern="[0-9]+" aria-label="code">
  <input name="must" required aria-label="must">
</form>
<script type="module">
  import { createBroker } from "/broker.js";
  globalThis.options = Object.fromEntries(new URLSearchParams(location.search));
  const issues = [{ message: "not this", path: ["text"] }];
  const validate = (value) => (value?.text === "bad" ? { issues } : { value });
  const validators = { profile: { "~standard": { version: 1, vendor: "test", validate } } };
  globalThis.broker = createBroker(undefined, { storage: "session", validate: validators });
  globalThis.enter = (name) => broker.logIn(name, "correct horse");
  if (!broker.user.get()) await enter(options.user);
  globalThis.bind = () => {
    const { idle = 100 } = options;
    globalThis.form = broker.form("profile", profile, { ...options, idle: Number(idle), others: "others" in options });
    form.state.subscribe((state) => (globalThis.state = state));
  };
  bind();
</script>"""
OPEN = '[[event]]\nname = "profile"\nread = "user"\ninsert = "user"\nlog = "user"\n'
CLOSED = '[[event]]\nname = "profile"\nread = "user"\ninsert = "nobody"\n'
HIDDEN = '[[event]]\nname = "profile"\nread = "nobody"\ninsert = "nobody"\n'
PRESENCE = '[[event]]\nname = "open/profile/{who}/*"\nread = "user"\ninsert = "{who}"\n'
NEVER_MS = 3_600_000  # `idle` of a form that saves nothing by itself while the test lasts


class Site:
    """A server with a page that has a form, and windows of it."""

    def __init__(self, browser: Browser, server: ServerProcess) -> None:
        self.browser = browser
        self.server = server
        self.contexts: list[BrowserContext] = []
        self.errors: list[str] = []
        for user in ("ada", "bob"):
            server.token(user)

    def open(self, user: str = "ada", **options: object) -> Page:
        self.contexts.append(self.browser.new_context())
        page = self.contexts[-1].new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        query = "&".join(f"{name}={value}" for name, value in {"user": user, **options}.items())
        page.goto(f"{self.server.url}/?{query}")
        waits(page, "() => globalThis.state && state.status !== 'loading'")
        return page

    def log(self, event: str = "profile") -> list[Any]:
        """The data of all records of an event, in their order."""
        with self.server.client("reader") as client:
            response = client.get(f"/collections/{event}", params={"order": "asc", "limit": 100})
            return [record["data"] for record in response.raise_for_status().json()]


@pytest.fixture(name="site")
def make_site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    files = tmp_path_factory.mktemp("site")
    (files / "index.html").write_text(HTML)
    (files / "elsewhere.html").write_text("<!doctype html><title>Elsewhere</title>")
    with ServerProcess(tmp_path_factory.mktemp("data"), "--static", str(files), retry_ms=200) as server:
        site = Site(browser, server)
        yield site
        for context in site.contexts:
            context.close()
        assert site.errors == []


def types(page: Page, label: str, text: str) -> None:
    """In one input, so that a slow machine does not save a part of it."""
    page.get_by_label(label).focus()
    page.keyboard.insert_text(text)


def stored(site: Site, *versions: dict[str, Any]) -> None:
    """Waits until the event has that many versions, and looks whether they are these."""
    wait_for(lambda: len(site.log()) >= len(versions), what="the versions in the log")
    assert site.log() == list(versions)


def answer(page: Page, status: int, problem: str | None = None, times: int = 1, **options: Any) -> list[float]:
    """Lets as many inserts be answered so. Returns a list to which the time of each insert is added."""
    at: list[float] = []

    def respond(route: Route) -> None:
        at.append(time.monotonic())
        if len(at) > times:
            return route.continue_()
        if problem is None:
            return route.fulfill(status=status, content_type="text/html", body="<h1>A proxy</h1>", **options)
        body = {"type": f"urn:broker:problem:{problem}", "status": status, "detail": "why", **options.pop("more", {})}
        return route.fulfill(
            status=status,
            headers={"Content-Type": "application/problem+json", **options.get("headers", {})},
            body=json.dumps(body),
        )

    page.route("**/insert", respond)
    return at


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (403, "forbidden"), (404, "not-found"), (409, "late"), (410, "gone"), (413, "too-large"), (413, None),
        (422, "invalid"),
    ],
)  # fmt: skip
def test_a_refused_text_is_kept_said_at_the_form_and_sent_once_with_the_next_save(
    site: Site, status: int, problem: str | None
) -> None:
    page = site.open()
    answer(page, status, problem)
    types(page, "text", "mine")
    waits(page, "(status) => state.refused?.status === status", status)
    expect(page.get_by_label("text")).to_have_value("mine")
    assert page.evaluate("[state.saved, state.saving, state.fields.text.edited, broker.outbox.get().length]") == [
        False, False, True, 0,
    ]  # fmt: skip
    page.evaluate("form.save()")
    waits(page, "() => state.saved && !state.refused")
    stored(site, {"text": "mine"})


@pytest.mark.parametrize(
    ("pointer", "label", "path"),
    [("/data/text", "text", "text"), ("#/data/address/city", "city", "address.city"), ("/0/data/text", "text", "text")],
)
def test_what_the_server_finds_wrong_with_a_field_is_said_at_its_control_until_the_next_input(
    site: Site, pointer: str, label: str, path: str
) -> None:
    page = site.open()
    answer(page, 422, "invalid", more={"pointer": pointer})
    types(page, label, "mine")
    waits(page, "(path) => state.fields[path]?.error === 'why'", path)
    control = page.get_by_label(label)
    assert control.evaluate("(control) => [control.validity.customError, control.validationMessage]") == [True, "why"]
    assert page.evaluate("state.refused === undefined") is True
    types(page, label, "!")
    waits(page, "() => state.saved")
    assert control.evaluate("(control) => control.validity.valid") is True
    stored(site, {"text": "mine!"} if path == "text" else {"address": {"city": "mine!"}})


def test_what_a_validator_of_the_page_finds_is_said_at_the_control_and_never_sent(site: Site) -> None:
    page = site.open()
    types(page, "text", "bad")
    waits(page, "() => state.fields.text?.error?.includes('not this')")
    assert page.get_by_label("text").evaluate("(control) => control.validity.customError") is True
    assert site.log() == []
    types(page, "text", "!")
    waits(page, "() => state.saved")
    stored(site, {"text": "bad!"})


def test_a_text_waits_as_long_as_the_server_asks(site: Site) -> None:
    page = site.open()
    at = answer(page, 429, "rate", headers={"Retry-After": "3"})
    types(page, "text", "mine")
    waits(page, "() => state.saved")
    assert len(at) == 2
    assert 3 <= at[1] - at[0] < BOUND_S
    stored(site, {"text": "mine"})


@pytest.mark.parametrize(("status", "problem"), [(503, "busy"), (502, None), (403, None)])
def test_a_text_that_cannot_be_stored_now_is_kept_and_sent_once_later(
    site: Site, status: int, problem: str | None
) -> None:
    page = site.open()
    answer(page, status, problem)
    types(page, "text", "mine")
    waits(page, "() => state.saving && broker.outbox.get()[0]?.state === 'queued'")
    waits(page, "() => state.saved")
    stored(site, {"text": "mine"})


def test_what_is_typed_while_the_server_is_away_is_stored_once_it_is_back(site: Site) -> None:
    page = site.open()
    types(page, "text", "one")
    waits(page, "() => state.saved")
    site.server.stop()
    types(page, "text", " two")
    types(page, "note", "three")
    waits(page, "() => state.saving")
    assert page.evaluate("[profile.text.value, profile.note.value, state.saved]") == ["one two", "three", False]
    site.server.start()
    waits(page, "() => state.saved")
    assert site.log()[-1] == {"text": "one two", "note": "three"}
    assert len({json.dumps(each) for each in site.log()}) == len(site.log())  # nothing is stored twice


def test_a_right_that_ends_in_the_middle_of_typing_keeps_the_text_until_it_comes_back(site: Site) -> None:
    apply_rules(site.server, OPEN)
    page = site.open()
    types(page, "text", "one")
    waits(page, "() => state.saved")
    apply_rules(site.server, CLOSED)
    types(page, "text", " two")
    waits(page, "() => state.refused?.status === 403")
    apply_rules(site.server, HIDDEN)
    waits(page, "() => state.status === 'denied'")
    expect(page.get_by_label("text")).to_have_value("one two")
    apply_rules(site.server, OPEN)
    waits(page, "() => state.status === 'live'")
    page.evaluate("form.save()")
    waits(page, "() => state.saved")
    stored(site, {"text": "one"}, {"text": "one two"})


@pytest.mark.parametrize("user", ["ada", "bob"])
def test_after_a_login_that_has_ended_only_the_same_user_sends_what_was_typed(site: Site, user: str) -> None:
    page = site.open()
    types(page, "text", "one")
    waits(page, "() => state.saved")
    page.evaluate(
        """async () => {
          const headers = { Authorization: `Bearer ${await broker.token()}` };
          await fetch("/logout", { method: "POST", headers });
        }"""
    )
    waits(page, "() => broker.status.get().state !== 'live'")
    types(page, "text", " two")
    waits(page, "() => state.saving && broker.outbox.get()[0]?.state === 'queued'")
    expect(page.get_by_label("text")).to_have_value("one two")
    page.evaluate("(user) => enter(user)", user)
    waits(page, "() => !state.saving && state.status === 'live'")
    if user == "ada":
        waits(page, "() => state.saved")
        stored(site, {"text": "one"}, {"text": "one two"})
    else:
        # Whatever were sent as Bob would be stored before this.
        page.evaluate("broker.event('other').set(1).then(() => {})")
        assert site.log() == [{"text": "one"}]


@pytest.mark.parametrize(
    ("label", "wrong", "right", "path", "value"),
    [("email", "no", "a@b.c", "email", "a@b.c"), ("count", "99", "5", "count", 5), ("code", "x", "12", "code", "12")],
)
def test_what_is_not_valid_is_not_saved_and_says_why_while_the_rest_is(
    site: Site, label: str, wrong: str, right: str, path: str, value: object
) -> None:
    page = site.open()
    page.get_by_label(label).fill(wrong)
    types(page, "text", "mine")
    waits(page, "(path) => !state.saving && state.fields[path]?.error && !state.fields.text", path)
    stored(site, {"text": "mine"})
    assert page.evaluate("state.saved") is False
    page.get_by_label(label).fill(right)
    waits(page, "() => state.saved")
    stored(site, {"text": "mine"}, {"text": "mine", path: value})


def test_what_is_required_is_not_saved_when_it_is_emptied(site: Site) -> None:
    page = site.open()
    page.get_by_label("must").fill("here")
    waits(page, "() => state.saved")
    page.get_by_label("must").fill("")
    waits(page, "() => state.fields.must?.error")
    assert site.log() == [{"must": "here"}]


def go(page: Page, how: str) -> None:
    if how == "close":
        page.close(run_before_unload=True)
    elif how == "reload":
        page.reload()
    elif how == "navigate":
        page.goto(page.url.split("?")[0] + "elsewhere.html")
    else:
        hide(page, True)


def hide(page: Page, hidden: bool) -> None:
    """Chromium of tests shows all its windows, so the page is told."""
    page.evaluate(
        """(hidden) => {
          Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


@pytest.mark.parametrize("how", ["close", "reload", "navigate", "hide"])
def test_what_is_typed_in_several_fields_is_stored_once_when_the_page_ends(site: Site, how: str) -> None:
    page = site.open(idle=NEVER_MS)
    page.evaluate("profile.text.focus()")
    page.get_by_label("note").evaluate(
        "(note) => { note.value = 'two'; note.dispatchEvent(new InputEvent('input', {bubbles: true})) }"
    )
    page.keyboard.insert_text("one")
    assert site.log() == []
    go(page, how)
    stored(site, {"text": "one", "note": "two"})


def test_what_is_typed_during_a_slow_write_is_stored_when_the_page_is_closed(site: Site) -> None:
    page = site.open()
    held: list[Route] = []
    page.route("**/insert", lambda route: held.append(route) if not held else route.continue_())
    types(page, "text", "one")
    waits(page, "() => state.saving")
    wait_for(lambda: page.evaluate("1") and held, what="the write")
    page.keyboard.insert_text(" two")
    page.close(run_before_unload=True)
    stored(site, {"text": "one"}, {"text": "one two"})


def test_a_form_that_is_saved_by_its_button_is_not_saved_by_being_hidden_or_closed(site: Site) -> None:
    page = site.open(save="submit")
    types(page, "text", "mine")
    hide(page, True)
    page.evaluate("broker.event('other').set(1).then(() => {})")
    assert site.log() == []
    hide(page, False)
    page.evaluate("form.save()")
    waits(page, "() => state.saved")
    stored(site, {"text": "mine"})


def test_a_form_that_is_closed_saves_what_is_typed(site: Site) -> None:
    page = site.open(idle=NEVER_MS)
    types(page, "text", "mine")
    page.evaluate("form.close()")
    stored(site, {"text": "mine"})


def test_users_see_who_else_has_the_form_open_until_the_page_is_closed(site: Site) -> None:
    apply_rules(site.server, OPEN + PRESENCE)
    ada = site.open("ada", others="")
    waits(ada, "() => broker.outbox.get().length === 0 && state.others.length === 0")
    bob = site.open("bob", others="")
    waits(ada, "() => state.others.join() === 'bob'")
    waits(bob, "() => state.others.join() === 'ada'")
    hide(bob, True)
    waits(ada, "() => state.others.length === 0")
    hide(bob, False)
    waits(ada, "() => state.others.join() === 'bob'")
    bob.close(run_before_unload=True)
    waits(ada, "() => state.others.length === 0")
    second = site.open("ada", others="")
    waits(ada, "() => state.others.join() === 'ada'")  # another window of the same user
    second.close(run_before_unload=True)
    waits(ada, "() => state.others.length === 0")


def test_without_the_right_to_say_so_nothing_is_shown_and_nothing_waits(site: Site) -> None:
    apply_rules(site.server, OPEN)
    ada = site.open("ada", others="")
    refused = """() => {
      const sent = broker.event("open/profile/ada/x").set(1);
      return sent.catch(({ status }) => (broker.outbox.discard(sent.uuid), status));
    }"""
    assert ada.evaluate(refused) == 403
    hide(ada, True)
    hide(ada, False)
    waits(ada, "() => broker.outbox.get().length === 0")
    assert ada.evaluate("state.others.length") == 0


def test_while_the_server_is_away_only_one_word_of_a_page_waits(site: Site) -> None:
    ada = site.open("ada", others="")
    waits(ada, "() => broker.outbox.get().length === 0")
    site.server.stop()
    waits(ada, "() => broker.status.get() !== 'live'")
    for _ in range(5):
        hide(ada, True)
        hide(ada, False)
    waits(ada, "() => broker.outbox.get().length <= 2")
    site.server.start()
    waits(ada, "() => broker.outbox.get().length === 0")


def test_a_hundred_forms_that_were_closed_leave_nothing_behind(site: Site) -> None:
    page = site.open()
    session = page.context.new_cdp_session(page)
    page.evaluate("form.close()")

    def counts() -> dict[str, int]:
        session.send("HeapProfiler.collectGarbage")
        metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        return {name: metrics[name] for name in ("JSEventListeners", "Nodes")}

    session.send("Performance.enable")
    cycle = """async () => {
      for (let count = 0; count < 100; count++) {
        const form = broker.form("profile", profile);
        await form.save();
        await form.close();
      }
    }"""
    page.evaluate(cycle)
    before = counts()
    page.evaluate(cycle)
    assert counts()["JSEventListeners"] <= before["JSEventListeners"] + 5
