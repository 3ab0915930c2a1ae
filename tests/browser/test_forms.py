"""Forms in Chromium: whoever types keeps every character, the caret and the composition, while another window writes.

T35 to T37 are pitfalls of such forms, which the tests of the client number alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.forms import KEYS_A_SECOND, Hold, Windows, keys, patch, shows, text, waits
from tests.support.servers import ServerProcess


@pytest.fixture(name="windows")
def make_windows(browser: Browser, form_server: ServerProcess) -> Iterator[Windows]:
    with form_server.client("remover") as client:
        client.post("/insert", json={"event": "profile", "data": None}).raise_for_status()
    windows = Windows(browser, form_server)
    yield windows
    windows.close()


@pytest.fixture
def mine(windows: Windows) -> Page:
    return windows.open()


@pytest.fixture
def other(windows: Windows) -> Page:
    return windows.open()


def begin_to_write(page: Page, *values: dict[str, Any]) -> None:
    """Writes one of the values after the other, as often as somebody types keys."""
    page.evaluate(
        """([values, pause]) => {
          let count = 0;
          globalThis.writing = setInterval(() => broker.event("profile").patch(values[count++ % values.length]), pause);
        }""",
        [values, 1_000 / KEYS_A_SECOND],
    )


def end_writing(page: Page) -> None:
    page.evaluate("clearInterval(writing)")
    waits(page, "() => broker.outbox.get().length === 0")


def typing(label: str, typed: str) -> Callable[[Page], None]:
    def edit(page: Page) -> None:
        page.get_by_label(label).focus()
        keys(page, typed)

    return edit


@pytest.mark.parametrize(("label", "path"), [("text", "text"), ("nested", "address.city"), ("textarea", "note")])
def test_what_is_typed_is_kept_while_another_window_changes_the_same_field(
    mine: Page, other: Page, label: str, path: str
) -> None:
    """T35"""
    field = mine.get_by_label(label, exact=True)
    field.focus()
    keys(mine, "T")
    values = [{"text": each, "note": each, "address": {"city": each}} for each in ("one", "two")]
    begin_to_write(other, *values)
    keys(mine, text())
    end_writing(other)
    assert field.input_value() == "T" + text()
    assert field.evaluate("(field) => [field.selectionStart, field.selectionEnd]") == [len(text()) + 1] * 2
    waits(mine, "(path) => ['one', 'two'].includes(state.fields[path].conflict?.theirs)", path)
    assert mine.evaluate("(path) => [state.saved, !!state.fields[path].conflict.by]", path) == [False, True]
    mine.evaluate("(path) => form.keep(path)", path)
    expect(other.get_by_label(label, exact=True)).to_have_value("T" + text())
    waits(mine, "() => state.saved && Object.values(state.fields).every((field) => !field.conflict)")


def test_what_is_typed_in_the_middle_of_a_text_is_kept_while_all_other_fields_change(mine: Page, other: Page) -> None:
    """T35"""
    patch(other, text="begin end", number=1)
    field = mine.get_by_label("text", exact=True)
    expect(field).to_have_value("begin end")
    field.focus()
    for _ in range(4):
        mine.keyboard.press("ArrowLeft")
    fields = [
        {"address": {"city": "Rome"}, "note": "n", "number": 1, "date": "2030-01-01", "time": "10:00", "check": True},
        {"radio": "b", "select": "b", "several": ["a", "c"], "boxes": ["b"], "check": False, "note": "m", "number": 2},
    ]
    begin_to_write(other, *fields)
    keys(mine, text())
    end_writing(other)
    assert field.input_value() == f"begin{text()} end"
    assert field.evaluate("(field) => field.selectionStart") == len("begin" + text())
    patch(other, number=3)
    mine.keyboard.press("Tab")
    shows(mine, text=f"begin{text()} end", number=3, several=["a", "c"], boxes=["b"], radio="b", time="10:00")
    shown = "() => [...new FormData(profile)].filter(([name]) => !['text', 'hidden'].includes(name)).join(' ')"
    expect(mine.get_by_label("number")).to_have_value("3")
    assert other.evaluate(shown) == mine.evaluate(shown)


@pytest.mark.parametrize(
    ("path", "theirs", "edit", "kept"),
    [
        ("number", [1, 2], typing("number", "12345678"), 12345678),
        ("date", ["2001-01-01", "2002-02-02"], lambda page: page.get_by_label("date").fill("2030-05-06"), "2030-05-06"),
        ("time", ["01:00", "02:00"], lambda page: page.get_by_label("time").fill("12:34"), "12:34"),
        ("email", ["a@a.a", "b@b.b"], typing("email", "me@x.y"), "me@x.y"),
        ("check", [False, "later"], lambda page: page.get_by_label("check").check(), True),
        ("radio", ["b", "c"], lambda page: page.get_by_label("radio a").check(), "a"),
        ("select", ["a", "c"], lambda page: page.get_by_label("select").select_option("b"), "b"),
        ("several", [["a"], ["c"]], lambda page: page.get_by_label("several").select_option(["a", "b"]), ["a", "b"]),
        ("boxes", [["b"], ["c"]], lambda page: page.get_by_label("box a").check(), ["a"]),
    ],
)  # fmt: skip
def test_every_kind_of_control_keeps_what_its_user_has_chosen_and_offers_the_others_change(
    mine: Page, other: Page, path: str, theirs: list[Any], edit: Callable[[Page], Any], kept: Any
) -> None:
    """T35. Both change the field before they know of each other."""
    patch(other, first=True)
    waits(mine, "() => broker.event('profile').get()?.first")
    hold = Hold(mine, "**/insert")
    edit(mine)
    mine.keyboard.press("Tab")
    waits(mine, "(path) => state.saving && state.fields[path].edited", path)
    for each in theirs:
        patch(other, **{path: each})
    hold.end()
    waits(
        mine,
        "([path, theirs]) => state.fields[path]?.conflict?.theirs?.toString() === theirs.toString()",
        [path, theirs[-1]],
    )
    assert mine.evaluate("state.saved") is False
    mine.evaluate("(path) => form.keep(path)", path)
    shows(mine, **{path: kept})
    shows(other, **{path: kept})


@pytest.mark.parametrize(
    ("before", "selected", "after", "kept"),
    [
        ("one two three", (4, 7), "zero one two three", (9, 12)),
        ("one two three", (4, 7), "one two", (4, 7)),
        ("one two three", (13, 13), "one two four three", (18, 18)),
        ("a 😀 b", (5, 6), "😀 a 😀 b", (8, 9)),
        ("שלום עולם", (5, 9), "היי שלום עולם", (9, 13)),
    ],
)
@pytest.mark.parametrize(("label", "path"), [("text", "text"), ("textarea", "note")])
def test_a_field_in_which_nobody_types_follows_and_keeps_its_selection(
    mine: Page, other: Page, label: str, path: str, before: str, selected: tuple[int, int], after: str,
    kept: tuple[int, int],
) -> None:  # fmt: skip
    """T35"""
    patch(other, **{path: before})
    field = mine.get_by_label(label, exact=True)
    expect(field).to_have_value(before)
    field.focus()
    field.evaluate("(field, range) => field.setSelectionRange(...range)", list(selected))
    patch(other, **{path: after})
    expect(field).to_have_value(after)
    assert field.evaluate("(field) => [field.selectionStart, field.selectionEnd]") == list(kept)


def test_a_composition_is_not_disturbed_and_is_saved_once_after_its_end(mine: Page, other: Page) -> None:
    """T36"""
    patch(other, text="before ")
    field = mine.get_by_label("text", exact=True)
    expect(field).to_have_value("before ")
    field.focus()
    mine.keyboard.press("End")
    session = mine.context.new_cdp_session(mine)
    begin_to_write(other, {"text": "theirs", "note": "one"}, {"text": "theirs, too", "note": "two"})
    for length in range(1, 5):
        composed = "こんにちは"[:length]
        session.send("Input.imeSetComposition", {"text": composed, "selectionStart": length, "selectionEnd": length})
        waits(mine, "() => ['one', 'two'].includes(profile.note.value)")
        mine.wait_for_timeout(2_000 / KEYS_A_SECOND)
        assert field.input_value() == f"before {composed}"
        assert mine.evaluate("broker.outbox.get().length") == 0
    session.send("Input.insertText", {"text": "今日は"})
    end_writing(other)
    expect(field).to_have_value("before 今日は")
    waits(mine, "() => state.fields.text?.conflict")
    mine.evaluate("form.keep('text')")
    shows(mine, text="before 今日は")
    shows(other, text="before 今日は")


def test_an_edit_during_a_save_stays_an_edit_and_is_saved_next(mine: Page, other: Page) -> None:
    """T37"""
    hold = Hold(mine, "**/insert")
    field = mine.get_by_label("text", exact=True)
    field.focus()
    keys(mine, "one")
    assert mine.evaluate("[state.saved, state.saving]") == [False, False]
    waits(mine, "() => state.saving")
    keys(mine, " two")
    assert mine.evaluate("[state.saved, state.fields.text.edited]") == [False, True]
    hold.end()
    expect(field).to_have_value("one two")
    shows(mine, text="one two")
    shows(other, text="one two")
    assert mine.evaluate("[state.saved, state.saving, Object.keys(state.fields).length]") == [True, False, 0]


def test_controls_that_come_and_go_keep_what_was_typed(mine: Page, other: Page) -> None:
    add = "place.innerHTML = '<input name=extra aria-label=extra>'"
    patch(other, extra="theirs", late="z")
    mine.evaluate(add)
    extra = mine.get_by_label("extra")
    expect(extra).to_have_value("theirs")
    extra.focus()
    keys(mine, "!")
    mine.evaluate("place.replaceChildren()")
    mine.evaluate(add)
    expect(extra).to_have_value("theirs!")
    shows(other, extra="theirs!")
    mine.evaluate("place.innerHTML = '<select name=late aria-label=late><option>y</select>'")
    expect(mine.get_by_label("late")).to_have_value("")
    mine.evaluate("place.firstChild.add(new Option('z'))")
    expect(mine.get_by_label("late")).to_have_value("z")
    assert mine.evaluate("state.saved") is True


def test_what_was_typed_before_the_program_was_there_counts_and_what_a_reload_restores_does_not(
    browser: Browser, form_server: ServerProcess, other: Page
) -> None:
    patch(other, text="theirs")
    page = browser.new_context().new_page()
    hold = Hold(page, "**/forms.js")
    page.goto(form_server.url)
    waits(page, "() => globalThis.form")
    page.get_by_label("textarea").fill("typed early")
    hold.end()
    shows(other, note="typed early", text="theirs")
    patch(other, text="newer")
    expect(page.get_by_label("text", exact=True)).to_have_value("newer")
    page.reload()
    waits(page, "() => globalThis.state?.status === 'live'")
    expect(page.get_by_label("text", exact=True)).to_have_value("newer")
    assert page.evaluate("[state.saved, Object.keys(state.fields).length]") == [True, 0]
    page.context.close()


def test_a_form_that_is_submitted_before_its_program_is_loaded_loads_no_page_and_is_saved(
    browser: Browser, form_server: ServerProcess, other: Page
) -> None:
    page = browser.new_context().new_page()
    hold = Hold(page, "**/forms.js")
    page.goto(form_server.url)
    waits(page, "() => globalThis.form")
    page.get_by_label("textarea").fill("submitted early")
    page.evaluate("profile.requestSubmit()")
    hold.end()
    shows(other, note="submitted early")
    assert page.url.rstrip("/") == form_server.url
    page.evaluate("form.close().then(() => {})")
    with page.expect_navigation(url="**/?*note=submitted+early*"):
        page.evaluate("profile.requestSubmit()")  # it is an ordinary form again
    page.context.close()


def test_what_is_never_bound_is_never_sent(mine: Page, other: Page) -> None:
    patch(other, password="theirs", hidden="theirs", fixed="theirs")
    expect(mine.get_by_label("fixed")).to_have_value("theirs")
    mine.get_by_label("password").fill("secret")
    mine.get_by_label("text", exact=True).fill("mine")
    mine.keyboard.press("Enter")
    shows(other, text="mine", password="theirs", hidden="theirs")
    assert mine.get_by_label("password").input_value() == "secret"
    assert mine.evaluate("profile.elements.namedItem('hidden').value") == "h"


def test_a_reset_takes_back_what_is_not_saved(mine: Page, other: Page) -> None:
    patch(other, text="stored", check=True)
    field = mine.get_by_label("text", exact=True)
    expect(field).to_have_value("stored")
    field.focus()
    keys(mine, "!")
    assert mine.evaluate("state.saved") is False
    mine.evaluate("profile.reset()")  # while the field has the focus, for leaving it saves it
    expect(field).to_have_value("stored")
    waits(mine, "() => state.saved")
    expect(mine.get_by_label("check")).to_be_checked()
    assert other.evaluate("broker.event('profile').get().text") == "stored"


def test_what_the_markup_begins_with_is_nothing_that_was_typed(mine: Page, other: Page) -> None:
    """A range, a colour and a select show something though nobody has chosen it."""
    controls = """<input name=range type=range aria-label=range><input name=color type=color>
      <select name=chosen><option disabled>first<option>second</select>
      <select name=two multiple><option selected>a<option selected>b</select>"""
    before = other.evaluate("broker.event('profile').get() ?? null")
    mine.evaluate("(controls) => (place.innerHTML = controls)", controls)
    mine.evaluate("form.save().then(() => {})")
    assert mine.evaluate("[state.saved, Object.keys(state.fields).length]") == [True, 0]
    patch(other, range=7)
    expect(mine.get_by_label("range")).to_have_value("7")
    assert other.evaluate("Object.keys(broker.event('profile').get())") == [*(before or {}), "range"]


def test_what_is_shown_is_nothing_that_was_typed_when_an_element_is_bound_again(mine: Page, other: Page) -> None:
    patch(other, text="shown")
    expect(mine.get_by_label("text", exact=True)).to_have_value("shown")
    mine.evaluate("form.close().then(() => {})")
    patch(other, text="newer")
    mine.evaluate("form = broker.form('profile', profile); form.state.subscribe((state) => (globalThis.state = state))")
    expect(mine.get_by_label("text", exact=True)).to_have_value("newer")
    assert mine.evaluate("[state.saved, state.undoable]") == [True, False]


def test_a_password_is_not_sent_while_the_page_shows_it(mine: Page, other: Page) -> None:
    mine.get_by_label("password").fill("secret")
    mine.get_by_label("password").evaluate("(field) => (field.type = 'text')")
    patch(other, text="a change, after which all controls are looked at")
    expect(mine.get_by_label("text", exact=True)).to_have_value("a change, after which all controls are looked at")
    mine.get_by_label("password").press_sequentially("!")
    mine.evaluate("form.save().then(() => {})")
    assert "password" not in other.evaluate("broker.event('profile').get()")


def test_half_a_number_is_an_edit_that_is_not_saved(mine: Page, other: Page) -> None:
    patch(other, number=5)
    number = mine.get_by_label("number")
    expect(number).to_have_value("5")
    number.focus()
    mine.keyboard.press("End")
    mine.keyboard.type("e")
    mine.keyboard.press("Tab")
    waits(mine, "() => state.fields.number?.error")
    patch(other, number=6)
    waits(mine, "() => state.fields.number.conflict?.theirs === 6")
    assert mine.evaluate("[state.saved, profile.number.validity.badInput]") == [False, True]
    mine.evaluate("form.take('number')")
    expect(number).to_have_value("6")
    shows(mine, number=6)


def test_a_control_that_goes_away_while_a_text_is_composed_or_saved_disturbs_no_other(mine: Page, other: Page) -> None:
    mine.evaluate("place.innerHTML = '<input name=extra aria-label=extra>'")
    mine.get_by_label("extra").focus()
    session = mine.context.new_cdp_session(mine)
    session.send("Input.imeSetComposition", {"text": "か", "selectionStart": 1, "selectionEnd": 1})
    mine.evaluate("place.replaceChildren()")
    mine.evaluate("place.innerHTML = '<input name=extra aria-label=extra>'")
    hold = Hold(mine, "**/insert")
    mine.get_by_label("extra").fill("typed")
    mine.keyboard.press("Tab")
    waits(mine, "() => state.saving")
    mine.evaluate("place.replaceChildren()")
    mine.get_by_label("text", exact=True).fill("next")
    hold.end()
    mine.keyboard.press("Tab")
    shows(mine, extra="typed", text="next")


def test_a_page_that_shows_the_state_in_the_form_is_notified_only_of_changes(mine: Page, other: Page) -> None:
    mine.evaluate("""() => {
      globalThis.count = 0;
      form.state.subscribe((state) => (count++, place.replaceChildren(JSON.stringify(state))));
    }""")
    patch(other, text="one change")
    expect(mine.get_by_label("text", exact=True)).to_have_value("one change")
    mine.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")
    assert mine.evaluate("count") <= 4


def test_to_undo_what_was_kept_brings_what_the_other_has_written(mine: Page, other: Page) -> None:
    patch(other, text="first")
    field = mine.get_by_label("text", exact=True)
    expect(field).to_have_value("first")
    field.fill("mine")
    patch(other, text="theirs")
    waits(mine, "() => state.fields.text.conflict")
    mine.evaluate("form.keep('text').then(() => {})")
    shows(mine, text="mine")
    mine.evaluate("form.undo().then(() => {})")
    shows(mine, text="theirs")


def test_what_the_page_itself_writes_is_said_to_be_nobody_elses(mine: Page, other: Page) -> None:
    patch(other, text="theirs")
    waits(mine, "() => state.fields.text?.by")
    patch(mine, note="by a button")
    shows(mine, note="by a button")
    assert mine.evaluate("[!!state.fields.text.by, state.fields.note ?? null]") == [True, None]
