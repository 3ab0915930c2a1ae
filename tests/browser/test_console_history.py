"""The history of an event in the console: two versions are compared, one is restored, and new ones come on top."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time

from playwright.sync_api import expect

from tests.support.console import Console
from tests.support.servers import wait_for
from tests.support.versions import EXACT, NAME, confirm, editor, insert, route, snapshot, state


def test_remove_restore_and_compare(console: Console) -> None:
    insert(console, "ada", EXACT)
    insert(console, "bob", '{"price":2.0}')
    page = console.open(route(NAME))
    page.get_by_role("button", name="Remove …").click()
    confirm(page, "Remove", f"Remove {NAME}?", "Its log stays")
    expect(state(page)).to_contain_text("removed by ada")
    expect(editor(page)).to_have_value("")
    page.get_by_role("link", name="History").click()
    rows = page.get_by_role("list", name="Versions").get_by_role("listitem")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("removed")
    expect(rows.nth(1)).to_contain_text("by bob")
    rows.nth(2).get_by_label("Compare").check()
    rows.nth(1).get_by_label("Compare").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    row = page.get_by_role("dialog").get_by_role("row")
    expect(row.filter(has_text="price")).to_contain_text("1.02.0")
    expect(row.filter(has_text="id")).to_contain_text("12345678901234567890")
    page.keyboard.press("Escape")

    rows.nth(2).get_by_title("See the whole version").click()
    expect(page.get_by_role("dialog").get_by_label("Data")).to_contain_text('"id": 12345678901234567890')
    page.get_by_role("button", name="Copy JSON").click()
    wait_for(lambda: page.evaluate("navigator.clipboard.readText()").startswith("{"))
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == json.loads(EXACT)
    page.get_by_role("button", name="Copy as curl").click()
    wait_for(lambda: page.evaluate("navigator.clipboard.readText()").startswith("curl"))
    command = page.evaluate("navigator.clipboard.readText()").replace(NAME, "copy")
    env = {**os.environ, "TOKEN": console.server.token("ada")}
    subprocess.run(["sh", "-c", command], env=env, capture_output=True, timeout=20)
    assert f'"data":{EXACT}' in snapshot(console, "copy")
    page.get_by_role("dialog").get_by_role("button", name="Restore …").click()
    expect(page.get_by_role("status").filter(has_text="Insert it to restore it")).to_be_visible()
    expect(editor(page)).to_have_value(re.compile("12345678901234567890"))
    page.keyboard.press("Control+s")
    confirm(page, "Insert", "the whole value")
    expect(state(page)).to_contain_text("current by ada")
    assert f'"data":{EXACT}' in snapshot(console)


def test_a_removed_event_says_so_and_gives_its_value_back(console: Console) -> None:
    insert(console, "ada", EXACT)
    page = console.open(route(NAME))
    page.get_by_role("button", name="Remove …").click()
    confirm(page, "Remove")
    page.get_by_role("button", name="Undo").click()
    expect(state(page)).to_contain_text("by ada")
    expect(editor(page)).to_have_value(re.compile("12345678901234567890"))
    expect(page.get_by_role("button", name="Discard changes")).to_be_hidden()
    assert f'"data":{EXACT}' in snapshot(console)
    insert(console, "bob", "null")
    expect(page.get_by_text("This event has no value: removed by bob, ")).to_be_visible()
    expect(page.get_by_text("No data yet")).to_have_count(0)
    page.get_by_role("button", name="Restore the last value …").click()
    confirm(page, "Insert", "the whole value")
    wait_for(lambda: f'"data":{EXACT}' in snapshot(console))
    expect(page.get_by_text("This event has no value")).to_be_hidden()


def test_each_version_says_what_it_changed_and_earlier_ones_are_restored_from_their_row(console: Console) -> None:
    for price in ("24.90", "22.90", "19.90"):
        insert(console, "ada", f'{{"item":"tea","price":{price}}}')
    page = console.open(route(NAME, "history"), viewport={"width": 1280, "height": 400})
    rows = page.get_by_role("list", name="Versions").get_by_role("listitem")
    expect(rows).to_contain_text(["current", "earlier", "earlier"])
    expect(rows.nth(1)).to_contain_text("price 24.90 → 22.90")
    expect(rows.nth(0).get_by_role("button", name="Restore …")).to_have_count(0)
    before = rows.nth(2).bounding_box()
    rows.nth(1).get_by_label("Compare").check()
    rows.nth(2).get_by_label("Compare").check()
    assert rows.nth(2).bounding_box() == before
    rows.nth(0).locator(".badge").click()  # the whole row opens the version
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Data")).to_contain_text("19.90")
    expect(dialog.get_by_role("button", name="Restore …")).to_have_count(0)
    page.keyboard.press("Escape")
    rows.nth(2).get_by_role("button", name="Restore …").click()
    expect(editor(page)).to_have_value(re.compile("24.90"))


def test_new_versions_come_on_top_and_do_not_move_what_is_read(console: Console) -> None:
    for number in range(30):
        insert(console, "ada", str(number))
    page = console.open(route(NAME, "history"))
    rows = page.get_by_role("list", name="Versions").get_by_role("listitem")
    expect(rows).to_have_count(25)
    page.mouse.move(0, 0)
    insert(console, "bob", "30")
    expect(rows.first).to_contain_text("by bob")
    box = rows.nth(3).get_by_label("Compare")
    box.focus()
    before = rows.nth(3).bounding_box()
    insert(console, "bob", "31")
    new = page.get_by_role("button", name="↑ 1 new version")
    expect(new).to_be_visible()
    expect(rows).to_have_count(26)
    expect(box).to_be_focused()
    insert(console, "bob", "32")
    new = page.get_by_role("button", name="↑ 2 new versions")
    expect(new).to_be_visible()
    assert rows.nth(3).bounding_box() == before
    new.click()
    expect(rows).to_have_count(28)
    page.get_by_role("button", name="Load older versions").click()
    expect(rows).to_have_count(33)
    expect(rows.nth(28).get_by_label("Compare")).to_be_focused()


def test_what_is_pending_changes_its_state_in_the_history(console: Console) -> None:
    record = insert(console, "ada", '"later"', timestamp=time.time() + 3600)
    page = console.open(route(NAME, "history"))
    rows = page.get_by_role("list", name="Versions").get_by_role("listitem")
    expect(rows).to_contain_text(["pending"])
    with console.server.client("ada") as ada:
        assert ada.post(f"/cancel/{record['uuid']}").status_code == 200
    expect(rows).to_contain_text(["cancelled"])
    expect(rows).to_have_count(1)


def test_very_many_new_versions_leave_no_gap_in_the_list(console: Console) -> None:
    for n in range(3):
        insert(console, "ada", str(n))
    page = console.open(route(NAME, "history"))
    rows = page.get_by_role("list", name="Versions").get_by_role("listitem")
    expect(rows).to_have_count(3)
    with console.server.client("ada") as ada:
        ada.post("/insert", json=[{"event": NAME, "data": n} for n in range(3, 403)]).raise_for_status()
    expect(rows.first).to_contain_text("401 → 402")
    for index, row in enumerate(rows.all_inner_texts()[:-1]):
        assert f"{401 - index} → {402 - index}" in row
    page.get_by_role("button", name="Load older versions").click()
    shown = rows.count()
    expect(rows.nth(shown - 2)).to_contain_text(f"{402 - shown + 1} → {402 - shown + 2}")
    for n in range(403, 405):
        with console.server.client("ada") as ada:
            ada.post("/insert", json=[{"event": NAME, "data": 1000 * n + m} for m in range(190)]).raise_for_status()
        page.get_by_role("button", name=re.compile("^↑ .* new versions$")).click()
        expect(rows.first).to_contain_text(f"{1000 * n + 189}")
    assert rows.count() <= 300
