"""A page with a form, as the tests of forms open it in windows of several users."""

from __future__ import annotations

import os
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.support.servers import BOUND_S, ServerProcess

KEYS_A_SECOND = 20
SECONDS = float(os.environ.get("BROKER_TYPING_S", "2"))  # `make soak` types for a minute
BOUND_MS = 1_000 * BOUND_S
expect.set_options(timeout=BOUND_MS)
HTML = """<!doctype html><meta charset="utf-8"><title>A form</title><link rel="icon" href="data:,">
<form id="profile">
  <input name="text" aria-label="text"><input name="address.city" aria-label="nested">
  <textarea name="note" aria-label="textarea"></textarea>
  <input name="email" type="email" aria-label="email"><input name="number" type="number" aria-label="number">
  <input name="date" type="date" aria-label="date"><input name="time" type="time" aria-label="time">
  <input name="check" type="checkbox" aria-label="check">
  <label><input name="radio" type="radio" value="a">radio a</label>
  <label><input name="radio" type="radio" value="b">radio b</label>
  <select name="select" aria-label="select"><option>a</option><option>b</option><option>c</option></select>
  <select name="several" aria-label="several" multiple><option>a<option>b<option>c</select>
  <label><input name="boxes" type="checkbox" value="a">box a</label>
  <label><input name="boxes" type="checkbox" value="b">box b</label>
  <input name="password" type="password" aria-label="password"><input name="hidden" type="hidden" value="h">
  <input name="fixed" aria-label="fixed" readonly><span id="place"></span><input type="reset" value="Reset">
</form>
<script type="module">
  import { createBroker } from "/broker.js";
  globalThis.broker = createBroker();
  if (!broker.user.get()) await broker.signUp(`user-${Math.random()}`.replace("0.", ""), "correct horse");
  globalThis.form = broker.form("profile", profile);
  form.state.subscribe((state) => (globalThis.state = state));
</script>"""


class Windows:
    """Opens windows. A page may have no fault."""

    def __init__(self, browser: Browser, server: ServerProcess) -> None:
        self.server = server
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._faults: list[str] = []

    def open(self) -> Page:
        """A window of a new user."""
        self._contexts.append(self._browser.new_context())
        page = self._contexts[-1].new_page()
        page.on("pageerror", lambda error: self._faults.append(str(error)))
        page.goto(self.server.url)
        waits(page, "() => globalThis.state?.status === 'live'")
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        assert self._faults == []


def waits(page: Page, expression: str, argument: Any = None) -> None:
    page.wait_for_function(expression, arg=argument, timeout=BOUND_MS, polling=20)


def shows(page: Page, **data: Any) -> None:
    """Waits until the event has these fields, and the page has nothing that is not stored."""
    expression = """(data) => state.saved && Object.entries(data).every(([key, value]) =>
      JSON.stringify(broker.event("profile").get()?.[key]) === JSON.stringify(value))"""
    waits(page, expression, data)


def patch(page: Page, **data: Any) -> None:
    """Writes fields by a program, and returns once they are stored."""
    page.evaluate("(data) => broker.event('profile').patch(data).then(() => {})", data)


def keys(page: Page, typed: str) -> None:
    page.keyboard.type(typed, delay=1_000 / KEYS_A_SECOND)


class Hold:
    """Holds requests back until it ends."""

    def __init__(self, page: Page, address: str) -> None:
        self._routes: list[Route] = []
        self._held = True
        page.route(address, self._take)

    def _take(self, route: Route) -> None:
        if self._held:
            self._routes.append(route)
        else:
            route.continue_()

    def end(self) -> None:
        self._held = False
        for route in self._routes:
            route.continue_()


def text(length: float = SECONDS * KEYS_A_SECOND) -> str:
    return ("The quick brown fox jumps over the lazy dog. " * (1 + int(length) // 45))[: int(length)]
