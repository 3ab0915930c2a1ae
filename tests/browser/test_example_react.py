"""The task board of examples/react, as Vite builds it, in two windows; and while somebody edits it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.documents import ROOT
from tests.support.pages import CONTRASTS
from tests.support.servers import BOUND_S, ServerProcess, wait_for

BOARD = ROOT / "examples" / "react"
VITE = BOARD / "node_modules" / "vite" / "bin" / "vite.js"
expect.set_options(timeout=1_000 * BOUND_S)

pytestmark = pytest.mark.skipif(
    not (BOARD / "node_modules" / ".installed").exists() and not os.environ.get("CI"),
    reason="THE EXAMPLE OF REACT WAS NOT TESTED: type make test where npm's registry can be reached",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board") / "dist"
    subprocess.run(["node", VITE, "build", "--outDir", folder], cwd=BOARD, check=True, capture_output=True)
    return folder


@pytest.fixture(name="server")
def serve(built: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, "--static", str(built), retry_ms=200) as server:
        yield server


def log_in(page: Page, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


@pytest.fixture
def windows(browser: Browser, server: ServerProcess) -> Iterator[tuple[Page, Page]]:
    """The windows of two users."""
    contexts = [browser.new_context() for _ in range(2)]
    pages = [context.new_page() for context in contexts]
    errors: list[str] = []
    for page, name in zip(pages, ("ada", "grace"), strict=True):
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server.url)
        log_in(page, name)
    yield pages[0], pages[1]
    for context in contexts:
        context.close()
    assert errors == []


def add(page: Page, title: str) -> None:
    page.get_by_label("New task").fill(title)
    page.keyboard.press("Enter")


def history(page: Page) -> list[str]:
    """What its entries say, without the times, and the newest first."""
    entries = page.get_by_role("complementary").get_by_role("listitem").locator("p").all_inner_texts()
    return [entry.split("\n")[0] for entry in entries]


def test_both_windows_show_who_has_changed_what_and_each_takes_back_only_its_own(windows: tuple[Page, Page]) -> None:
    ada, grace = windows
    add(ada, "Write the notes")
    card = grace.get_by_role("listitem").filter(has_text="Write the notes")
    expect(card).to_contain_text("ada")
    grace.get_by_role("button", name="Write the notes", exact=True).focus()
    grace.keyboard.press("ArrowRight")  # by the keyboard alone
    for page in windows:
        expect(page.get_by_role("region", name="Doing").get_by_role("listitem")).to_contain_text("grace")
    expect(grace.get_by_role("button", name="Write the notes", exact=True)).to_be_focused()

    ada.get_by_role("button", name="Write the notes", exact=True).click()
    expect(ada.get_by_role("complementary", name="History of Write the notes")).to_be_visible()
    wait_for(lambda: history(ada) == ["grace moved it to Doing", "ada wrote “Write the notes”"])
    ada.get_by_label("Title").fill("Write the release notes")
    ada.keyboard.press("Enter")
    expect(grace.get_by_text("Write the release notes")).to_be_visible()
    expect(ada.get_by_role("heading", name="History of Write the release notes")).to_be_visible()
    wait_for(lambda: history(ada)[0] == "ada renamed it to “Write the release notes”")
    ada.get_by_role("button", name="Undo").click()
    expect(grace.get_by_text("Write the notes")).to_be_visible()
    ada.get_by_role("button", name="Redo").click()
    expect(grace.get_by_text("Write the release notes")).to_be_visible()

    # What grace has written since is not lost when ada takes her own change back.
    grace.get_by_role("button", name="Move “Write the release notes” to Done").click()
    expect(ada.get_by_role("region", name="Done").get_by_role("listitem")).to_have_count(1)
    ada.get_by_role("button", name="Undo").click()
    expect(ada.get_by_role("alert")).to_contain_text("Somebody else was faster")
    expect(grace.get_by_role("region", name="Done").get_by_text("Write the release notes")).to_be_visible()
    ada.get_by_role("button", name="OK").click()

    ada.get_by_role("button", name="Restore “Write the notes” in To do").click()
    expect(grace.get_by_role("region", name="To do").get_by_text("Write the notes")).to_be_visible()
    ada.get_by_role("button", name="Remove").click()
    expect(grace.get_by_role("listitem")).to_have_count(0)
    expect(ada.get_by_role("heading", name="History of Write the notes")).to_be_visible()  # it is still known
    ada.keyboard.press("Escape")


def test_a_card_is_dragged_to_another_column(windows: tuple[Page, Page]) -> None:
    ada, grace = windows
    add(ada, "Order keyboards")
    ada.get_by_role("listitem").drag_to(ada.get_by_role("region", name="Done"))
    expect(grace.get_by_role("region", name="Done").get_by_text("Order keyboards")).to_be_visible()


def test_what_is_changed_while_the_server_is_down_is_kept_and_stored_once(
    windows: tuple[Page, Page], server: ServerProcess
) -> None:
    ada, grace = windows
    expect(ada.get_by_role("status")).to_have_text("Live")
    server.stop()
    for title in ("one", "two", "three"):
        add(ada, title)
    expect(ada.get_by_role("listitem")).to_have_count(3)
    expect(ada.get_by_role("status")).to_have_text("Reconnecting … · 3 changes wait")
    server.start()
    expect(grace.get_by_role("listitem")).to_have_count(3)
    expect(ada.get_by_role("status")).to_have_text("Live")
    texts = [each.split("\n")[0] for each in grace.get_by_role("listitem").all_inner_texts()]
    assert texts == ["one", "two", "three"]


def test_whoever_s_session_has_ended_is_told_so_and_what_waits_is_sent_after_the_login(
    windows: tuple[Page, Page], server: ServerProcess
) -> None:
    ada, grace = windows
    ada.get_by_label("New task").fill("half a task")
    with server.client("ada") as client:  # ends all sessions
        client.post("/users/me/password", json={"old": "correct horse", "password": "battery staple"})
    expect(ada.get_by_role("alert").filter(has_text="session")).to_have_text("Your session has ended. Log in again.")
    expect(ada.get_by_role("button", name="Create account")).to_have_count(0)
    expect(ada.get_by_label("Name", exact=True)).to_have_value("ada")
    ada.get_by_label("New task").press("Enter")  # what was typed is not lost
    said = "Your session has ended. Log in again; 1 change waits."
    expect(ada.get_by_role("alert").filter(has_text="session")).to_have_text(said)
    ada.get_by_label("Password").fill("battery staple")
    ada.keyboard.press("Enter")
    expect(grace.get_by_role("listitem")).to_contain_text("half a task")
    expect(ada.get_by_label("Password")).to_have_count(0)


def test_an_empty_column_says_what_to_do(windows: tuple[Page, Page], browser: Browser, server: ServerProcess) -> None:
    ada, _ = windows
    visitor = browser.new_page()
    visitor.goto(server.url)

    def shows(page: Page, *texts: str) -> None:
        expect(page.get_by_role("region").locator(".empty")).to_have_text(texts)

    shows(visitor, "Log in, and add the first task.", "Nothing here yet.", "Nothing here yet.")
    shows(ada, "Add the first task.", "Nothing here yet.", "Nothing here yet.")
    add(ada, "Begin")
    shows(ada, "Drag a card here, or use its arrows.", "Drag a card here, or use its arrows.")
    shows(visitor, "Nothing here yet.", "Nothing here yet.")
    visitor.close()


def test_a_visitor_reads_the_board_and_cannot_change_it(
    windows: tuple[Page, Page], browser: Browser, server: ServerProcess
) -> None:
    add(windows[0], "Read me")
    page = browser.new_page()
    page.goto(server.url)
    expect(page.get_by_role("listitem")).to_have_count(1)
    expect(page.get_by_label("New task")).to_have_count(0)
    expect(page.get_by_role("button", name=re.compile("Move"))).to_have_count(0)
    page.get_by_role("button", name="Read me").click()
    expect(page.get_by_text("Log in to see who has changed this task")).to_be_visible()
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill("wrong horse")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("password is wrong")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read_in_the_light_and_in_the_dark(
    browser: Browser, server: ServerProcess, scheme: Literal["light", "dark"]
) -> None:
    page = browser.new_page(color_scheme=scheme, viewport={"width": 320, "height": 640})
    page.goto(server.url)
    fits = "document.documentElement.scrollWidth === 320"
    assert page.evaluate(fits)
    log_in(page, "x" * 64)
    add(page, "long" * 50)
    page.get_by_role("listitem").get_by_role("button").first.click()
    expect(page.get_by_role("complementary").get_by_role("listitem")).to_have_count(1)
    assert page.evaluate(fits)
    small = "[...document.querySelectorAll('button, input')].filter(e => e.offsetHeight && e.offsetHeight < 44).length"
    assert page.evaluate(small) == 0
    assert min(page.evaluate(CONTRASTS)) >= 4.5
    page.close()


@pytest.fixture(name="folder")
def make_folder(tmp_path: Path) -> Path:
    """A copy of the example to edit."""
    copy = tmp_path / "board"
    shutil.copytree(BOARD, copy, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (copy / "node_modules").symlink_to(BOARD / "node_modules")
    return copy


@pytest.fixture(name="development")
def serve_by_vite(server: ServerProcess, folder: Path) -> Iterator[str]:
    """The address at which Vite serves the copy, and shows each edit."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["node", str(VITE), "--host", "127.0.0.1", "--port", str(port), "--strictPort"]
    environment = os.environ | {"BROKER_URL": server.url, "NO_COLOR": "1"}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as vite:
        assert vite.stdout is not None
        assert next(line for line in vite.stdout if "Local:" in line)
        yield f"http://127.0.0.1:{port}"
        vite.terminate()


