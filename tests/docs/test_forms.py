"""What docs/forms.md shows works: its page in two windows, its samples in a browser, and their types."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.documents import ROOT, blocks
from tests.support.servers import BOUND_S, ServerProcess
from tests.support.typescript import STRICT, compiled, install, needs_react, needs_typescript

TEXT = (ROOT / "docs" / "forms.md").read_text()
TYPES = (ROOT / "src" / "broker" / "js" / "types.d.ts").read_text()
PAGE, LIST = (block.text for block in blocks(TEXT, "html"))
SAMPLES = [block.text for block in blocks(TEXT, "js")]
# What the samples take for granted.
GIVEN = """
import type { Broker, Form } from "zerocode-broker";
declare global {
  const broker: Broker;
  const form: Form;
  const element: HTMLFormElement, text: HTMLElement;
}
"""
SIGNED_UP = "Object.keys(sessionStorage).length > 1"  # the guest's password, and the session
expect.set_options(timeout=1_000 * BOUND_S)


@pytest.fixture(name="served", scope="module")
def make_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text(PAGE)
    (folder / "list.html").write_text(f'<!doctype html><link rel="icon" href="data:,">{LIST}')
    (folder / "samples.html").write_text(
        '<!doctype html><link rel="icon" href="data:,"><p id="text"></p>'
        '<form id="element"><input name="address.city"><button>Save</button></form>'
        '<script type="module">import { createBroker } from "/broker.js"; globalThis.broker = createBroker();</script>'
    )
    with ServerProcess(tmp_path_factory.mktemp("data"), "--static", str(folder), retry_ms=200) as server:
        yield server


@pytest.fixture(name="windows")
def open_windows(browser: Browser, served: ServerProcess) -> Iterator[tuple[Page, Page]]:
    context = browser.new_context()
    pages = context.new_page(), context.new_page()
    errors: list[str] = []
    for page in pages:
        page.on("pageerror", lambda error: errors.append(str(error)))
    yield pages
    context.close()
    assert errors == []


def leave(page: Page, label: str, text: str) -> None:
    page.get_by_label(label).fill(text)
    page.keyboard.press("Tab")


def test_the_page_of_five_minutes_does_in_two_windows_what_is_said_of_it(
    windows: tuple[Page, Page], served: ServerProcess
) -> None:
    one, other = windows
    for page in windows:
        page.goto(served.url)
        page.wait_for_function(SIGNED_UP)
    leave(one, "Name", "A")
    expect(other.get_by_label("Name")).to_have_value("A")  # over the stream that began with the login
    leave(one, "Name", "Ada")
    expect(other.get_by_label("Name")).to_have_value("Ada")
    expect(other.get_by_role("status").first).to_have_text(re.compile("^Changed by guest-"))

    other.get_by_label("City").press_sequentially("Par")
    leave(one, "City", "London")
    other.get_by_label("City").press_sequentially("is")
    expect(other.get_by_role("status").nth(1)).to_contain_text("has written “London”")
    other.get_by_role("button", name="Keep mine").click()
    expect(one.get_by_label("City")).to_have_value("Paris")
    one.get_by_label("City").focus()

    one.get_by_role("button", name="Undo").click()  # of London, which is Paris meanwhile
    expect(one.get_by_role("button", name="Take theirs")).to_be_visible()
    one.get_by_role("button", name="Take theirs").click()
    expect(one.locator("#saved")).to_have_text("Saved")

    one.get_by_label("Name").fill("")
    one.keyboard.press("Tab")
    expect(one.get_by_role("status").first).to_have_text("Please fill out this field.")
    expect(one.locator("#saved")).to_have_text("Not saved yet")
    leave(one, "Name", "Grace")

    served.stop()
    leave(one, "About", "typed while the server is stopped")
    expect(one.locator("#saved")).to_have_text("Not saved yet")
    served.start()
    expect(other.get_by_label("About")).to_have_value("typed while the server is stopped")
    expect(one.locator("#saved")).to_have_text("Saved")


def test_the_lines_of_a_list_are_added_changed_and_removed_in_both_windows(
    windows: tuple[Page, Page], served: ServerProcess
) -> None:
    one, other = windows
    one.goto(f"{served.url}/list.html")
    one.evaluate(
        """import('/broker.js').then(({ createBroker }) => createBroker().signUp('lister', 'correct horse'))
          .then(() => {})"""
    )
    for page in windows:
        page.goto(f"{served.url}/list.html")
    for count in (1, 2):
        one.get_by_role("button", name="Add a line").click()
        expect(other.get_by_label("Item")).to_have_count(count)
    one.get_by_label("Item").first.fill("tea")
    other.get_by_label("Item").last.fill("cake")
    other.get_by_label("Count").last.fill("3")
    expect(other.get_by_label("Item").first).to_have_value("tea")
    expect(one.get_by_label("Item").last).to_have_value("cake")
    expect(one.get_by_label("Count").last).to_have_value("3")
    one.get_by_role("button", name="Remove").first.click()
    expect(other.get_by_label("Item")).to_have_count(1)
    expect(other.get_by_label("Item")).to_have_value("cake")
    with served.client("ada") as ada:
        lines = [each for each in ada.get("/snapshot").json() if each["event"].startswith("orders/7/lines/")]
        assert [each["data"] for each in lines if each["data"]] == [{"item": "cake", "count": 3}]


def test_the_samples_run_one_after_the_other(windows: tuple[Page, Page], served: ServerProcess) -> None:
    page, _ = windows
    page.goto(f"{served.url}/samples.html")
    page.wait_for_function("!!globalThis.broker")
    page.evaluate("broker.signUp('sampler', 'correct horse').then(() => {})")
    for sample in SAMPLES:  # as a classic script, so that the next one finds its constants
        page.add_script_tag(content=sample)
    page.locator("input").fill("Athens")
    page.get_by_role("button", name="Save").click()
    with served.client("ada") as ada:
        page.wait_for_function("[form, shared].every(({state}) => state.get().status === 'live' && state.get().saved)")
        (data,) = [each["data"] for each in ada.get("/snapshot").json() if each["event"] == "profile"]
        assert data["address"] == {"city": "Athens"}


def test_a_server_takes_the_rules_of_the_page(tmp_path: Path) -> None:
    (rules,) = (block.text for block in blocks(TEXT, "toml"))
    (tmp_path / "rules.toml").write_text(rules)
    with ServerProcess(tmp_path / "data", "--rules", str(tmp_path / "rules.toml"), "--yes") as server:
        assert server.url


@needs_typescript
@needs_react
def test_the_samples_have_the_types_that_they_say(tmp_path: Path) -> None:
    install(tmp_path)
    (tmp_path / "given.d.ts").write_text(GIVEN)
    files = ["given.d.ts"]
    for number, block in enumerate(blocks(TEXT, "js", "tsx")):
        files.append(f"sample{number}.{block.language}")
        (tmp_path / files[-1]).write_text(f"{block.text}\nexport {{}};\n")
    assert compiled(tmp_path, *STRICT, "--allowJs", "--checkJs", *files) == ""


@pytest.mark.parametrize("name", ["FieldState", "FormState", "Form", "FormOptions", "Conflict"])
def test_everything_that_a_form_has_is_described(name: str) -> None:
    body = TYPES.partition(f"export interface {name} {{\n")[2].partition("\n}")[0]
    found = re.findall(r"^  (?:readonly )?(\w+)\??[:(]", body, re.MULTILINE)
    assert found
    for each in found:
        assert re.search(rf"`[^`]*\b{each}\b[^`]*`|{{[^}}]*\b{each}\b", TEXT), f"docs/forms.md lacks {each} of {name}"


def test_the_commands_are_those_of_the_makefile() -> None:
    commands = [line for block in blocks(TEXT, "sh") for line in block.text.splitlines()]
    assert commands == ["make .venv/.runs", "mkdir -p site", ".venv/bin/broker serve --static site"]
    done = subprocess.run(["make", "--dry-run", ".venv/.runs"], cwd=ROOT, capture_output=True, timeout=BOUND_S)
    assert done.returncode == 0
