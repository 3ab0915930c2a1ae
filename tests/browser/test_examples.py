"""The examples that Broker itself serves, each started as its README says, in a real browser with two windows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.documents import ROOT, blocks
from tests.support.pages import CONTRASTS
from tests.support.servers import BOUND_S
from tests.support.typescript import compiled, needs_typescript

EXAMPLES = ROOT / "examples"
# Controls without a name, elements that repeat an id, and what a thumb misses.
BLUNDERS = """() => [
  ...[...document.querySelectorAll("input, select, button, textarea")]
    .filter(each => each.offsetHeight && !(each.ariaLabel || each.labels?.length || each.textContent.trim())),
  ...[...document.querySelectorAll("[id]")].filter(each => document.querySelectorAll(`[id="${each.id}"]`).length > 1),
  ...[...document.querySelectorAll("input, select, button")].filter(e => e.offsetHeight && e.offsetHeight < 44),
].map(each => each.outerHTML)"""
WIDE = """() => [...document.querySelectorAll("body *")]
  .filter(each => each.offsetHeight > 1 && each.getBoundingClientRect().right > innerWidth)
  .map(each => each.outerHTML)"""
# The value of an input for a time that is so many seconds from now.
LOCAL = """seconds => {
  const date = new Date(Date.now() + 1_000 * seconds);
  return new Date(date - 60_000 * date.getTimezoneOffset()).toISOString().slice(0, 19);
}"""
expect.set_options(timeout=20_000)


@contextmanager
def example(name: str, data: Path) -> Iterator[str]:
    """Starts it by the command of its README, on a free port and with a folder of its own; yields its address."""
    (command,) = (block.text.strip() for block in blocks((EXAMPLES / name / "README.md").read_text(), "sh"))
    assert command == f"make example-{name}"
    environment = os.environ | {"BROKER_PORT": "0", "BROKER_PASSWORD": "correct horse", "MAKEFLAGS": ""}
    process = subprocess.Popen(
        ["make", f"example-{name}", f"DATA={data}"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    with process:
        try:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if match := re.search(r"serves on (http://\S+) ", line):
                    yield match[1]
                    break
            else:
                raise AssertionError("".join(lines))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)  # the group that make and the server are
            process.communicate(timeout=BOUND_S)


@contextmanager
def opened(browser: Browser, url: str, **options: object) -> Iterator[Page]:
    """A window with a storage of its own, which must not log an error."""
    context = browser.new_context(**options)  # type: ignore[arg-type] # Playwright has no type for all of them
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.goto(url)
    yield page
    assert errors == []
    context.close()


def test_the_page_of_ten_lines_is_live_in_two_windows(browser: Browser, tmp_path: Path) -> None:
    with example("plain", tmp_path / "data") as url, opened(browser, url) as one, opened(browser, url) as other:
        expect(one.get_by_role("status")).to_have_text("no sale yet")
        expect(one.get_by_text("Open this page in a second window.")).to_be_visible()
        one.wait_for_function("!!more.onclick")
        one.keyboard.press("Tab")
        expect(one.get_by_role("button")).to_be_focused()
        one.keyboard.press("Enter")
        expect(other.get_by_role("status")).to_have_text("1 % off")
        other.wait_for_function("!!more.onclick")
        other.get_by_role("button").click()
        expect(one.get_by_role("status")).to_have_text("2 % off")
        one.reload()  # who this is, is known
        expect(one.get_by_role("status")).to_have_text("2 % off")


def test_the_shop_says_for_whom_it_asks_a_password_and_where_the_administrator_goes(tmp_path: Path) -> None:
    without = {name: value for name, value in os.environ.items() if name != "BROKER_PASSWORD"}
    command = ["make", "example-shop", f"DATA={tmp_path / 'data'}"]
    # Nobody is there to type a password, so the server is not started.
    run = subprocess.run(
        command, cwd=ROOT, env=without | {"MAKEFLAGS": ""}, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True, timeout=BOUND_S,
    )  # fmt: skip
    assert run.returncode != 0
    assert run.stderr.startswith(
        "Choose a password for admin, the shop's administrator (8 characters or more), or set BROKER_PASSWORD:\n"
    )


def logged_in(page: Page) -> None:
    page.get_by_label("Name", exact=True).first.fill("admin")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_label("Password").press("Enter")
    expect(page.get_by_role("heading", name="Prices")).to_be_focused()


def add(page: Page, name: str, euros: str) -> None:
    form = page.get_by_role("form", name="A new product")
    form.get_by_label("Name").fill(name)
    form.get_by_label("Price in €").fill(euros)
    form.get_by_label("Price in €").press("Enter")
    expect(page.locator("#done")).to_have_text(f"{name} is for sale.")
    expect(form.get_by_label("Name")).to_be_focused()


def set_price(page: Page, product: str, euros: str, **times: float) -> None:
    form = page.get_by_role("form", name="A new price")
    form.get_by_label("Product").select_option(label=product)
    form.get_by_label("Price in €").fill(euros)
    for label, seconds in times.items():
        form.get_by_label(label.capitalize()).fill(page.evaluate(LOCAL, seconds))
    form.get_by_role("button").press("Enter")


def test_prices_are_set_planned_moved_and_cancelled_and_customers_see_them_in_time(
    browser: Browser, tmp_path: Path
) -> None:
    with (
        example("shop", tmp_path / "data") as url,
        opened(browser, url) as shop,
        opened(browser, f"{url}/admin.html", timezone_id="Asia/Tokyo") as admin,
    ):
        expect(shop.get_by_text("Nothing is for sale yet.")).to_be_visible()
        first = shop.get_by_role("link", name="Add the first product as the administrator")
        assert first.evaluate("link => link.href") == f"{url}/admin.html"
        logged_in(admin)
        add(admin, "Green tea", "4.20")
        add(admin, "<b>Rooibos</b>", "5")
        card = shop.get_by_role("listitem").filter(has_text="Green tea")
        expect(card).to_contain_text("€4.20")
        expect(first).to_be_hidden()
        expect(shop.get_by_role("heading", level=2)).to_have_text(["<b>Rooibos</b>", "Green tea"])

        set_price(admin, "Green tea", "4.00")  # now
        expect(card).to_contain_text("€4.00")
        expect(shop.locator("[aria-live]")).to_have_text("Green tea: €4.00")

        set_price(admin, "Green tea", "3.20", until=3_600)  # until a time
        expect(card.get_by_role("timer")).to_have_text(re.compile("^00:59|^01:00"))
        expect(card.locator("s")).to_have_text("€4.00")
        product = admin.get_by_role("list", name="Products").get_by_role("listitem").filter(has_text="Green tea")
        expect(product.locator("strong")).to_have_text("€3.20")
        expect(product.locator("p")).to_have_text(re.compile("^Offer until .*, then €4.00 again$"))
        admin.get_by_role("button", name="End the offer of Green tea").press("Enter")
        expect(card.get_by_role("timer")).to_be_hidden()
        expect(admin.get_by_role("heading", name="Products")).to_be_focused()

        earliest = admin.evaluate(LOCAL, 7_200)
        set_price(admin, "Green tea", "3.50", **{"from": 7_200})  # at a time
        set_price(admin, "<b>Rooibos</b>", "4.50", **{"from": 3_600}, until=9_000)
        pending = admin.get_by_role("list", name="Pending").get_by_role("listitem")
        expect(pending.get_by_role("heading")).to_have_text(["<b>Rooibos</b>: €4.50", "Green tea: €3.50"])

        move = admin.get_by_label("New time for Green tea")
        to_move = admin.get_by_role("button", name="Move the price of Green tea")
        expect(move).to_be_hidden()
        to_move.press("Enter")
        expect(move).to_be_focused()
        expect(admin.get_by_role("button", name="Cancel the price of Green tea")).to_be_hidden()
        admin.get_by_role("button", name="Back").press("Enter")
        expect(to_move).to_be_focused()
        expect(move).to_be_hidden()
        to_move.press("Enter")
        assert earliest[:16] <= move.input_value() <= admin.evaluate(LOCAL, 7_200)
        move.fill(admin.evaluate(LOCAL, 4))
        move.press("Enter")
        expect(admin.locator("#done")).to_contain_text("Green tea: moved to ")
        expect(admin.get_by_role("heading", name="Pending")).to_be_focused()
        expect(pending.get_by_role("heading")).to_have_text(["<b>Rooibos</b>: €4.50"])  # the other one's time has come
        expect(card).to_contain_text("€3.50")

        admin.get_by_role("button", name="Cancel the price of <b>Rooibos</b>").press("Enter")
        expect(admin.get_by_text("Nothing is scheduled.")).to_be_visible()
        expect(admin.get_by_role("heading", name="Pending")).to_be_focused()
        admin.reload()
        expect(admin.get_by_role("button", name="Log out admin")).to_be_visible()
        expect(admin.get_by_text("Nothing is scheduled.")).to_be_visible()


def test_only_the_administrator_of_the_shop_may_write(browser: Browser, tmp_path: Path) -> None:
    with example("shop", tmp_path / "data") as url:
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        refused = page.evaluate(
            """async () => {
              const { createBroker } = await import("/broker.js");
              const broker = createBroker();
              const signUp = await broker.signUp("eve", "correct horse").catch(error => error.status);
              const token = await fetch("/insert", {
                method: "POST", headers: {"Content-Type": "application/json"},
                body: JSON.stringify({event: "prices/tea", data: {cents: 1}}),
              });
              return [signUp, token.status];
            }"""
        )
        assert refused == [403, 401]
        page.goto(f"{url}/admin.html")
        page.get_by_label("Name", exact=True).first.fill("admin")
        page.get_by_label("Password").fill("wrong horse")
        page.get_by_label("Password").press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("The user name or the password is wrong")
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_examples_fit_a_phone_and_have_no_blunder(
    browser: Browser, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    small = {"color_scheme": scheme, "viewport": {"width": 320, "height": 640}}

    def check(page: Page) -> None:
        assert page.evaluate(WIDE) == []
        assert page.evaluate(BLUNDERS) == []
        assert min(page.evaluate(CONTRASTS)) >= 4.5
        assert page.evaluate("document.documentElement.lang") == "en"

    with example("plain", tmp_path / "plain") as url, opened(browser, url, **small) as page:
        expect(page.get_by_role("status")).to_have_text("no sale yet")
        check(page)
    with (
        example("shop", tmp_path / "shop") as url,
        opened(browser, f"{url}/admin.html", **small) as admin,
        opened(browser, url, **small) as shop,
    ):
        check(admin)
        logged_in(admin)
        add(admin, "x" * 80, "12345678.90")
        set_price(admin, "x" * 80, "1", until=99_999)
        set_price(admin, "x" * 80, "2", **{"from": 88_888}, until=99_999)
        expect(admin.get_by_role("list", name="Pending").get_by_role("listitem")).to_have_count(1)
        check(admin)
        expect(shop.get_by_role("timer")).to_be_visible()
        check(shop)


@needs_typescript
def test_the_modules_of_the_shop_have_the_types_of_the_client() -> None:
    assert compiled(EXAMPLES / "shop", "--project", "jsconfig.json") == ""
