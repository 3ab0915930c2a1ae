"""A real browser opens pages that Broker itself serves: one that Vite has built, and the example of the README."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.support.documents import README, ROOT
from tests.support.pages import CONTRASTS
from tests.support.servers import ServerProcess

GUESTBOOK = ROOT / "examples" / "guestbook"
VITE = Path(__file__).parent / "vite"
expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `vite build` makes of the page in ``tests/browser/vite``."""
    program = VITE / "node_modules" / "vite" / "bin" / "vite.js"
    if not (shutil.which("node") and program.exists()) and not os.environ.get("CI"):
        pytest.skip("NO PAGE OF VITE WAS TESTED: type make test where npm's registry can be reached")
    folder = tmp_path_factory.mktemp("vite") / "dist"
    subprocess.run(["node", program, "build", "--outDir", folder], cwd=VITE, check=True, capture_output=True)
    return folder


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that must not log an error, such as that of a request that CORS blocks."""
    page = browser.new_page()
    errors: list[str] = []

    def log(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            errors.append(message.text)

    page.on("console", log)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


def test_a_page_of_vite_shows_each_of_its_addresses_after_a_reload_and_needs_no_cors(
    page: Page, browser: Browser, built: Path, tmp_path: Path
) -> None:
    with ServerProcess(tmp_path, "--static", str(built), "--origin", "none") as server:
        page.goto(server.url)
        title = page.get_by_role("heading", level=1)
        for link, path, text in (
            ("Log in", "/login", "Log in"),
            ("Events", "/events", "Events"),
            ("Home", "/", "Home"),
        ):
            page.get_by_role("link", name=link).click()
            expect(title).to_have_text(text)
            reloaded = page.reload()
            assert reloaded is not None
            assert (reloaded.status, page.url) == (200, server.url + path)
            expect(title).to_have_text(text)

        page.goto(f"{server.url}/login")
        page.get_by_label("name").fill("ada")
        page.get_by_label("password").fill("correct horse")
        page.get_by_role("button", name="Sign up").click()
        expect(title).to_have_text("Users, as ada sees them")
        page.reload()  # the address of the API's call for a sign-up
        expect(title).to_have_text("Users, as ada sees them")

        reader = browser.new_page()
        reader.goto(f"{server.url}/events")
        page.get_by_label("name").fill("Rusty")
        page.get_by_role("button", name="Insert").click()
        expect(page.get_by_role("status")).to_contain_text("inserted ")
        expect(reader.get_by_role("listitem")).to_have_text(["Rusty"])
        reader.reload()
        expect(reader.get_by_role("listitem")).to_have_text(["Rusty"])
        reader.go_back()
        reader.close()
        page.go_back()  # from what the browser keeps, which must not be a response of the API
        expect(title).to_have_text("Log in")
        assert not [line for line in server.log if "cross-origin" in line]


def test_the_guestbook_of_the_readme_works_by_keyboard_alone(browser: Browser, tmp_path: Path) -> None:
    (command,) = re.findall(r"^broker serve (--static .*)$", README, re.MULTILINE)
    option, folder = command.split()
    with (
        ServerProcess(tmp_path, option, str(ROOT / folder)) as server,
        browser.new_page() as reader,
        browser.new_page() as page,
    ):
        reader.goto(server.url)
        expect(reader.get_by_text("Nobody has signed yet")).to_be_visible()
        page.goto(server.url)
        expect(page.get_by_role("status")).to_have_text("Live")
        for key in ("Tab", "a", "d", "a", "Tab", *"correct horse", "Tab", "Tab"):
            page.keyboard.press(key)
        expect(page.get_by_role("button", name="Create account")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_label("Your message")).to_be_focused()
        page.keyboard.type("<b>Hello</b>")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        for each in (page, reader):
            expect(each.get_by_role("listitem")).to_contain_text(["<b>Hello</b>ada, "])
        expect(page.get_by_label("Your message")).to_be_focused()
        page.reload()
        expect(page.get_by_text("as ada")).to_be_visible()
        expect(reader.get_by_role("button", name="Remove")).to_have_count(0)

        server.stop()
        expect(reader.get_by_role("status")).to_have_text("Reconnecting …")
        server.start()
        expect(reader.get_by_role("status")).to_have_text("Live")
        page.get_by_role("button", name="Remove").press("Enter")
        for each in (page, reader):
            expect(each.get_by_role("listitem")).to_have_count(0)


def test_the_guestbook_says_why_it_cannot_log_in_and_asks_again_when_a_login_has_ended(
    browser: Browser, tmp_path: Path
) -> None:
    with ServerProcess(tmp_path, "--static", str(GUESTBOOK)) as server, browser.new_page() as page:
        server.token("ada")
        page.goto(server.url)
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill("wrong horse")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_have_text("The user name or the password is wrong.")
        page.evaluate("sessionStorage.setItem('login', JSON.stringify({jwt: 'old', username: 'ada'}))")
        page.reload()
        page.get_by_label("Your message").fill("Hello")
        page.get_by_role("button", name="Sign the book").click()
        expect(page.get_by_role("alert")).to_contain_text("oken")
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill("correct horse")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_label("Your message")).to_have_value("Hello")
        page.get_by_role("button", name="Sign the book").click()
        expect(page.get_by_role("listitem")).to_contain_text(["Hello"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_guestbook_fits_a_phone_and_can_be_read_in_the_light_and_in_the_dark(
    browser: Browser, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    with ServerProcess(tmp_path, "--static", str(GUESTBOOK)) as server, server.client("ada") as ada:
        ada.post("/insert", json={"event": "guestbook/1", "data": {"name": "x" * 64, "text": "long" * 100}})
        page = browser.new_page(color_scheme=scheme, viewport={"width": 320, "height": 640})
        page.goto(server.url)
        expect(page.get_by_role("listitem")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        small = page.evaluate(
            "[...document.querySelectorAll('button, input')].filter(e => e.offsetHeight && e.offsetHeight < 44).length"
        )
        assert small == 0
        assert min(page.evaluate(CONTRASTS)) >= 4.5
        page.close()


def test_a_browser_that_has_the_files_of_a_page_does_not_load_them_again(
    page: Page, built: Path, tmp_path: Path
) -> None:
    with ServerProcess(tmp_path, "--static", str(built)) as server:
        page.goto(f"{server.url}/login", wait_until="networkidle")
        files: dict[str, int] = {}
        page.on("response", lambda response: files.update({response.url: response.status}))
        again = page.reload(wait_until="networkidle")
        assert again is not None
        # For a page itself, Chromium reports the status that it had the first time.
        assert again.request.all_headers()["if-none-match"] == again.headers["etag"]
        scripts_and_styles = [status for url, status in files.items() if "/assets/" in url]
        assert scripts_and_styles == [304] * 3
