"""The console in a real browser, for the tests."""

from __future__ import annotations

import time
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.servers import BOUND_S, ServerProcess

expect.set_options(timeout=1_000 * BOUND_S)


class Console:
    """Opens pages of the console, and collects what goes wrong in them: errors, and what the policy forbids."""

    def __init__(self, browser: Browser, server: ServerProcess) -> None:
        self.browser = browser
        self.server = server
        self.faults: list[str] = []
        self._contexts: list[BrowserContext] = []

    def open(self, route: str = "", username: str | None = "ada", **options: Any) -> Page:
        """A page in a browser of its own, at a route such as ``#/events``, in which this user is signed in. ``options``
        are those of Playwright's ``new_context``, such as ``viewport`` and ``color_scheme``."""
        context = self.browser.new_context(**{"permissions": ["clipboard-read", "clipboard-write"], **options})
        context.set_default_timeout(1_000 * BOUND_S)
        self._contexts.append(context)
        page = self.watched(context.new_page())
        if username is not None:
            self._sign_in(page, username)
        page.goto(f"{self.server.url}/{route}")
        page.get_by_role("main").wait_for()
        return page

    def _sign_in(self, page: Page, username: str) -> None:
        """Does what a login leaves behind, since the login itself has tests of its own."""
        page.goto(f"{self.server.url}/about")
        kept = {"jwt": self.server.token(username), "username": username, "renew": (time.time() + 3_600) * 1_000}
        store = "([key, kept]) => localStorage.setItem(key, JSON.stringify({ ...kept, clock: 0 }))"
        page.evaluate(store, [f"broker {self.server.url}/", kept])

    def watched(self, page: Page) -> Page:
        """Collects the faults of a page."""
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda message: self._log(message.type, message.text))
        return page

    def _log(self, kind: str, text: str) -> None:
        # The browser writes a line for each response that is an error, and for a server that is not there.
        if kind == "error" and not text.startswith("Failed to load resource"):
            self.faults.append(text)

    def close(self) -> None:
        """Raises AssertionError if there was a fault."""
        for context in self._contexts:
            context.close()
        assert self.faults == []


def texts(page: Page, selector: str) -> list[str]:
    """What the elements show."""
    return page.locator(selector).all_inner_texts()
