"""The link that a server prints in a terminal makes whoever logs in by it the first administrator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.servers import BOUND_S
from tests.support.terminals import serving_in_a_terminal

PASSWORD = "correct horse"


@pytest.fixture(name="link")
def print_link(tmp_path: Path) -> Iterator[str]:
    with serving_in_a_terminal(tmp_path / "data", until="There is no administrator yet.") as said:
        yield re.findall(r"log in there: (\S+)", said)[0]


@pytest.fixture(name="page")
def open_page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        context.set_default_timeout(1_000 * BOUND_S)
        yield context.new_page()


def log_in(page: Page, username: str) -> None:
    page.get_by_label("User name").fill(username)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")


def roles(link: str, username: str) -> list[str]:
    with httpx.Client(base_url=link.partition("#")[0], timeout=BOUND_S) as client:
        jwt = client.post("/login", json={"username": username, "password": PASSWORD}).json()["jwt"]
        shown: list[str] = client.get("/users/me", headers={"Authorization": f"Bearer {jwt}"}).json()["roles"]
        return shown


def test_the_first_user_becomes_the_administrator(page: Page, link: str) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(link)
    log_in(page, "ada")
    expect(page.get_by_text("You are the administrator of this server.")).to_be_visible()
    assert roles(link, "ada") == ["admin"]
    assert "admin=" not in page.url
    code = link.rpartition("=")[2]
    assert [url for url in requests if code in url] == []


def test_whoever_is_signed_in_already_becomes_the_administrator(page: Page, link: str) -> None:
    url = link.partition("#")[0]
    page.goto(url)
    log_in(page, "ada")
    page.get_by_role("button", name="Sign out").wait_for()
    page.goto("about:blank")
    page.goto(link)
    expect(page.get_by_text("You are the administrator of this server.")).to_be_visible()
    assert roles(link, "ada") == ["admin"]
    page.goto("about:blank")
    page.goto(link)
    expect(page.get_by_text("Code: it is wrong, was used, or is too old")).to_be_visible()
