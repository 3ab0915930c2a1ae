"""The profile of examples/plain-form and examples/react-form, in the windows of two users."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.axe import needs_axe, violations
from tests.support.documents import ROOT, blocks
from tests.support.pages import CONTRASTS
from tests.support.servers import BOUND_S, ServerProcess, wait_for

EXAMPLES = ROOT / "examples"
VITE = EXAMPLES / "react" / "node_modules" / "vite" / "bin" / "vite.js"
needs_react = pytest.mark.skipif(
    not (EXAMPLES / "react" / "node_modules" / ".installed").exists() and not os.environ.get("CI"),
    reason="THE EXAMPLE OF REACT WAS NOT TESTED: type make test where npm's registry can be reached",
)
WIDE = """() => [...document.querySelectorAll("body *")]
  .filter(each => each.offsetHeight > 1 && each.getBoundingClientRect().right > innerWidth)
  .map(each => each.outerHTML)"""
# What a thumb misses: a control, or the label around it, that is not 44 pixels high.
LOW = """() => [...document.querySelectorAll("input, select, textarea, button")]
  .map(each => each.closest("fieldset label") ?? each)
  .filter(each => each.offsetHeight && each.offsetHeight < 44).map(each => each.outerHTML)"""
expect.set_options(timeout=1_000 * BOUND_S)


@pytest.fixture(scope="module", params=["plain-form", pytest.param("react-form", marks=needs_react)])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = EXAMPLES / request.param
    if request.param == "plain-form":
        return folder
    built = tmp_path_factory.mktemp("form") / "dist"
    subprocess.run(["node", VITE, "build", "--outDir", built], cwd=folder, check=True, capture_output=True)
    return built


@pytest.fixture(name="server")
def serve(site: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, "--static", str(site), retry_ms=200) as server:
        yield server


@contextmanager
def opened(browser: Browser, server: ServerProcess, **options: object) -> Iterator[tuple[Page, Page]]:
    """The windows of ada and of grace, in one browser."""
    context = browser.new_context(**options)  # type: ignore[arg-type] # Playwright has no type for all of them
    errors: list[str] = []
    pages = []
    for name in ("ada", "grace"):
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server.url)
        page.get_by_label("Your name").fill(name)
        page.keyboard.press("Enter")
        expect(page.get_by_label("Your name")).to_be_hidden()
        expect(page.get_by_label("Full name")).to_be_focused()
        pages.append(page)
    yield pages[0], pages[1]
    context.close()
    assert errors == []


@pytest.fixture
def windows(browser: Browser, server: ServerProcess) -> Iterator[tuple[Page, Page]]:
    with opened(browser, server) as pages:
        yield pages


def state(page: Page) -> Locator:
    return page.locator("#state")


def write(page: Page, label: str, text: str) -> None:
    page.get_by_label(label).fill(text)
    page.keyboard.press("Tab")


def disagree(one: Page, other: Page) -> None:
    """In the field of the city, the other one types Paris, while London is saved in the first window."""
    other.get_by_label("City").press_sequentially("Par")
    write(one, "City", "London")
    other.get_by_label("City").press_sequentially("is")
    expect(other.get_by_role("button", name="Keep mine")).to_be_visible()


@pytest.mark.parametrize("name", ["plain-form", "react-form"])
def test_each_is_started_by_the_command_of_its_readme(name: str) -> None:
    (command,) = (block.text.strip() for block in blocks((EXAMPLES / name / "README.md").read_text(), "sh"))
    assert command == f"make example-{name}"
    done = subprocess.run(["make", "--dry-run", f"example-{name}"], cwd=ROOT, capture_output=True, timeout=BOUND_S)
    assert done.returncode == 0


def test_the_packages_that_the_form_in_react_shares_are_those_that_it_names() -> None:
    form, board = (json.loads((EXAMPLES / name / "package.json").read_text()) for name in ("react-form", "react"))
    for kind in ("dependencies", "devDependencies", "scripts"):
        assert form[kind] == board[kind]


def test_every_kind_of_control_follows_and_says_who_has_changed_it(windows: tuple[Page, Page]) -> None:
    ada, grace = windows
    expect(ada.get_by_text("Also open: grace")).to_be_visible()
    expect(grace.get_by_text("Also open: ada")).to_be_visible()
    write(ada, "Full name", "Ada Lovelace")
    write(ada, "About", "Writes programs.\nFor engines.")
    write(ada, "First day", "2026-12-01")
    write(ada, "Hours a week", "40")
    ada.get_by_label("Team").select_option("engineering")
    ada.get_by_label("Both").check()
    ada.get_by_label("English").check()
    ada.get_by_label("Greek").check()
    ada.get_by_label("Send me the newsletter").check()
    write(ada, "City", "London")
    expect(grace.get_by_label("Full name")).to_have_value("Ada Lovelace")
    expect(grace.get_by_label("About")).to_have_value("Writes programs.\nFor engines.")
    expect(grace.get_by_label("First day")).to_have_value("2026-12-01")
    expect(grace.get_by_label("Hours a week")).to_have_value("40")
    expect(grace.get_by_label("Team")).to_have_value("engineering")
    expect(grace.get_by_label("Both")).to_be_checked()
    expect(grace.get_by_label("English")).to_be_checked()
    expect(grace.get_by_label("German")).not_to_be_checked()
    expect(grace.get_by_label("Send me the newsletter")).to_be_checked()
    expect(grace.get_by_label("City")).to_have_value("London")
    expect(grace.get_by_text("Changed by ada, ")).to_have_count(9)
    expect(ada.get_by_text("Changed by ada, ")).to_have_count(0)
    first = grace.get_by_text("Changed by ada, ").first.inner_text()
    expect(grace.get_by_text("Changed by ada, ").first).not_to_have_text(first)  # the time is updated
    expect(state(ada)).to_have_text("Saved")


def test_what_was_typed_before_somebody_has_said_a_name_is_saved(browser: Browser, server: ServerProcess) -> None:
    page = browser.new_page()
    page.goto(server.url)
    expect(state(page)).to_have_text("Saved")
    write(page, "Full name", "Ada")
    expect(state(page)).to_have_text("Not saved yet")
    server.token("ada")
    page.get_by_label("Your name").fill("ada")
    page.keyboard.press("Enter")
    expect(page.get_by_text("ada is taken. Choose another name.")).to_be_visible()
    page.get_by_label("Your name").fill("ada2")
    page.keyboard.press("Enter")
    expect(state(page)).to_have_text("Saved")
    with server.client("bob") as bob:
        assert [record["data"] for record in bob.get("/snapshot").json() if record["event"] == "profile"] == [
            {"name": "Ada"}
        ]
    page.close()


def test_a_conflict_ends_with_what_is_kept_or_taken_by_keyboard(windows: tuple[Page, Page]) -> None:
    ada, grace = windows
    disagree(ada, grace)
    assert grace.get_by_label("City").input_value() == "Paris"
    expect(grace.get_by_role("button", name="Keep mine: Paris", exact=True)).to_be_visible()
    expect(grace.get_by_role("button", name="Take theirs: London", exact=True)).to_be_visible()
    expect(state(grace)).to_have_text("One field is not saved")
    grace.get_by_label("City").press("Tab")
    expect(grace.get_by_role("button", name="Keep mine")).to_be_focused()
    grace.keyboard.press("Enter")
    expect(grace.get_by_label("City")).to_be_focused()
    expect(grace.get_by_role("button", name="Keep mine")).to_be_hidden()
    expect(ada.get_by_label("City")).to_have_value("Paris")
    expect(state(grace)).to_have_text("Saved")

    grace.get_by_label("City").press_sequentially(" or Ly")
    write(ada, "City", "Athens")
    grace.get_by_label("City").press_sequentially("on")
    expect(grace.get_by_role("button", name="Take theirs: Athens")).to_be_visible()
    for _ in range(2):
        grace.keyboard.press("Tab")
    grace.keyboard.press("Space")
    expect(grace.get_by_label("City")).to_have_value("Athens")
    expect(grace.get_by_label("City")).to_be_focused()
    expect(state(grace)).to_have_text("Saved")


def test_a_conflict_in_a_choice_says_its_words(windows: tuple[Page, Page], server: ServerProcess) -> None:
    ada, grace = windows
    server.stop()
    grace.get_by_label("Team").select_option("design")
    grace.get_by_label("English").check()
    ada.get_by_label("Team").select_option("support")
    ada.get_by_label("German").check()
    server.start()
    late = {"ada": ada, "grace": grace}
    # Whoever is connected first has saved, and the other one has to choose.
    for page in windows:
        expect(state(page)).not_to_have_text("Not saved yet")
    wait_for(lambda: sorted(state(page).inner_text() for page in windows) == ["2 fields are not saved", "Saved"])
    who = next(name for name, page in late.items() if state(page).inner_text() != "Saved")
    words = {"ada": ("Support", "German"), "grace": ("Design", "English")}
    team, language = words.pop(who)
    ((other_team, other_language),) = words.values()
    for mine, theirs in ((team, other_team), (language, other_language)):
        expect(late[who].get_by_role("button", name=f"Keep mine: {mine}", exact=True)).to_be_visible()
        expect(late[who].get_by_role("button", name=f"Take theirs: {theirs}", exact=True)).to_be_visible()


def test_undo_and_redo_change_only_what_was_done_here(windows: tuple[Page, Page]) -> None:
    ada, grace = windows
    undo, redo = ada.get_by_role("button", name="Undo"), ada.get_by_role("button", name="Redo")
    expect(undo).to_have_attribute("aria-disabled", "true")
    write(ada, "Full name", "Ada")
    write(ada, "City", "London")
    write(grace, "Street", "Baker Street")
    expect(ada.get_by_label("Street")).to_have_value("Baker Street")
    undo.press("Enter")
    expect(ada.get_by_label("City")).to_have_value("")
    expect(grace.get_by_label("City")).to_have_value("")
    undo.press("Enter")
    expect(undo).to_have_attribute("aria-disabled", "true")
    expect(undo).to_be_focused()
    expect(ada.get_by_label("Street")).to_have_value("Baker Street")
    redo.press("Enter")
    redo.press("Enter")
    expect(grace.get_by_label("City")).to_have_value("London")
    expect(redo).to_have_attribute("aria-disabled", "true")
    expect(grace.get_by_role("button", name="Undo")).to_have_attribute("aria-disabled", "false")  # of her own change


def test_what_is_typed_while_the_server_is_stopped_is_saved_once_it_is_back(
    windows: tuple[Page, Page], server: ServerProcess
) -> None:
    ada, grace = windows
    write(ada, "City", "London")
    expect(grace.get_by_label("City")).to_have_value("London")
    ada.get_by_label("Street").press_sequentially("Dorset ")
    server.stop()
    ada.get_by_label("Street").press_sequentially("Street")
    write(grace, "About", "typed in the dark")
    for page in windows:
        expect(page.get_by_role("alert").filter(has_text="The server cannot be reached.")).to_be_visible()
        expect(state(page)).to_have_text("Not saved yet")
    server.start()
    expect(grace.get_by_label("Street")).to_have_value("Dorset Street")
    expect(ada.get_by_label("About")).to_have_value("typed in the dark")
    for page in windows:
        expect(state(page)).to_have_text("Saved")
        expect(page.get_by_text("The server cannot be reached.")).to_have_count(0)


def test_an_error_is_said_at_its_control_and_what_is_wrong_is_not_saved(windows: tuple[Page, Page]) -> None:
    ada, grace = windows
    write(ada, "Hours a week", "99")
    write(ada, "City", "London")
    expect(ada.get_by_label("Hours a week")).to_have_accessible_description("Value must be less than or equal to 60.")
    expect(ada.get_by_label("Hours a week")).to_have_attribute("aria-invalid", "true")
    expect(ada.get_by_role("alert").filter(has_text="less than or equal to 60")).to_be_visible()
    expect(state(ada)).to_have_text("One field is not saved")
    expect(grace.get_by_label("City")).to_have_value("London")
    assert grace.get_by_label("Hours a week").input_value() == ""
    write(ada, "Hours a week", "40")
    expect(grace.get_by_label("Hours a week")).to_have_value("40")
    expect(ada.get_by_label("Hours a week")).to_have_accessible_description("")
    expect(state(ada)).to_have_text("Saved")


def test_a_refused_write_is_said_and_the_text_stays(browser: Browser, site: Path, tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, "--static", str(site), retry_ms=200, body_bytes_max=500) as server,
        opened(browser, server) as (ada, grace),
    ):
        write(ada, "City", "London")
        expect(grace.get_by_label("City")).to_have_value("London")
        write(ada, "About", "x" * 600)
        expect(ada.get_by_role("alert").filter(has_text="Not saved: ")).to_be_visible()
        expect(ada.get_by_label("About")).to_have_value("x" * 600)
        write(ada, "About", "short")
        expect(grace.get_by_label("About")).to_have_value("short")
        expect(ada.get_by_text("Not saved: ")).to_have_count(0)


@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_also_with_a_conflict_and_an_error_on_a_phone(
    browser: Browser, server: ServerProcess, scheme: Literal["light", "dark"]
) -> None:
    small = {"color_scheme": scheme, "reduced_motion": "reduce", "viewport": {"width": 320, "height": 640}}
    before = browser.new_page(color_scheme=scheme)
    before.goto(server.url)
    expect(state(before)).to_have_text("Saved")
    assert violations(before) == []
    before.close()
    with opened(browser, server, **small) as (ada, grace):
        write(ada, "Full name", "x" * 60)
        expect(grace.get_by_text("Changed by ada")).to_be_visible()
        write(grace, "Hours a week", "99")
        disagree(ada, grace)
        message = grace.get_by_role("alert").filter(has_text="ada has changed this to: London")
        expect(message).to_be_visible()
        expect(grace.get_by_label("City")).to_have_accessible_description("ada has changed this to: London")
        expect(state(grace)).to_have_text("2 fields are not saved")
        assert violations(grace) == []
        assert grace.evaluate(WIDE) == []
        assert grace.evaluate(LOW) == []
        assert min(grace.evaluate(CONTRASTS)) >= 4.5
