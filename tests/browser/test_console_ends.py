"""What ends while a screen is shown: the session, the right to read, and the screen itself."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.support.console import Console
from tests.support.operators import LATER, insert
from tests.support.rules import apply_rules

NAME = "plan"
SECRET = "only for those who may read it"
OPEN = """
[[event]]
name = "{_}"
read = "user"
insert = "user"
remove = "user"
log = "user"
open = true
"""
CLOSED = OPEN.replace('read = "user"', 'read = "nobody"').replace('log = "user"', 'log = "nobody"')


# All that the page shows, with what is in its fields.
SHOWN = "document.body.innerText + [...document.querySelectorAll('input, textarea')].map((each) => each.value)"


@pytest.mark.parametrize("route", ["#/start", "#/events", f"#/event/{NAME}", f"#/event/{NAME}/history", "#/schedule"])
def test_what_may_not_be_read_any_more_goes_from_the_screen(console: Console, route: str) -> None:
    apply_rules(console.server, OPEN)
    with console.server.client("bob") as bob:
        insert(bob, NAME, SECRET)
        insert(bob, NAME, SECRET, timestamp=LATER)
    page = console.open(route)
    page.wait_for_function(f"(text) => ({SHOWN}).includes(text)", arg=SECRET)
    if route.endswith("history"):
        page.get_by_role("button").filter(has_text=SECRET).first.click()
        page.get_by_role("dialog").wait_for()
    apply_rules(console.server, CLOSED)
    page.wait_for_function(f"(text) => !({SHOWN}).includes(text)", arg=SECRET)


def test_frames_that_may_not_be_read_any_more_go_from_the_inspector(console: Console) -> None:
    apply_rules(console.server, OPEN)
    page = console.open("#/inspector")
    page.get_by_role("main").get_by_text("$ready").first.wait_for()
    with console.server.client("bob") as bob:
        insert(bob, NAME, SECRET)
    page.get_by_text(SECRET).wait_for()
    apply_rules(console.server, CLOSED)
    expect(page.get_by_text(SECRET)).to_have_count(0)


def test_a_question_ends_with_the_session_of_whom_it_was_asked(console: Console) -> None:
    with console.server.client("ada") as ada:
        insert(ada, NAME, SECRET)
    page = console.open(f"#/event/{NAME}/history")
    other = console.watched(page.context.new_page())
    other.goto(f"{console.server.url}/#/events")
    page.get_by_role("button").filter(has_text=SECRET).first.click()
    page.get_by_role("dialog").wait_for()
    other.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("link", name="Sign in").first).to_be_visible()


def test_going_back_twice_asks_once_whether_to_leave(console: Console) -> None:
    page = console.open("#/events")
    page.goto(f"{console.server.url}/#/schedule")
    page.goto(f"{console.server.url}/#/event/{NAME}")
    page.get_by_label("Data (JSON)").fill("[1]")
    page.evaluate("history.back()")
    page.get_by_role("dialog").wait_for()
    page.evaluate("history.back()")
    expect(page).to_have_url(re.compile("#/events$"))
    expect(page.get_by_role("dialog")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page).to_have_url(re.compile(f"#/event/{NAME}$"))
    expect(page.get_by_label("Data (JSON)")).to_have_value("[1]")


def test_addresses_of_two_events_are_two_screens(console: Console) -> None:
    page = console.open(f"#/event/x/{quote('history', '')}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("x")
    page.goto(f"{console.server.url}/#/event/{quote('x,history', '')}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("x,history")
    page.goto(f"{console.server.url}/#/event/orders/42")
    expect(page.get_by_role("heading", level=1)).to_contain_text("orders/42")


def test_the_rate_of_the_inspector_falls_to_nothing_when_nothing_comes(console: Console) -> None:
    page = console.open("#/inspector")
    page.get_by_role("main").get_by_text("$ready").first.wait_for()
    rate = page.locator("dt", has_text="Rate").locator("xpath=following-sibling::dd")
    with console.server.client("bob") as bob:
        for n in range(40):
            insert(bob, NAME, n)
    expect(rate).to_have_text(re.compile(r"^[1-9][0-9.]* / s$"))
    expect(rate).to_have_text("0 / s")
