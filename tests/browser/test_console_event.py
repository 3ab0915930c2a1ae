"""The screen of one event in the console: the editor, its conflicts, and its times."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.axe import needs_axe, violations
from tests.support.console import Console
from tests.support.servers import wait_for
from tests.support.versions import EXACT, HOSTILE, NAME, confirm, editor, insert, route, snapshot, state, versions


def test_a_new_event_by_keyboard_alone(console: Console) -> None:
    page = console.open("#/event")
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    page.keyboard.type("$sale")
    expect(page.get_by_role("alert")).to_contain_text("reserved")
    page.keyboard.press("Enter")
    assert page.url.endswith("#/event")
    page.keyboard.press("Control+a")
    page.keyboard.type(NAME)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(NAME)
    expect(state(page)).to_contain_text("not there yet")
    expect(editor(page)).to_be_focused()
    page.keyboard.type('{"qty": 1.0}')
    page.keyboard.press("Control+s")  # there is nothing to compare, so nothing is asked
    expect(state(page)).to_contain_text("current by ada")
    assert '"data":{"qty":1.0}' in snapshot(console)
    expect(editor(page)).to_have_value('{"qty": 1.0}')
    editor(page).fill('{"qty": 2}')
    page.keyboard.press("Control+s")
    confirm(page, "Insert", "qty", "1.0")
    wait_for(lambda: '"data":{"qty":2}' in snapshot(console))
    expect(page.get_by_role("button", name="Discard changes")).to_be_hidden()
    page.get_by_role("link", name="orders/").click()
    assert page.url.endswith("#/events?under=shop%2Forders%2F")


def test_the_text_of_numbers_and_escapes_is_kept_from_end_to_end(console: Console) -> None:
    insert(console, "ada", EXACT)
    page = console.open(route(NAME))
    expect(editor(page)).to_have_value(re.compile('"price": 1.0,\n  "id": 12345678901234567890,\n  "tiny": 1e-7,'))
    editor(page).fill(editor(page).input_value().replace('"tiny"', '"small"'))
    page.keyboard.press("Control+s")
    confirm(page, "Insert", "tiny", "small", "1e-7")
    wait_for(lambda: EXACT.replace("tiny", "small") in snapshot(console))
    expect(page.get_by_role("button", name="Discard changes")).to_be_hidden()


def test_a_mistake_is_said_with_its_place_and_nothing_is_sent(console: Console) -> None:
    insert(console, "ada", "1")
    page = console.open(route(NAME))
    expect(editor(page)).to_have_value("1")
    editor(page).fill('{\n  "a": 1\n  "b": 2\n}')
    sentence = "Line 3, column 3: a comma is missing between two members"
    mistake = page.get_by_role("button", name=sentence)
    expect(mistake).to_be_visible()
    expect(page.locator(".event-field [role=status]")).to_have_text(sentence.replace("L", "l"))
    page.get_by_role("button", name="Insert …").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(editor(page)).to_be_focused()
    assert editor(page).evaluate("area => area.selectionStart") == len('{\n  "a": 1\n  ')
    page.keyboard.press("Control+Home")
    mistake.click()
    page.keyboard.type(",")
    expect(page.get_by_text("Valid JSON, 4 lines")).to_be_visible()
    editor(page).fill('{"b":[1.0,{"c":1e5}],"a":1, "a":2}')
    expect(page.get_by_role("button", name='the name "a" is there twice')).to_be_visible()
    page.get_by_role("button", name="Format").click()
    formatted = '{\n  "b": [\n    1.0,\n    {\n      "c": 1e5\n    }\n  ],\n  "a": 1,\n  "a": 2\n}'
    expect(editor(page)).to_have_value(formatted)
    page.keyboard.press("Control+z")
    expect(editor(page)).to_have_value('{"b":[1.0,{"c":1e5}],"a":1, "a":2}')
    page.keyboard.press("Shift+Alt+F")
    expect(editor(page)).to_have_value(formatted)


def test_the_field_is_as_high_as_its_text_and_no_higher_than_most_of_the_window(console: Console) -> None:
    page = console.open(route("new"), viewport={"width": 1280, "height": 800})

    def height() -> float:
        return float(editor(page).evaluate("area => area.clientHeight"))

    expect(editor(page)).to_be_focused()
    low = height()
    assert 8 * 20 <= low <= 10 * 20
    editor(page).fill("[\n" + "1,\n" * 10 + "1]")
    wait_for(lambda: 12 * 20 <= height() <= 15 * 20)
    editor(page).fill("[\n" + "1,\n" * 1_000 + "1]")
    wait_for(lambda: 0.55 * 800 <= height() <= 0.6 * 800)


def test_on_a_phone_the_actions_stay_above_the_navigation(console: Console) -> None:
    insert(console, "ada", json.dumps({f"key {number}": number for number in range(50)}))
    page = console.open(route(NAME), viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    expect(editor(page)).to_have_value(re.compile("key 49"))
    expect(page.locator(".event-keys")).to_be_hidden()
    button = page.get_by_role("button", name="Insert …")
    box = button.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 640 - 56
    editor(page).fill("1")
    expect(page.get_by_role("button", name="Discard changes")).to_be_visible()
    assert page.locator(".event-actions").evaluate("bar => bar.clientHeight") < 80  # one row
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_new_event_of_a_group_has_its_name_begun(console: Console) -> None:
    insert(console, "ada", "1", "products/tea")
    page = console.open("#/events?under=products/")
    page.get_by_role("link", name="New event").click()
    name = page.get_by_label("Name", exact=True)
    expect(name).to_be_focused()
    expect(name).to_have_value("products/")
    page.keyboard.type("coffee")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("products/coffee")
    expect(editor(page)).to_have_attribute("placeholder", '{"any": "JSON"}')
    page.locator(".event-name").get_by_role("link", name="Events").click()
    assert page.url.endswith("#/events")


def test_the_palette_leads_into_the_field(console: Console) -> None:
    insert(console, "ada", "1")
    page = console.open("#/schedule")
    page.keyboard.press("Control+k")
    page.get_by_role("combobox").wait_for()
    page.keyboard.type("orders/42")
    expect(page.get_by_role("option", selected=True)).to_have_text(NAME)
    page.keyboard.press("Enter")
    expect(editor(page)).to_be_focused()
    wait_for(lambda: page.url.endswith(route(NAME)))


def test_tab_indents_and_escape_tab_leaves(console: Console) -> None:
    page = console.open(route("new"))
    expect(editor(page)).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.type("1")
    expect(editor(page)).to_have_value("  1")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(editor(page)).not_to_be_focused()
    expect(editor(page)).to_have_value("  1")


def test_a_change_of_a_second_window_is_said_at_once_and_what_is_typed_stays(console: Console) -> None:
    insert(console, "ada", '{"a":1,"b":1.0}')
    mine = console.open(route(NAME))
    theirs = console.open(route(NAME), "bob")
    typed = '{\n  "a": 2,\n  "b": 1.0\n}'
    expect(editor(mine)).to_have_value(typed.replace("2", "1"))
    editor(mine).fill(typed)
    expect(editor(theirs)).not_to_have_value("")
    editor(theirs).fill('{"a":1,"b":7.00}')
    theirs.keyboard.press("Control+s")
    confirm(theirs, "Insert", "7.00")
    expect(mine.get_by_role("alert").filter(has_text="bob has changed this")).to_be_visible()
    expect(editor(mine)).to_have_value(typed)
    mine.get_by_role("button", name="See what").click()
    changes = mine.get_by_role("region", name="Both changes")
    expect(changes.get_by_role("row").filter(has_text="b1.0")).to_contain_text("7.00")
    # What is typed while the changes are shown counts, too.
    editor(mine).fill('{"a":2,"b":8}')
    expect(mine.get_by_role("button", name="Keep both changes")).to_be_disabled()
    editor(mine).fill('{"a":2 "b":1.0}')
    expect(mine.get_by_text("Your text is not valid JSON")).to_be_visible()
    editor(mine).fill('{"a":3,"b":1.0}')
    mine.get_by_role("button", name="Keep both changes").click()
    confirm(mine, "Insert", "a", "1", "3")
    wait_for(lambda: '"data":{"a":3,"b":7.00}' in snapshot(console))
    # Without edits of one's own, the text follows.
    expect(editor(theirs)).to_have_value('{\n  "a": 3,\n  "b": 7.00\n}')
    expect(mine.get_by_text("has changed this")).to_be_hidden()


def test_a_conflict_that_only_the_server_knows_is_shown_and_nothing_is_overwritten(console: Console) -> None:
    insert(console, "ada", '{"a":1}')
    page = console.open(route(NAME))
    editor(page).fill('{"a":2}')
    # The question is open while somebody else inserts, and the stream does not bring it: the condition decides.
    page.route("**/rights?*", lambda request: request.abort())
    page.keyboard.press("Control+s")
    expect(page.get_by_role("dialog")).to_be_visible()
    insert(console, "bob", '{"a":3}')
    confirm(page, "Insert")
    said = page.get_by_role("alert").filter(has_text=f"Not stored: bob has changed {NAME} meanwhile")
    expect(said).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="both")).to_contain_text("123")
    expect(page.get_by_role("button", name="Keep both changes")).to_be_disabled()
    page.unroute("**/rights?*")
    assert [each["data"] for each in versions(console)] == [{"a": 1}, {"a": 3}]
    page.get_by_role("button", name="Overwrite").click()
    confirm(page, "Insert", "3", "2")
    wait_for(lambda: [each["data"] for each in versions(console)] == [{"a": 1}, {"a": 3}, {"a": 2}])


def test_an_insert_during_a_conflict_opens_the_ways_on_and_asks_nothing(console: Console) -> None:
    insert(console, "ada", '{"a":1,"b":1}')
    page = console.open(route(NAME))
    editor(page).fill('{"a":2,"b":1}')
    insert(console, "bob", '{"a":1,"b":2}')
    expect(page.get_by_role("alert").filter(has_text="bob has changed this")).to_be_visible()
    page.keyboard.press("Control+s")
    said = page.get_by_role("alert").filter(has_text=f"Not stored yet: bob has changed {NAME} meanwhile")
    expect(said).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Keep both changes")).to_be_focused()
    page.keyboard.press("Enter")
    confirm(page, "Insert", "a", "12")
    wait_for(lambda: '"data":{"a":2,"b":2}' in snapshot(console))


def test_take_theirs_gives_up_what_is_typed(console: Console) -> None:
    insert(console, "ada", "1")
    page = console.open(route(NAME))
    editor(page).fill("2")
    insert(console, "bob", "3")
    page.get_by_role("button", name="See what").click()
    page.get_by_role("button", name="Take theirs").click()
    expect(editor(page)).to_have_value("3")
    expect(page.get_by_text("has changed this")).to_be_hidden()


def test_a_write_whose_response_is_lost_is_stored_once(console: Console) -> None:
    insert(console, "ada", "1")
    page = console.open(route(NAME))
    editor(page).fill("2")

    def lose(request: Any) -> None:
        request.fetch()
        request.abort()

    page.route("**/insert", lose, times=1)
    page.route("**/snapshot?*", lambda request: request.abort())  # nor does it come another way
    page.keyboard.press("Control+s")
    confirm(page, "Insert")
    expect(page.get_by_role("alert").filter(has_text="Insert again: it is stored only once")).to_be_visible()
    page.keyboard.press("Control+s")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    confirm(page, "Insert")
    expect(page.get_by_role("button", name="Discard changes")).to_be_hidden()
    assert [each["data"] for each in versions(console)] == [1, 2]


def test_schedule_until_and_cancel(console: Console) -> None:
    insert(console, "ada", "1")
    page = console.open(route(NAME))
    expect(editor(page)).to_have_value("1")
    editor(page).fill("2.0")
    page.get_by_label("Publish", exact=True).select_option("At a time")
    expect(page.get_by_text("It replaces whatever is there by then.")).to_be_visible()
    zone = page.evaluate("Intl.DateTimeFormat().resolvedOptions().timeZone")
    expect(page.get_by_text(f"Times are in your zone, {zone}.")).to_be_visible()
    at = page.get_by_label(f"Publish at ({zone})")
    expect(at).to_be_focused()
    at.fill("2020-01-01T00:00:00")
    page.get_by_role("button", name="Schedule …").click()
    expect(page.get_by_role("alert").filter(has_text="This time has passed")).to_be_visible()
    at.fill("2100-01-01T12:00:00")
    page.get_by_label("Ends", exact=True).select_option("At a time")
    page.get_by_label(f"Ends at ({zone})").fill("2100-01-02T12:00:00")
    page.get_by_role("button", name="Schedule …").click()
    confirm(page, "Schedule", "replaces whatever is there by then", "2.0")
    pending = page.get_by_role("region", name="Pending versions").get_by_role("listitem")
    expect(pending).to_have_count(1)
    expect(pending).to_contain_text("in 7")  # and more years
    expect(state(page)).to_contain_text("1 pending")
    expect(editor(page)).to_have_value("1")
    (record,) = (each for each in versions(console) if not each["published"])
    assert record["until"] - record["timestamp"] == 86_400
    assert record["timestamp"] == page.evaluate("new Date('2100-01-01T12:00:00').getTime() / 1000")

    pending.get_by_role("button", name="Cancel").click()
    confirm(page, "Cancel it")
    expect(pending).to_have_count(0)
    expect(state(page)).not_to_contain_text("pending")

    page.get_by_label("Ends", exact=True).select_option("At a time")
    editor(page).fill("3")
    page.get_by_role("button", name="Insert …").click()
    confirm(page, "Insert", "It ends")
    expect(state(page)).to_contain_text("ends in 59 min")
    # A change of a version that ends keeps its end, to the microsecond.
    until = time.time() + 1_800.25
    insert(console, "bob", "4", until=until)
    expect(editor(page)).to_have_value("4")
    editor(page).fill("5")
    page.keyboard.press("Control+s")
    confirm(page, "Insert", "It ends")
    expect(page.get_by_role("button", name="Discard changes")).to_be_hidden()
    assert abs(versions(console)[-1]["until"] - until) < 0.001


def test_a_version_is_scheduled_for_some_time_from_now(console: Console) -> None:
    page = console.open(route(NAME))
    expect(editor(page)).to_be_focused()
    page.keyboard.type('{"a": 1}')
    page.get_by_label("Publish", exact=True).select_option("In …")
    span = page.get_by_label("Publish in", exact=True)
    expect(span).to_be_focused()
    expect(span).to_have_value("10")
    expect(page.get_by_text("Ctrl S schedules.")).to_be_visible()
    span.fill("")
    page.keyboard.press("Control+s")
    expect(page.get_by_role("alert").filter(has_text="Choose when")).to_be_visible()
    span.fill("2")
    page.get_by_label("Publish in: the unit").select_option("h")
    page.get_by_label("Ends", exact=True).select_option("After …")
    page.get_by_label("Ends after", exact=True).fill("30")
    page.keyboard.press("Control+s")
    confirm(page, "Schedule", "in 1 h, ", "It ends ")
    # The field shows what will be there, and a slip of the fingers does not publish it now.
    expect(editor(page)).to_have_value('{\n  "a": 1\n}')
    expect(page.get_by_role("status").filter(has_text="Nothing is published yet")).to_be_visible()
    expect(page.get_by_role("button", name="Discard changes")).to_be_hidden()
    page.keyboard.press("Control+s")
    confirm(page, "Back", "at once")
    (record,) = versions(console)
    assert 7_100 < record["timestamp"] - time.time() < 7_200
    assert abs(record["until"] - record["timestamp"] - 1_800) < 1
    page.reload()
    expect(editor(page)).to_have_value('{\n  "a": 1\n}')
    page.get_by_role("button", name="Cancel what is due").click()
    confirm(page, "Cancel it")
    expect(editor(page)).to_have_value("")


def test_leaving_with_unsaved_text_asks(console: Console) -> None:
    insert(console, "ada", "1")
    page = console.open(route(NAME))
    expect(editor(page)).to_have_value("1")
    editor(page).fill("2")
    page.get_by_role("navigation").get_by_role("link", name="Events").click()
    confirm(page, "Stay", "If you leave, your changes are lost.")
    expect(editor(page)).to_have_value("2")
    asked: list[str] = []

    def stay(dialog: Any) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.evaluate("setTimeout(() => location.reload())")
    wait_for(lambda: page.evaluate("1") and asked, what="the question of the browser")
    assert asked == ["beforeunload"]
    page.get_by_role("navigation").get_by_role("link", name="Events").click()
    confirm(page, "Leave")
    expect(editor(page)).to_have_count(0)
    page.go_back()
    expect(editor(page)).to_have_value("1")


def test_the_other_tabs_of_an_event_keep_what_is_typed_and_ask_nothing(console: Console) -> None:
    insert(console, "ada", "1")
    page = console.open(route(NAME))
    expect(editor(page)).to_have_value("1")
    editor(page).fill("2")
    for tab in ("History", "Code", "Edit"):
        page.get_by_role("link", name=tab, exact=True).click()
        expect(page.get_by_role("link", name=tab, exact=True)).to_have_attribute("aria-current", "page")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(editor(page)).to_have_value("2")
    page.get_by_role("button", name="Sign out").click()
    confirm(page, "Stay", "If you leave")
    page.get_by_role("button", name="Discard changes").click()
    expect(editor(page)).to_have_value("1")


def test_what_is_typed_outlives_the_session(console: Console) -> None:
    insert(console, "ada", "1")
    page = console.open(route(NAME))
    expect(editor(page)).to_have_value("1")
    editor(page).fill('"typed"')
    with console.server.client("ada") as ada:
        passwords = {"old": "correct horse", "password": "battery staple"}  # ends all sessions
        assert ada.post("/users/me/password", json=passwords).status_code == 200
    page.get_by_role("link", name="Sign in again").click()
    page.get_by_label("Password").fill("battery staple")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Sign out").wait_for()
    page.goto(f"{console.server.url}/{route(NAME)}")
    expect(editor(page)).to_have_value('"typed"')
    expect(page.get_by_role("status").filter(has_text="Your text from before is back")).to_be_visible()


LONG = json.dumps("x" * 900_000)
KEYS = json.dumps({f"key {number}": number for number in range(10_000)}, separators=(",", ":"))


@pytest.mark.parametrize(
    ("data", "typed", "shown"),
    [(LONG, '"y', "(900,003 characters)"), (KEYS, '{"new": 1,', "new")],
    ids=["a string of a megabyte", "10,000 keys"],
)
def test_large_data_are_edited(console: Console, data: str, typed: str, shown: str) -> None:
    insert(console, "ada", data)
    page = console.open(route(NAME))
    expect(state(page)).to_contain_text("current")
    expect(editor(page)).to_be_editable()
    editor(page).focus()
    page.keyboard.press("Control+Home")
    page.keyboard.press("Delete")
    page.keyboard.insert_text(typed)
    page.keyboard.press("Control+s")
    confirm(page, "Insert", shown)
    expect(page.get_by_role("button", name="Discard changes")).to_be_hidden()
    assert f'"data":{typed.replace(" ", "")}{data[1:]}' in snapshot(console)
    for tab in ("Edit", "History", "Code"):
        page.get_by_role("link", name=tab, exact=True).click()
        expect(state(page)).to_contain_text("current")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_hostile_names_and_data_are_text_on_a_phone_too(console: Console) -> None:
    page = console.open(viewport={"width": 360, "height": 640})
    for name in HOSTILE:
        insert(console, "ada", json.dumps({text: text for text in HOSTILE}), name)
        page.goto(f"{console.server.url}/{route(name)}")
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
        expect(editor(page)).to_have_value(re.compile("onerror"))
        for tab in ("History", "Code"):
            page.get_by_role("link", name=tab, exact=True).click()
            expect(page.get_by_role("main")).to_contain_text("$(id)")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("window.hacked") is None


@needs_axe
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_axe_finds_nothing_in_questions_conflicts_and_versions(console: Console, scheme: str, width: int) -> None:
    insert(console, "ada", '{"a":1,"b":{"c":[1,2]}}')
    page = console.open(route(NAME), color_scheme=scheme, viewport={"width": width, "height": 740})
    expect(state(page)).to_contain_text("current")
    editor(page).fill('{"a":2,"b":{"c":[1]},"d":0}')
    page.keyboard.press("Control+s")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    insert(console, "bob", '{"a":3,"b":{"c":[1,2]}}')
    page.get_by_role("button", name="See what").click()
    assert violations(page) == []
    editor(page).fill('{"a":2 "b":1}')
    page.get_by_label("Publish", exact=True).select_option("At a time")
    expect(page.get_by_role("button", name="a comma is missing")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("button", name="Discard changes").click()
    page.get_by_role("link", name="History").click()
    rows = page.get_by_role("list", name="Versions").get_by_role("listitem")
    expect(rows).to_have_count(2)
    rows.nth(0).get_by_title("See the whole version").click()
    page.get_by_role("dialog").locator("summary").click()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("Escape")
    rows.nth(0).get_by_label("Compare").check()
    rows.nth(1).get_by_label("Compare").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    assert violations(page) == []


def test_a_removal_at_a_time_is_planned_and_not_done_now(console: Console) -> None:
    insert(console, "ada", "1")
    page = console.open(route(NAME))
    editor(page).fill("null")
    page.get_by_label("Publish", exact=True).select_option("At a time")
    page.get_by_role("button", name="Schedule").click()
    confirm(page, "Schedule", "null")
    with console.server.client("ada") as ada:
        assert [each["data"] for each in ada.get("/pending").json()] == [None]
        assert [each["data"] for each in ada.get("/snapshot").json()] == [1]
