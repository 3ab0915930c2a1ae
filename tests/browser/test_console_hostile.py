"""Data that would like to be more than data: on every screen of the console it is text, nothing of it runs, and nothing
is pushed out of its place."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.console import Console
from tests.support.operators import insert
from tests.support.servers import ServerProcess

RUNS = '"><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'
NAMES = [
    f"x{RUNS}",
    "javascript:window.pwned=1",
    "\u202egnp.exe",
    "n" * 255,
    "a/" * 100 + "b",
    "constructor",
    "__proto__",
    "100%2f",
]
DATA: dict[str, Any] = {
    "markup": RUNS,
    "a long word": "w" * 1_000_000,
    "keys": {f"{RUNS} {n}": n for n in range(5_000)} | {f"k{n}": None for n in range(5_000)},
    "marks": "\u202e\u2066 right to left \u0000\u0007",
    "deep": json.loads("[" * 100 + "]" * 100),
    "__proto__": {"polluted": True},
}
USER = "e" * 64
SIZES = [(1280, 800), (360, 700)]


@pytest.fixture(name="server", scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("data"), console_name=RUNS[:60], body_bytes_max=4_000_000) as server:
        with server.client(USER) as eve:
            for name in NAMES:
                insert(eve, name, RUNS)
                insert(eve, name, {"later": RUNS}, timestamp=time.time() + 3_600)
            for name, value in DATA.items():
                insert(eve, f"data/{name}", value)
                insert(eve, f"data/{name}", {"was": value})
        yield server


@pytest.fixture(name="page", params=SIZES, ids=["wide", "narrow"], scope="module")
def open_page(request: pytest.FixtureRequest, browser: Browser, server: ServerProcess) -> Iterator[Page]:
    console = Console(browser, server)
    width, height = request.param
    try:
        yield console.open(username=USER, viewport={"width": width, "height": height})
    finally:
        console.close()


def routes() -> Iterator[tuple[str, str]]:
    """Each screen, and a text that it shows once it is there."""
    yield "#/start", "Insert an event"
    yield "#/events", "constructor"
    yield "#/events?order=name&under=data/", "data/markup"
    yield "#/schedule", "constructor"
    yield "#/inspector", "received"
    for name in [*NAMES, *(f"data/{each}" for each in DATA)]:
        event = f"#/event/{quote(name, '')}"
        yield event, name
        yield f"{event}/history", USER
        yield f"{event}/code", "createBroker"


@pytest.mark.parametrize(("route", "text"), list(routes()), ids=lambda each: str(each)[:40].encode().hex()[:24])
def test_it_is_text_and_stays_in_its_place(page: Page, route: str, text: str) -> None:
    page.goto(page.url.split("#")[0] + route)
    expect(page.get_by_role("main").get_by_text(text).first).to_be_attached()
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("Object.prototype.polluted") is None
    assert page.locator("main img, main script, main iframe").count() == 0
    wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1], f"{route} is wider than the window"