def edit(file: Path, old: str, new: str, shown: Locator) -> None:
    text = file.read_text()
    assert old in text
    # Like an editor, it replaces the file. Otherwise Vite could read it while it is empty, and load the page again.
    written = file.with_name(f".{file.name}~")
    written.write_text(text.replace(old, new))
    written.replace(file)

    def is_shown() -> bool:
        try:
            expect(shown).to_be_visible(timeout=2_000)
        except AssertionError:
            file.touch()  # because Vite may miss an edit that follows another one closely
            return False
        return True

    wait_for(is_shown)


def test_ten_edits_while_it_is_shown_leave_one_stream(
    browser: Browser, server: ServerProcess, folder: Path, development: str
) -> None:
    """T41: Vite replaces the modules of the page, and the page stays."""
    page = browser.new_page()
    loads: list[str] = []
    page.on("load", lambda _: loads.append("load"))
    page.goto(development)
    log_in(page, "ada")
    add(page, "Stay")
    page.get_by_label("New task").fill("half a task")
    titles = ["Task board", *(f"Board {number}" for number in range(10))]
    for old, new in pairwise(titles):
        heading = page.get_by_role("heading", name=new, exact=True)
        edit(folder / "src" / "App.tsx", f"<h1>{old}</h1>", f"<h1>{new}</h1>", heading)
        expect(page.get_by_role("listitem")).to_have_count(1)
    field = page.get_by_placeholder("Another task")
    edit(folder / "src" / "Board.tsx", 'placeholder="New task"', 'placeholder="Another task"', field)
    assert loads == ["load"]
    expect(field).to_have_value("half a task")
    with server.client("grace") as grace:
        grace.post("/insert", json={"event": "tasks/1", "data": {"title": "Still live", "column": "done"}})
        expect(page.get_by_text("Still live")).to_be_visible()
        assert "broker_subscribers 1" in grace.get("/metrics").text.splitlines()
    assert loads == ["load"]
    page.close()
