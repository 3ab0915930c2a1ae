"""A real browser opens a page that Vite has built, and that Broker itself serves."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.support.servers import ServerProcess

VITE = Path(__file__).parent / "vite"
expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `vite build` makes of the page in ``tests/browser/vite``."""
    program = VITE / "node_modules" / "vite" / "bin" / "vite.js"
    if not (shutil.which("node") and program.exists()) and not os.environ.get("CI"):
        pytest.skip("NO PAGE OF VITE WAS TESTED: install Node.js and npm, and type: make test")
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
