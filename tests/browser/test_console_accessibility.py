"""What axe-core says of each screen of the console, with data in it and without, light and dark, wide and narrow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page

from tests.support.axe import needs_axe, violations
from tests.support.console import Console
from tests.support.operators import insert
from tests.support.servers import ServerProcess

NAME = "orders/7"
EVENT = f"#/event/{quote(NAME, '')}"
SCREENS = {  # the address, and what it shows
    "start": ("#/start", "Insert an event"),
    "events": ("#/events", "sale"),
    "a tree": ("#/events?under=orders/&order=name", "orders/0/lines"),
    "nothing found": ("#/events?search=none", "none"),
    "then": ("#/events?at=2100-01-01T00:00:00Z", "As it will be"),
    "an event": (EVENT, NAME),
    "a new event": ("#/event", "New event"),
    "history": (f"{EVENT}/history", "ada"),
    "code": (f"{EVENT}/code", "createBroker"),
    "schedule": ("#/schedule", NAME),
    "inspector": ("#/inspector", "received"),
}
THEMES = {"light": (1280, 800), "dark": (390, 844)}


@pytest.fixture(name="windows", scope="module")
def open_windows(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Page]]:
    """A page for each theme, signed in at a server that has events, versions, and something pending."""
    with ServerProcess(tmp_path_factory.mktemp("data"), console_name="production") as server:
        with server.client("ada") as ada:
            for n in range(3):
                insert(ada, NAME, {"item": "tea", "qty": n, "note": "a text " * 40})
            for n in range(20):
                insert(ada, f"orders/{n}/lines", [n, None, True, "x"])
            insert(ada, NAME, {"item": "tea", "qty": 9}, timestamp=time.time() + 3_600)
            insert(ada, "sale", {"percent": 20}, until=time.time() + 86_400)
        console = Console(browser, server)
        try:
            yield {
                theme: console.open(color_scheme=theme, viewport={"width": width, "height": height})
                for theme, (width, height) in THEMES.items()
            }
        finally:
            console.close()


@needs_axe
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_nothing(windows: dict[str, Page], screen: str, theme: str) -> None:
    page = windows[theme]
    route, text = SCREENS[screen]
    page.goto(page.url.split("#")[0] + route)
    page.get_by_role("main").get_by_text(text).first.wait_for()
    assert violations(page) == []


@needs_axe
@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_before_the_login(browser: Browser, tmp_path: Path, theme: str) -> None:
    with ServerProcess(tmp_path / "data") as server:
        console = Console(browser, server)
        page = console.open(username=None, color_scheme=theme)
        assert violations(page) == []
        server.client("ada").close()
        page = console.open("#/sign-in", username=None, color_scheme=theme)
        page.get_by_label("User name").wait_for()
        assert violations(page) == []
        console.close()


@needs_axe
@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_in_the_palette(windows: dict[str, Page], theme: str) -> None:
    page = windows[theme]
    page.keyboard.press("Control+k")
    page.get_by_role("dialog").get_by_role("combobox").wait_for()
    assert violations(page) == []
    page.keyboard.press("Escape")
