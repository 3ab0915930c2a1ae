"""The console's palette of commands, and its shortcuts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.console import Console
from tests.support.pages import insert


def at(console: Console, name: str, **options: Any) -> Page:
    """A page that shows this screen: before, the focus may still move."""
    page = console.open(f"#/{name.lower()}", **options)
    page.get_by_role("heading", name=name, level=1).wait_for()
    expect(page.get_by_role("navigation").get_by_role("link", name=name)).to_have_attribute("aria-current", "page")
    return page


def opened(page: Page, keys: str = "Control+k") -> None:
    page.keyboard.press(keys)
    expect(page.get_by_role("combobox", name="Search commands and events")).to_be_focused()


@pytest.mark.parametrize("keys", ["Control+k", "Meta+k"])
def test_a_command_is_found_by_some_letters_and_run(console: Console, keys: str) -> None:
    page = at(console, "Schedule")
    opened(page, keys)
    page.keyboard.type("insp")
    expect(page.get_by_role("option", selected=True)).to_contain_text("Inspector")
    expect(page.get_by_role("option", selected=True)).to_contain_text(re.compile("g.*i"))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#/inspector$"))
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_arrows_choose_and_escape_returns_the_focus(console: Console) -> None:
    page = at(console, "Schedule")
    page.get_by_role("button", name=re.compile("^Search")).focus()
    page.keyboard.press("Enter")
    field = page.get_by_role("combobox", name="Search commands and events")
    options = page.get_by_role("option")
    expect(options.first).to_have_attribute("aria-selected", "true")
    count = options.count()
    page.keyboard.press("ArrowUp")
    expect(options.nth(count - 1)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    expect(field).to_have_attribute("aria-activedescendant", str(options.nth(1).get_attribute("id")))
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name=re.compile("^Search"))).to_be_focused()
    expect(page).to_have_url(re.compile("#/schedule$"))


def test_events_are_found_by_their_names(console: Console) -> None:
    with console.server.client("ada") as ada:
        for n in range(20):
            insert(ada, f"orders/{n}", n)
        insert(ada, "<img src=x onerror=alert(1)>/x", 1)
        page = at(console, "Schedule")
        opened(page)
        page.keyboard.type("RDERS/1")
        expect(page.get_by_role("option")).to_have_count(8)
        expect(page.get_by_role("option", selected=True)).to_have_text("orders/1")
        expect(page.get_by_role("option", selected=True).locator("mark")).to_have_text("rders/1")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(r"#/event/orders%2F10$"))
        opened(page)
        page.keyboard.type("img src")
        expect(page.get_by_role("dialog").get_by_role("option")).to_have_text("<img src=x onerror=alert(1)>/x")
        page.get_by_role("combobox", name="Search commands").fill("no such thing")
        expect(
            page.get_by_role("status").filter(has_text="No command and no event has this in its name.")
        ).to_be_visible()


@pytest.mark.parametrize(
    ("keys", "route"), [("gs", "schedule"), ("gi", "inspector"), ("ge", "events"), ("n", "event")]
)  # fmt: skip
def test_shortcuts_open_screens(console: Console, keys: str, route: str) -> None:
    page = console.open("#/start")
    page.get_by_label("Event", exact=True).focus()
    page.keyboard.type("gs")  # in a field, they are letters
    expect(page).to_have_url(re.compile("#/start$"))
    page.get_by_role("heading", level=1).click()
    for key in keys:
        page.keyboard.press(key)
    expect(page).to_have_url(re.compile(f"#/{route}$"))


def test_a_question_mark_shows_the_shortcuts(console: Console) -> None:
    page = at(console, "Inspector")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Shortcuts")
    rows = (
        "Search, and run a commandCtrlK", "Schedulegs", "Eventsge", "Inspectorgi",
        "New eventn", "everything/", "framesp",
        "Send a test eventt", "InsertCtrlS", "valueEscTab", "Choose a row↑or↓", "Open the eventEnter",
    )  # fmt: skip
    for text in rows:
        expect(dialog).to_contain_text(text)
    for title in ("Everywhere", "Table of events", "Editor of an event", "Inspector"):
        expect(dialog.get_by_role("heading", name=title, exact=True)).to_be_visible()
    page.keyboard.press("n")  # they rest meanwhile
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page).to_have_url(re.compile("#/inspector$"))


def test_the_shortcuts_are_named_as_on_this_computer_and_fit_on_a_phone(console: Console) -> None:
    page = at(console, "Inspector", viewport={"width": 360, "height": 640})
    page.add_init_script("Object.defineProperty(navigator, 'platform', {get: () => 'MacIntel'})")
    page.reload()
    page.get_by_role("heading", name="Inspector", level=1).wait_for()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Shortcuts")
    expect(dialog).to_contain_text("Insert⌘S")
    expect(dialog).not_to_contain_text("Ctrl")
    assert dialog.evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")


def test_the_theme_is_a_command(console: Console) -> None:
    page = at(console, "Schedule", color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    opened(page)
    page.keyboard.type("theme dark")
    page.keyboard.press("Enter")
    page.wait_for_function(f"before => {background} !== before", arg=before)
    page.reload()
    page.get_by_role("main").wait_for()
    assert page.evaluate(background) != before


def test_the_address_and_the_token_are_copied(console: Console) -> None:
    page = at(console, "Schedule")
    opened(page)
    page.keyboard.type("copy address")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The address is copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == f"{console.server.url}/#/schedule"
    opened(page)
    page.keyboard.type("copy token")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The header with your token is copied.")).to_be_visible()
    header = page.evaluate("navigator.clipboard.readText()")
    name, _, value = header.removeprefix("-H '").removesuffix("'").partition(": ")
    with console.server.client() as client:
        assert client.get("/users/me", headers={name: value}).json()["username"] == "ada"


def test_signing_out_is_a_command(console: Console) -> None:
    page = at(console, "Schedule")
    opened(page)
    page.keyboard.type("sign out")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    opened(page)
    expect(page.get_by_role("option", name="Copy my token")).to_have_count(0)
    expect(page.get_by_role("option", name="Sign in")).to_have_count(1)
