"""The screen of an event for those who may not do everything with it."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.support.console import Console
from tests.support.rules import apply_rules
from tests.support.versions import NAME, confirm, editor, insert, route, state

RULES = """
roles = ["editor"]
[[event]]
name = "shop/orders/*"
read = "user"
insert = "@editor"
remove = "nobody"
log = "@editor"

[[event]]
name = "box/*"
read = "nobody"
insert = "user"

[[event]]
name = "public/*"
read = "public"
"""


def test_who_may_only_insert_inserts_without_a_condition(console: Console) -> None:
    insert(console, "ada", "1", "box/1")
    apply_rules(console.server, RULES)
    page = console.open(route("box/1"), "bob")
    expect(state(page)).to_contain_text("You may not read this event.")
    editor(page).fill("2.0")
    page.keyboard.press("Control+s")
    confirm(page, "Insert", "2.0")
    expect(page.get_by_role("button", name="Discard changes")).to_be_hidden()


def test_a_stranger_sees_what_is_public_and_why_there_are_no_buttons(console: Console) -> None:
    insert(console, "ada", "1.0", "public/1")
    apply_rules(console.server, RULES)
    page = console.open(route("public/1"), username=None)
    expect(page.get_by_text("Without an account, you may not insert or remove this event.")).to_be_visible()
    expect(editor(page)).to_have_value("1.0")
    expect(state(page)).to_have_text(re.compile("^current (just now|. s ago)$"))
    page.get_by_role("link", name="History").click()
    expect(page.get_by_text("Sign in to see the history.")).to_be_visible()
    page.get_by_role("link", name="Code").click()
    page.get_by_role("radio", name="curl").check(force=True)
    expect(page.get_by_text("Sign in to copy a line that sets it.")).to_be_visible()


def test_what_the_rules_forbid_has_no_button_and_one_sentence_says_why(console: Console) -> None:
    insert(console, "ada", "1")
    apply_rules(console.server, RULES)
    page = console.open(route(NAME), "bob")
    expect(page.get_by_text("The rules do not permit you to insert or remove this event.")).to_be_visible()
    expect(editor(page)).to_have_value("1")
    expect(editor(page)).to_have_attribute("readonly", "")
    for name in ("Insert", "Remove", "Format"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    page.keyboard.press("Control+s")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("link", name="History").click()
    expect(page.get_by_text("The rules do not permit you to read the log")).to_be_visible()
    page.goto(f"{console.server.url}/{route('box/1')}")
    expect(state(page)).to_contain_text("You may not read this event.")
