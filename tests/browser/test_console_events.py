"""The console's table of events: live, searched, by groups, by keyboard, and at other times."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.console import Console
from tests.support.servers import ServerProcess, wait_for

NAMES = ".events-body .events-row:not([hidden]) .events-name"


@pytest.fixture(name="ada")
def make_ada(console: Console) -> Iterator[httpx.Client]:
    with console.server.client("ada") as client:
        yield client


def insert(client: httpx.Client, *records: dict[str, Any]) -> list[dict[str, Any]]:
    response = client.post("/insert", json=list(records))
    assert response.status_code == 201, response.text
    inserted: list[dict[str, Any]] = response.json()
    return inserted


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def names(page: Page) -> list[str]:
    """As they stand on the screen, from the top."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll(".events-body .events-row:not([hidden])")]
        .sort((a, b) => a.getBoundingClientRect().y - b.getBoundingClientRect().y)
        .map((each) => each.querySelector(".events-name").textContent)"""
    )
    return found


def live(page: Page) -> None:
    expect(page.locator(".events-status")).to_have_attribute("data-state", "live")


def test_a_change_is_seen_at_once_and_a_removed_event_is_struck(console: Console, ada: httpx.Client) -> None:
    insert(ada, {"event": "sale", "data": {"percent": 20}}, {"event": "news", "data": "old"})
    page = console.open("#/events")
    live(page)
    assert names(page) == ["news", "sale"]
    with console.server.client("bob") as bob:
        insert(bob, {"event": "sale", "data": {"percent": 30.10}})
    expect(row(page, "sale")).to_contain_text('{"percent":30.1}')
    expect(row(page, "sale")).to_contain_text("bob")
    wait_for(lambda: names(page) == ["sale", "news"], what="the newest event on top")
    insert(ada, {"event": "orders/1", "data": 12345678901234567890})
    wait_for(lambda: names(page) == ["orders/1", "sale", "news"], what="the new event on top")
    expect(row(page, "orders/1")).to_contain_text("12345678901234567890")
    expect(page.get_by_role("treeitem", name="orders/")).to_be_visible()
    insert(ada, {"event": "news", "data": None})
    expect(row(page, "news")).to_contain_text("removed")
    page.reload()
    live(page)
    assert names(page) == ["orders/1", "sale"]


def test_no_row_moves_under_the_pointer(console: Console, ada: httpx.Client) -> None:
    insert(ada, *({"event": f"e/{number}", "data": number} for number in range(10)))
    page = console.open("#/events")
    live(page)
    before = names(page)
    row(page, "e/5").hover()
    insert(ada, {"event": "e/3", "data": "changed"}, {"event": "new", "data": 1})
    expect(row(page, "e/3")).to_contain_text("changed")
    button = page.get_by_role("button", name="↑ 2 changes")
    expect(button).to_be_visible()
    assert names(page) == before
    button.click()
    wait_for(lambda: names(page)[:2] == ["new", "e/3"], what="the rows at their places")
    expect(button).to_be_hidden()
    insert(ada, {"event": "e/0", "data": "again"})
    expect(page.get_by_role("button", name="↑ 1 change")).to_be_visible()
    page.mouse.move(1, 1)
    page.get_by_label("Search names").focus()  # the button, on which the focus was, is inside
    wait_for(lambda: names(page)[0] == "e/0", what="the row on top, as nobody points there any more")


def test_search_as_one_types_is_in_the_address_and_survives_a_reload(console: Console, ada: httpx.Client) -> None:
    insert(ada, *({"event": f"orders/{number}", "data": 1} for number in range(300)), {"event": "Sale", "data": 1})
    page = console.open("#/events")
    live(page)
    page.keyboard.press("/")
    search = page.get_by_role("searchbox", name="Search names")
    search.focus()
    page.keyboard.type("sALE")
    wait_for(lambda: names(page) == ["Sale"], what="the name that was searched")
    assert page.url.endswith("#/events?search=sALE")
    insert(ada, {"event": "orders/x", "data": 1}, {"event": "sales", "data": 1})
    wait_for(lambda: names(page) == ["sales", "Sale"], what="a new name that contains the text, and no other")
    page.reload()
    wait_for(lambda: names(page) == ["sales", "Sale"], what="the same after a reload")
    search.fill("nothing has this name")
    expect(page.get_by_text("No name contains nothing has this name.")).to_be_visible()
    page.get_by_role("button", name="Show all events").click()
    expect(search).to_have_value("")
    wait_for(lambda: len(names(page)) > 10, what="all events")


def test_several_words_are_looked_for_and_what_was_found_is_highlighted(console: Console, ada: httpx.Client) -> None:
    insert(ada, *({"event": f"orders/{number}/<b>", "data": 1} for number in range(8)), {"event": "other/7", "data": 1})
    page = console.open("#/events?search=7+ORD")
    wait_for(lambda: names(page) == ["orders/7/<b>"], what="the name that has both words")
    assert row(page, "orders/7/<b>").locator("mark").all_inner_texts() == ["ord", "7"]
    live(page)
    insert(ada, {"event": "orders/8", "data": 1}, {"event": "lord/77", "data": 1})
    wait_for(lambda: names(page) == ["lord/77", "orders/7/<b>"], what="a new name that has both words")
    page.get_by_label("Search names").fill("lord")
    wait_for(lambda: names(page) == ["lord/77"], what="the other search")
    expect(page.locator(".events-name mark").filter(has_text="lord")).to_have_count(1)


def test_the_values_have_the_room_that_the_last_columns_leave(console: Console, ada: httpx.Client) -> None:
    insert(ada, {"event": "sale", "data": "x" * 1_000})
    page = console.open("#/events")
    live(page)

    def left() -> float:
        width: float = page.evaluate(
            """() => {
            const [row] = document.querySelectorAll(".events-body .events-row:not([hidden])");
            const [when, who] = [".events-when", ".events-who"].map((each) => row.querySelector(each));
            return when.clientWidth + who.clientWidth;
        }"""
        )
        return width

    assert left() < 120
    with console.server.client("a-very-long-name-of-a-user") as other:
        insert(other, {"event": "sale", "data": "x" * 1_000})
    wait_for(lambda: left() > 150, what="more room for a longer name")


def test_a_group_without_groups_says_so(console: Console, ada: httpx.Client) -> None:
    insert(ada, {"event": "orders/1", "data": 1})
    page = console.open("#/events")
    item = page.get_by_role("treeitem", name="orders/")
    item.locator(".tree-toggle").click()
    expect(page.get_by_role("treeitem", name="No groups in it")).to_be_visible()
    expect(item).to_have_attribute("aria-expanded", "true")
    item.locator(".tree-toggle").click()
    expect(page.get_by_role("treeitem", name="No groups in it")).to_have_count(0)
    expect(item).to_have_attribute("aria-expanded", "false")


def test_the_tree_by_keyboard_and_the_way_back(console: Console, ada: httpx.Client) -> None:
    insert(ada, *({"event": f"{group}/{key}/x", "data": 1} for group in ("orders", "users") for key in range(30)))
    insert(ada, {"event": "alone", "data": 1})
    page = console.open("#/events")
    expect(page.get_by_role("treeitem", name="users/")).to_be_visible()
    tree = page.get_by_role("tree")
    tree.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.get_by_role("treeitem", name="29/")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"#/events\?under=users%2F$"))
    expect(page).to_have_title(re.compile("^users/ · "))
    wait_for(lambda: names(page) and all(each.startswith("users/") for each in names(page)), what="the group alone")
    expect(tree).to_be_focused()
    expect(page.locator(".tree-active")).to_have_text(re.compile("users/"))
    page.get_by_role("treeitem", name="7/", exact=True).get_by_role("link").click()
    wait_for(lambda: names(page) == ["users/7/x"], what="the group of the group")
    page.get_by_role("heading").get_by_role("link", name="users").click()
    wait_for(lambda: len(names(page)) > 10, what="the group again")
    page.go_back()
    wait_for(lambda: names(page) == ["users/7/x"], what="the way back")
    page.go_back()
    page.go_back()
    expect(page).to_have_url(re.compile("#/events$"))


def test_on_a_phone_the_tree_is_a_drawer(console: Console, ada: httpx.Client) -> None:
    insert(ada, {"event": "orders/1", "data": 1}, {"event": "sale", "data": 1})
    page = console.open("#/events", viewport={"width": 390, "height": 740})
    live(page)
    item = page.get_by_role("treeitem", name="orders/")
    expect(item).to_be_hidden()
    drawer = page.get_by_text("Groups")
    arrow = "getComputedStyle(document.querySelector('.events-tree > summary'), '::before').content"
    assert "▸" in page.evaluate(arrow)
    drawer.click()
    assert "▾" in page.evaluate(arrow)
    item.get_by_role("link").click()
    wait_for(lambda: names(page) == ["orders/1"], what="the group alone")
    expect(page.get_by_role("tree")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_on_a_phone_the_slider_is_above_the_bar(console: Console, ada: httpx.Client) -> None:
    insert(ada, *({"event": f"e/{number}", "data": 1} for number in range(30)))
    page = console.open("#/events", viewport={"width": 360, "height": 640})
    live(page)
    expect(page.get_by_role("slider")).to_be_visible()
    expect(page.get_by_role("button", name="Now")).to_be_hidden()
    below = "document.querySelector('.slider-scale').getBoundingClientRect().bottom"
    bar = "document.querySelector('.shell nav').getBoundingClientRect().top"
    assert page.evaluate(f"{below} <= {bar}")
    page.get_by_role("slider").focus()
    page.keyboard.press("End")
    page.get_by_role("button", name="Now").click()
    expect(page.get_by_role("slider")).to_be_focused()
    expect(page.get_by_role("button", name="Now")).to_be_hidden()


def test_the_state_of_the_connection_is_said_once_and_in_words(console: Console, ada: httpx.Client) -> None:
    insert(ada, {"event": "sale", "data": 1})
    page = console.open("#/events", viewport={"width": 360, "height": 740})
    live(page)
    expect(page.locator(".shell-status")).to_be_hidden()
    console.server.stop()
    expect(page.get_by_text("The connection is interrupted. Trying again …")).to_be_visible()
    console.server.start()
    live(page)


def test_the_table_by_keyboard(console: Console, ada: httpx.Client) -> None:
    insert(ada, *({"event": f"e/{number:04}", "data": number} for number in range(1_000)))
    page = console.open("#/events?order=name")
    live(page)
    page.get_by_label("Search names").focus()
    page.keyboard.press("ArrowDown")
    grid = page.get_by_role("grid", name="Events")
    expect(grid).to_be_focused()
    selected = page.locator('.events-row[aria-selected="true"] .events-name')
    for key, name in (("ArrowDown", "e/0001"), ("ArrowDown", "e/0002"), ("ArrowUp", "e/0001"), ("End", "e/0059")):
        page.keyboard.press(key)
        expect(selected).to_have_text(name)
        active = page.locator(f"#{grid.get_attribute('aria-activedescendant')}")
        expect(active).to_contain_text(name)
    page.keyboard.press("PageDown")  # the next page was read meanwhile
    expect(selected).not_to_have_text("e/0199")
    page.keyboard.press("Home")
    expect(selected).to_have_text("e/0000")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#/event/e%2F0001$"))
    page.go_back()
    live(page)
    assert page.url.endswith("#/events?order=name")


def test_a_long_list_is_read_as_one_scrolls_and_never_kept_as_a_whole(console: Console, ada: httpx.Client) -> None:
    for first in range(0, 5_000, 1_000):
        insert(ada, *({"event": f"e/{number:04}", "data": number} for number in range(first, first + 1_000)))
    page = console.open("#/events?order=name")
    live(page)
    grid = page.get_by_role("grid", name="Events")
    rows = page.locator(".events-body .events-row")

    def scroll_to_the_end() -> bool:
        grid.evaluate("(grid) => grid.scrollTo(0, grid.scrollHeight)")
        return "e/4999" in names(page)

    wait_for(scroll_to_the_end, what="the last name")
    assert rows.count() < 100
    for y in range(5_000, -1, -25):
        grid.evaluate(f"(grid) => grid.scrollTo(0, {36 * y})")
    wait_for(lambda: "e/0000" in names(page), what="the first name, which was dropped meanwhile")
    assert names(page) == sorted(names(page))


def test_the_slider_shows_the_former_value_and_the_planned_one(console: Console, ada: httpx.Client) -> None:
    [former, _] = insert(ada, {"event": "sale", "data": {"percent": 10}}, {"event": "plain", "data": 0})
    wait_for(lambda: time.time() > former["published_at"] + 0.1)
    insert(ada, {"event": "sale", "data": {"percent": 20}}, {"event": "later", "data": 1})
    insert(ada, {"event": "sale", "data": {"percent": 50}, "timestamp": time.time() + 86_400})
    at = datetime.fromtimestamp(former["published_at"] + 0.05, UTC).isoformat(timespec="milliseconds")
    page = console.open(f"#/events?at={at.replace('+00:00', 'Z')}")
    expect(row(page, "sale")).to_contain_text('{"percent":10}')
    expect(row(page, "sale")).to_have_attribute("data-mark", "changed")
    expect(row(page, "plain")).to_have_attribute("data-mark", "")
    expect(row(page, "sale")).to_contain_text("Differs from now")
    expect(row(page, "later")).to_contain_text("not there yet")
    expect(row(page, "later")).not_to_contain_text("ada")
    expect(page.locator(".events-status")).to_contain_text("As it was")
    wait_for(lambda: names(page) == ["plain", "sale", "later"], what="the latest version of then first")
    insert(ada, {"event": "sale", "data": {"percent": 21}})
    page.get_by_role("button", name="Now").click()
    expect(row(page, "sale")).to_contain_text('{"percent":21}')
    expect(page).to_have_url(re.compile("#/events$"))

    slider = page.get_by_role("slider", name="Time")
    expect(page.locator(".slider-mark")).to_have_count(1)
    slider.focus()
    page.keyboard.press("End")  # a year ahead
    expect(row(page, "sale")).to_contain_text('{"percent":50}')
    expect(slider).to_have_attribute("aria-valuetext", re.compile("^in "))
    expect(page.locator(".events-status")).to_contain_text("As it will be")
    order = names(page)
    expect(page).to_have_url(re.compile(r"#/events\?at=20"))
    page.reload()
    expect(row(page, "sale")).to_contain_text('{"percent":50}')
    slider.focus()
    page.keyboard.press("Home")  # a year ago
    expect(row(page, "sale")).to_contain_text("not there yet")
    assert sorted(names(page)) == sorted(order)
    for _ in range(30):
        page.keyboard.press("PageUp")
    expect(page.locator(".events-status")).to_contain_text("As it will be")
    page.get_by_label(re.compile("Exact time")).fill("2001-01-01T00:00:00")
    page.keyboard.press("Tab")
    expect(page.locator(".events-status")).to_contain_text("As it was")


def test_a_state_of_the_future_begins_with_the_latest_version(console: Console, ada: httpx.Client) -> None:
    insert(ada, {"event": "b", "data": 1}, {"event": "a", "data": 1}, {"event": "plain", "data": 1})
    for hours, event in ((1, "a"), (3, "b"), (2, "planned")):
        insert(ada, {"event": event, "data": 2, "timestamp": time.time() + 3_600 * hours})
    page = console.open(f"#/events?at={time.time() + 86_400}")
    wait_for(lambda: names(page) == ["b", "planned", "a", "plain"], what="the latest first")
    expect(row(page, "planned")).to_have_attribute("data-mark", "added")
    expect(row(page, "planned")).to_contain_text("Only at this time: 2")
    content = 'getComputedStyle(document.querySelector("[data-mark=added] .events-value"), "::before").content'
    assert page.evaluate(content).startswith('"+ "')
    page.get_by_label("Order").select_option("By name")
    wait_for(lambda: names(page) == ["a", "b", "plain", "planned"], what="the order of names")


def test_what_changes_now_does_not_touch_the_state_of_another_time(console: Console, ada: httpx.Client) -> None:
    [first] = insert(ada, {"event": "sale", "data": 1})
    wait_for(lambda: time.time() > first["published_at"] + 0.1)
    page = console.open("#/events")
    live(page)
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".events-status")).to_contain_text("As it will be")
    insert(ada, {"event": "sale", "data": 2}, {"event": "new", "data": 1})
    with page.expect_response(re.compile("/snapshot")):
        page.keyboard.press("ArrowLeft")  # now
    wait_for(lambda: names(page) == ["new", "sale"], what="the changes, as it is now again")


@pytest.mark.parametrize("width", [360, 1280])
def test_hostile_names_and_values_are_text_and_the_page_keeps_its_width(
    console: Console, ada: httpx.Client, width: int
) -> None:
    hostile = ['"><img src=x onerror=alert(1)>', "\u202egnp.exe", "a/" * 60, "x" * 255, "<script>alert(1)</script>/x"]
    insert(ada, *({"event": name, "data": name * 500} for name in hostile))
    insert(ada, {"event": "keys", "data": {f"k{number}": number for number in range(10_000)}})
    page = console.open("#/events", viewport={"width": width, "height": 740})
    live(page)
    wait_for(lambda: set(hostile) <= set(texts_of(page)), what="all names as text")
    expect(page.get_by_role("slider")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("main img, main script").count() == 0


def texts_of(page: Page) -> list[str]:
    found: list[str] = page.evaluate(f"[...document.querySelectorAll({NAMES!r})].map((each) => each.textContent)")
    return found


def test_nothing_there_yet_says_what_to_do(console: Console, ada: httpx.Client) -> None:
    page = console.open("#/events")
    expect(page.get_by_text("There is no event yet.")).to_be_visible()
    expect(page.get_by_role("button", name="Copy the line for a terminal")).to_be_visible()
    insert(ada, {"event": "first", "data": 1})
    expect(row(page, "first")).to_be_visible()
    expect(page.get_by_text("There is no event yet.")).to_be_hidden()


def test_nothing_then_is_said_for_the_past_and_for_the_future(console: Console) -> None:
    page = console.open(f"#/events?at={time.time() + 86_400}")
    expect(page.get_by_text("There will be no event at this time.")).to_be_visible()
    page = console.open(f"#/events?at={time.time() - 86_400}")
    expect(page.get_by_text("There was no event at this time.")).to_be_visible()


def test_who_may_not_read_events_is_told_so(browser: Browser, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, events_public="no") as server:
        server.client("ada").close()
        console = Console(browser, server)
        page = console.open("#/events", username=None)
        expect(page.get_by_role("alert")).to_contain_text("You may not read these events.")
        page.get_by_role("alert").get_by_role("link", name="Sign in").click()
        expect(page.get_by_label("User name")).to_be_visible()
        console.close()


def test_a_server_that_was_stopped_is_read_again(console: Console, ada: httpx.Client) -> None:
    insert(ada, {"event": "sale", "data": 1})
    page = console.open("#/events")
    live(page)
    console.server.stop()
    expect(page.locator(".events-status")).to_have_attribute("data-state", "waiting")
    console.server.start()
    live(page)
    insert(ada, {"event": "sale", "data": 2})
    expect(row(page, "sale").locator(".events-value")).to_have_text("2")
