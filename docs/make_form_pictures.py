"""Makes the pictures of a form in two windows that the README shows: examples/plain-form, a real server, real typing.

.venv/bin/python docs/make_form_pictures.py
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.servers import ServerProcess  # noqa: E402

FOLDER = ROOT / "docs" / "forms"
WIDTH, HEIGHT, GAP = 620, 920, 20
BETWEEN = {"light": "#ffffff", "dark": "#0d1117"}  # the pages of GitHub


def enter(browser: Browser, server: ServerProcess, name: str, theme: Literal["light", "dark"]) -> Page:
    page = browser.new_page(color_scheme=theme, viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(server.url)
    page.get_by_label("Your name").fill(name)
    page.keyboard.press("Enter")
    page.get_by_label("Your name").wait_for(state="hidden")
    return page


def windows(browser: Browser, server: ServerProcess, theme: Literal["light", "dark"]) -> list[Page]:
    """Grace has typed a city, and ada another one."""
    ada, grace = (enter(browser, server, name, theme) for name in ("ada", "grace"))
    ada.get_by_text("Also open: grace").wait_for()
    ada.get_by_label("Full name").fill("Ada Lovelace")
    ada.get_by_label("Team").select_option("engineering")
    ada.get_by_label("First day").fill("2026-12-01")
    grace.get_by_label("About").fill("Writes programs for engines that are not built yet.")
    grace.get_by_label("Hours a week").fill("40")
    ada.get_by_text("Changed by grace").nth(1).wait_for()
    grace.get_by_label("City").press_sequentially("Par")
    ada.get_by_label("City").fill("London")
    ada.get_by_label("Street").focus()
    grace.get_by_label("City").press_sequentially("is")
    grace.get_by_role("button", name="Keep mine: Paris").wait_for()
    return [ada, grace]


def main() -> None:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    FOLDER.mkdir(exist_ok=True)
    themes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for theme in themes:
            with (
                tempfile.TemporaryDirectory() as data,
                ServerProcess(Path(data), "--static", str(ROOT / "examples" / "plain-form")) as server,
            ):
                picture = Image.new("RGB", (2 * WIDTH + GAP, HEIGHT), BETWEEN[theme])
                pages = windows(browser, server, theme)
                for number, page in enumerate(pages):
                    picture.paste(Image.open(io.BytesIO(page.screenshot())), (number * (WIDTH + GAP), 0))
                for page in pages:
                    page.close()
            # 256 colours look the same, and are a third of the bytes.
            picture.quantize(256, method=Image.Quantize.MEDIANCUT).save(FOLDER / f"windows-{theme}.png", optimize=True)
            print(f"windows-{theme}", file=sys.stderr)
        browser.close()


if __name__ == "__main__":
    main()
