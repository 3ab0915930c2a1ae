"""The console's schedule: what is pending and what ends, live, with count-downs; cancel and move."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.console import Console
from tests.support.rules import apply_rules
from tests.support.servers import wait_for

HOUR, DAY = 3_600, 86_400
# The value of a field for a time that is so many seconds from now.
LOCAL = """seconds => {
  const date = new Date(Date.now() + 1_000 * seconds);
  return new Date(date - 60_000 * date.getTimezoneOffset()).toISOString().slice(0, 19);
}"""
# Keeps what the count-down of a row says, and whether the row flashes.
SEEN = """row => {
  window.seen = [];
  new MutationObserver(() => seen.push(row.querySelector("span").textContent, getComputedStyle(row).animationName))
    .observe(row, {subtree: true, childList: true, attributes: true});
}"""
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>\u202e'


def schedule(
    client: httpx.Client, event: str, data: Any, after_s: float | None = None, **more: float
) -> dict[str, Any]:
    """Inserts a record that is due so many seconds from now; ``until`` counts from now, too."""
    now = time.time()
    body = {"event": event, "data": data} | {name: now + value for name, value in more.items()}
    if after_s is not None:
        body["timestamp"] = now + after_s
    response = client.post("/insert", json=body)
    assert response.status_code == 201, response.text
    record: dict[str, Any] = response.json()
    return record


def entry(page: Page, event: str) -> Locator:
    return page.get_by_role("listitem").filter(has=page.get_by_role("link", name=event, exact=True))


def pending(client: httpx.Client) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = client.get("/pending").json()
    return records


def test_an_empty_schedule_says_what_it_is_and_how_to_fill_it(console: Console) -> None:
    page = console.open("#/schedule")
    expect(page).to_have_title(re.compile("^Schedule · "))
    expect(page.get_by_role("heading", name="Nothing is scheduled")).to_be_visible()
    link = page.get_by_role("main").get_by_role("link", name="Schedule an event")
    expect(link).to_have_attribute("href", "#/event?when=at")
    page.get_by_role("button", name="Copy with my token").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Copy with my token")).to_have_text("Copied")
    line = page.evaluate("navigator.clipboard.readText()")
    assert "eyJ" in line
    assert "timestamp" in line
    assert "eyJ" not in page.content()


def test_what_a_second_client_schedules_appears_in_its_group_and_on_the_time_line(console: Console) -> None:
    page = console.open("#/schedule")
    page.get_by_role("heading", name="Nothing is scheduled").wait_for()
    with console.server.client("bob") as bob:
        schedule(bob, "sale", {"percent": 20}, 40, until=DAY)
        schedule(bob, "promo", None, 3 * DAY)
        schedule(bob, "prices/tea", 4.5, 85 * DAY)
        expect(page.get_by_role("list", name="Next minute").get_by_role("listitem")).to_contain_text(
            re.compile(r"\d+ s.*sale.*\{\"percent\":20\}.*due .*, until .*, by bob")
        )
        expect(page.get_by_role("list", name="This week").get_by_role("listitem")).to_contain_text("removes the event")
        expect(page.get_by_role("list", name="Later").get_by_role("listitem")).to_contain_text("prices/tea")
        expect(page.get_by_role("heading", name="Nothing is scheduled")).to_be_hidden()
        expect(page.get_by_role("img", name="Time line with 3 marks")).to_contain_text("sale")
    entry(page, "prices/tea").get_by_role("link", name="Show the state then").click()
    expect(page.get_by_role("main")).to_contain_text("As it will be in 2 months")
    expect(page.get_by_role("row").filter(has_text="prices/tea")).to_contain_text("4.5")


def test_the_count_down_reaches_zero_and_the_entry_goes(console: Console) -> None:
    page = console.open("#/schedule")
    with console.server.client("ada") as ada:
        schedule(ada, "later", 1, HOUR)
        schedule(ada, "sale", 1, 5)
        entry(page, "sale").evaluate(SEEN)
        expect(page.get_by_role("status").filter(has_text="sale is published.")).to_have_count(1)
        expect(entry(page, "sale")).to_have_count(0)
        seen = page.evaluate("seen")
        assert [seen.count(each) > 0 for each in ("1 s", "now", "flash")] == [True] * 3, seen
        expect(entry(page, "later")).to_be_visible()
        assert [each["event"] for each in pending(ada)] == ["later"]


def test_the_end_of_a_version_is_there_and_follows_what_happens_to_it(console: Console) -> None:
    with console.server.client("ada") as ada:
        schedule(ada, "banner", "Free delivery", until=HOUR)
        schedule(ada, "plain", 1)
        page = console.open("#/schedule")
        expect(entry(page, "banner")).to_contain_text(
            re.compile("59 min.*this version ends, and the event with it.*by ada")
        )
        expect(entry(page, "plain")).to_have_count(0)
        schedule(ada, "beta", True, until=5)
        expect(entry(page, "beta")).to_be_visible()
        schedule(ada, "banner", "For good")
        expect(entry(page, "banner")).to_have_count(0)
        expect(page.get_by_role("status").filter(has_text="beta has ended.")).to_have_count(1)
        expect(page.get_by_role("heading", name="Nothing is scheduled")).to_be_visible()


def test_an_entry_is_cancelled_by_keyboard(console: Console) -> None:
    page = console.open("#/schedule")
    with console.server.client("ada") as ada:
        schedule(ada, "sale", 1, HOUR)
        schedule(ada, "next", 1, 2 * HOUR)
        expect(page.get_by_role("listitem")).to_have_count(2)
        page.get_by_role("button", name="Cancel sale").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog", name="Cancel what is scheduled for sale?")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Cancel sale")).to_be_focused()
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Cancel the record").press("Enter")
        expect(entry(page, "sale")).to_have_count(0)
        expect(page.get_by_role("link", name="next", exact=True)).to_be_focused()
        expect(page.get_by_role("status").filter(has_text="sale is cancelled.")).to_be_visible()
        expect(page.get_by_role("link", name="Schedule an event")).to_be_visible()
        assert [each["event"] for each in pending(ada)] == ["next"]


def test_a_cancel_that_comes_too_late_is_said(console: Console) -> None:
    page = console.open("#/schedule")
    with console.server.client("ada") as ada:
        schedule(ada, "later", 1, HOUR)
        schedule(ada, "sale", 1, 5)
        page.get_by_role("button", name="Cancel sale").click()
        wait_for(lambda: len(pending(ada)) == 1, what="its publication")
        page.get_by_role("button", name="Cancel the record").click()
        expect(page.get_by_text("sale was faster: it is published")).to_be_visible()
        expect(entry(page, "later")).to_be_visible()


def test_an_entry_is_moved_by_keyboard_in_one_step_and_keeps_its_numbers(console: Console) -> None:
    page = console.open("#/schedule")
    due = int(time.time()) + HOUR
    body = '{"event":"sale","data":{"id":12345678901234567890,"price":2.30},"timestamp":' + f"{due}}}"
    with console.server.client("ada") as ada:
        assert ada.post("/insert", content=body, headers={"Content-Type": "application/json"}).status_code == 201
        expect(entry(page, "sale")).to_contain_text('{"id":12345678901234567890,"price":2.30}')
        move = page.get_by_role("button", name="Move sale")
        move.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_label("New time")).to_be_focused()
        page.keyboard.press("Escape")
        expect(move).to_be_focused()
        page.keyboard.press("Enter")
        page.get_by_label("New time").fill(page.evaluate(LOCAL, -60))
        page.get_by_role("button", name="Move it").press("Enter")
        expect(page.get_by_role("alert").filter(has_text="has passed")).to_be_visible()
        page.get_by_label("New time").fill(page.evaluate(LOCAL, 2 * DAY))
        page.get_by_label("New time").press("Enter")
        expect(page.get_by_role("list", name="This week").get_by_role("listitem")).to_contain_text("sale")
        expect(entry(page, "sale")).to_have_count(1)
        expect(page.get_by_role("link", name="sale", exact=True)).to_be_focused()
        wait_for(lambda: len(pending(ada)) == 1, what="the move")
        expect(page.get_by_role("status").filter(has_text="sale is moved to ")).to_be_visible()
        expect(entry(page, "sale")).to_contain_text('{"id":12345678901234567890,"price":2.30}')
        text = ada.get("/pending").text
        assert '{"id":12345678901234567890,"price":2.30}' in text
        assert [each["cancelled"] for each in ada.get("/collections/sale").json()] == [True, False]


def test_the_digits_of_many_values_are_as_they_were_inserted_and_tomorrow_is_a_group(console: Console) -> None:
    page = console.open("#/schedule", timezone_id="UTC")
    page.get_by_role("heading", name="Nothing is scheduled").wait_for()
    tomorrow = (time.time() // DAY + 1.5) * DAY
    with console.server.client("ada") as ada:
        for name, data in (("a", "2.30"), ("b", "[1.0,1e2]"), ("c", '"2.30"')):
            body = f'{{"event":"{name}","data":{data},"timestamp":{tomorrow}}}'
            assert ada.post("/insert", content=body, headers={"Content-Type": "application/json"}).status_code == 201
        for name, data in (("a", "2.30"), ("b", "[1.0,1e2]"), ("c", '"2.30"')):
            expect(entry(page, name).locator(".schedule-value")).to_have_text(data)
        expect(page.get_by_role("list", name="Tomorrow").get_by_role("listitem")).to_have_count(3)


@pytest.mark.parametrize("width", [360, 1280])
def test_the_field_for_another_time_has_room_for_its_text(console: Console, width: int) -> None:
    with console.server.client("ada") as ada:
        schedule(ada, "sale", 1, HOUR)
    page = console.open("#/schedule", viewport={"width": width, "height": 740}, locale="en-US")
    page.get_by_role("button", name="Move sale").click()
    field = page.get_by_label("New time")
    box = field.bounding_box()
    assert box is not None
    assert box["width"] >= 280
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_names_and_values_are_text(console: Console) -> None:
    with console.server.client("eve") as eve:
        schedule(eve, HOSTILE, {"text": HOSTILE}, HOUR)
        schedule(eve, "long", "x" * 1_000_000, HOUR)
        schedule(eve, "many", dict.fromkeys(map(str, range(10_000)), 0), HOUR)
        page = console.open("#/schedule", viewport={"width": 360, "height": 740})
        expect(page.get_by_role("listitem").filter(has_text="onerror")).to_contain_text("by eve")
        expect(page.get_by_role("listitem")).to_have_count(3)
        assert page.locator("main img:not([role]), main script").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_user_sees_what_the_rules_permit(console: Console) -> None:
    with console.server.client("ada") as ada, console.server.client("bob"):
        schedule(ada, "secret/1", 1, HOUR)
        schedule(ada, "board/1", 1, HOUR)
        apply_rules(
            console.server,
            '[[event]]\nname = "secret/*"\nread = "nobody"\n'
            '[[event]]\nname = "board/*"\nread = "user"\nlog = "user"\ncancel = "nobody"\n',
        )
        page = console.open("#/schedule", username="bob")
        expect(entry(page, "board/1")).to_be_visible()
        expect(entry(page, "secret/1")).to_have_count(0)
        page.get_by_role("button", name="Cancel board/1").click()
        page.get_by_role("button", name="Cancel the record").click()
        expect(page.get_by_text("board/1 stays as it is: ")).to_be_visible()
        expect(entry(page, "board/1")).to_be_visible()


def test_a_stranger_is_told_to_sign_in(console: Console) -> None:
    page = console.open("#/schedule", username=None)
    expect(page.get_by_role("alert")).to_contain_text("log in")
    expect(page.get_by_role("alert").get_by_role("link", name="Sign in")).to_be_visible()


def test_thousands_of_entries_are_shown_in_parts(console: Console) -> None:
    with console.server.client("ada") as ada:
        batch = [{"event": f"e/{n}", "data": n, "timestamp": time.time() + HOUR + n} for n in range(1_000)]
        assert ada.post("/insert", json=batch).status_code == 201
        page = console.open("#/schedule")
        expect(page.get_by_role("listitem")).to_have_count(200)
        page.get_by_role("button", name="Show 200 more").click()
        expect(page.get_by_role("listitem")).to_have_count(400)
        expect(page.get_by_text("1000 pending")).to_be_visible()
        assert page.locator(".schedule-mark").count() <= 120
