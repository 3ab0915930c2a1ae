"""Makes the pictures of the console that docs/console.md and the README show: a real server, real data, a real browser.

.venv/bin/python docs/make_screenshots.py [SCREEN ...]
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.console import Console  # noqa: E402
from tests.support.operators import insert  # noqa: E402
from tests.support.servers import ServerProcess  # noqa: E402

FOLDER = ROOT / "docs" / "console"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
PRODUCT = "products/tea-darjeeling"
HOUR = 3_600.0
SHADOWS = ("history", "palette")  # pictures with a dialog


def fill(server: ServerProcess) -> None:
    """A shop in the week of a sale: what a dozen products cost, who has changed it, and what is planned."""
    now = time.time()
    ada, bob = server.client("ada"), server.client("bob")
    products = {
        "tea-darjeeling": ("Darjeeling First Flush", 1490), "tea-assam": ("Assam Broken", 890),
        "tea-sencha": ("Sencha Uji", 1690), "tea-oolong": ("Dong Ding Oolong", 1990),
        "coffee-sidamo": ("Sidamo, whole beans", 1250), "coffee-huila": ("Huila, ground", 1150),
        "cup-porcelain": ("Porcelain cup", 1400), "pot-cast-iron": ("Cast iron pot", 6900),
    }  # fmt: skip
    for key, (name, cents) in products.items():
        insert(ada, f"products/{key}", {"name": name, "cents": cents, "stock": 40})
    for n in range(1, 8):
        insert(
            bob, f"orders/{1040 + n}", {"items": [{"product": list(products)[n], "count": n % 3 + 1}], "paid": n != 4}
        )
    insert(ada, "banner", {"text": "Spring harvest is here", "tone": "calm"})
    insert(bob, "opening-hours", {"mon-fri": "9:00-18:00", "sat": "10:00-16:00"})
    insert(ada, "sale", {"percent": 10, "on": "tea"}, until=now + 30 * HOUR)
    for cents, stock, client in ((1490, 38, bob), (1390, 38, ada), (1390, 31, bob), (1290, 31, ada)):
        insert(client, PRODUCT, {"name": "Darjeeling First Flush", "cents": cents, "stock": stock})
    insert(ada, PRODUCT, {"name": "Darjeeling First Flush", "cents": 990, "stock": 31}, timestamp=now + 20 * HOUR)
    insert(
        ada,
        "banner",
        {"text": "20 % off all teas until Sunday", "tone": "loud"},
        timestamp=now + 2 * HOUR,
        until=now + 50 * HOUR,
    )
    insert(bob, "opening-hours", {"mon-fri": "9:00-18:00", "sat": None}, timestamp=now + 9 * 24 * HOUR)
    insert(ada, "sale", {"percent": 20, "on": "tea"}, timestamp=now + 900)
    insert(bob, "products/pot-cast-iron", {"name": "Cast iron pot", "cents": 6900, "stock": 0}, timestamp=now + 75)


def screens() -> dict[str, Any]:
    """The address of each picture, and what is done before it is taken."""
    event = f"#/event/{quote(PRODUCT, '')}"
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    return {
        "start": ("#/start", start),
        "events": ("#/events", lambda page: see(page, "orders/1047")),
        "planned": (f"#/events?order=name&at={tomorrow:%Y-%m-%dT%H:%M:%SZ}", lambda page: see(page, "20 % off")),
        "event": (event, lambda page: page.get_by_role("textbox").first.wait_for()),
        "history": (f"{event}/history", history),
        "code": (f"{event}/code", lambda page: see(page, "createBroker")),
        "schedule": ("#/schedule", lambda page: see(page, "opening-hours")),
        "inspector": ("#/inspector", inspect),
        "palette": ("#/events", palette),
    }


def see(page: Page, text: str) -> None:
    page.get_by_role("main").get_by_text(text).first.wait_for()


def start(page: Page) -> None:
    page.get_by_role("button", name="Insert").click()
    see(page, "greeting")


def history(page: Page) -> None:
    see(page, "bob")
    page.get_by_role("checkbox").nth(1).check()
    page.get_by_role("checkbox").last.check()
    page.get_by_role("button", name="Compare").click()


def inspect(page: Page) -> None:
    see(page, "$ready")
    for count in range(1, 7):
        page.get_by_role("button", name="Send a test event").click()
        see(page, f"{count} received")


def palette(page: Page) -> None:
    see(page, "orders/1047")
    page.keyboard.press("Control+k")
    page.get_by_role("dialog").wait_for()
    page.keyboard.type("tea")
    page.get_by_role("dialog").get_by_text("tea-assam").first.wait_for()


def pictures(browser: Browser, server: ServerProcess, wanted: list[str]) -> Iterator[tuple[str, bytes]]:
    """The name of each picture, and its bytes (PNG)."""
    console = Console(browser, server)
    for theme in ("light", "dark"):
        for size, (width, height) in SIZES.items():
            page = console.open(color_scheme=theme, viewport={"width": width, "height": height})
            for name, (route, prepare) in screens().items():
                if wanted and name not in wanted:
                    continue
                page.goto(f"{server.url}/{route}")
                page.reload()
                prepare(page)
                page.wait_for_timeout(1_500)  # a flash is over, and what is loaded last is there
                yield f"{name}-{size}-{theme}", page.screenshot()
    console.close()


def main(wanted: list[str]) -> None:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        ServerProcess(Path(data), console_name="tea shop") as server,
        sync_playwright() as playwright,
    ):
        fill(server)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, picture in pictures(browser, server, wanted):
            image = Image.open(io.BytesIO(picture)).convert("RGB")
            if not name.startswith(
                SHADOWS
            ):  # 256 colours look the same, but for a shadow, and are a third of the bytes
                image = image.quantize(256, method=Image.Quantize.FASTOCTREE)
            image.save(FOLDER / f"{name}.png", optimize=True)
            print(name, file=sys.stderr)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
