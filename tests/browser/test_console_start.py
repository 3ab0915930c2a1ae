"""The console from the first minute on: the first user, an insert, a terminal, sign-in and sign-out."""

from __future__ import annotations

import re
import subprocess

from playwright.sync_api import Page, Request, expect

from tests.support.console import Console
from tests.support.operators import insert
from tests.support.servers import wait_for


def type_credentials(page: Page, username: str, password: str = "correct horse") -> None:
    """By keyboard alone: the first field has the focus."""
    expect(page.get_by_label("User name")).to_be_focused()
    page.keyboard.type(username)
    page.keyboard.press("Tab")
    page.keyboard.type(password)
    page.keyboard.press("Enter")


def test_the_first_minute_by_keyboard_alone(console: Console) -> None:
    page = console.open(username=None)
    expect(page.get_by_role("heading", level=1)).to_have_text("A real-time API without backend code")
    assert page.url.endswith("/#/start")
    type_credentials(page, "ada")
    data = page.get_by_label("Data (JSON, or plain text)")
    expect(data).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("listitem").filter(has_text="greeting")).to_contain_text('{"text":"Hello"}')
    page.keyboard.type("no JSON, but a text")
    page.keyboard.press("Enter")
    expect(page.get_by_role("listitem").filter(has_text="greeting")).to_contain_text('"no JSON, but a text"')

    page.get_by_role("button", name="Copy the line for a terminal").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Copy the line for a terminal")).to_have_text("Copied")
    line = page.evaluate("navigator.clipboard.readText()")
    assert "eyJ" not in page.content()  # the token is in what was copied, and not on the screen
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=20)
    assert '"published":true' in done.stdout, done.stderr
    greeting = page.get_by_role("listitem").filter(has_text="greeting")
    expect(greeting).to_contain_text("Hello from a terminal")
    expect(greeting).to_have_class(re.compile("flash"))

    page.get_by_label("Event", exact=True).fill("it's; $(new)")
    page.get_by_role("button", name="Copy the line for a terminal").click()
    subprocess.run(["sh", "-c", page.evaluate("navigator.clipboard.readText()")], capture_output=True, timeout=20)
    expect(page.get_by_role("listitem").first).to_contain_text("it's; $(new)")


def test_sign_out_ends_the_session_and_its_stream(console: Console) -> None:
    page = console.open("#/start")
    page.get_by_role("button", name="Insert").click()
    expect(page.get_by_role("listitem")).to_contain_text("greeting")
    token = page.evaluate("JSON.parse(Object.values(localStorage).find((each) => each.includes('jwt'))).jwt")
    later: list[Request] = []
    page.on("request", lambda request: later.append(request))
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/events")) as ended:
        page.get_by_role("button", name="Sign out").click()
    assert ended.value.headers["authorization"] == f"Bearer {token}"
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    expect(page.get_by_role("listitem")).to_have_count(0)
    with console.server.client() as stranger:
        headers = {"Authorization": f"Bearer {token}"}
        wait_for(lambda: stranger.get("/users/me", headers=headers).status_code == 401, what="the end of the session")
    assert page.evaluate("Object.values(localStorage).filter((each) => each.includes('jwt'))") == []
    assert [each.url for each in later if "authorization" in each.headers] == [f"{console.server.url}/logout"]
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_a_wrong_password_is_said_and_what_was_typed_stays(console: Console) -> None:
    page = console.open(username=None)
    console.server.client("ada").close()
    page.reload()
    page.goto(f"{console.server.url}/#/sign-in")
    type_credentials(page, "ada", "wrong password")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("User name")).to_have_value("ada")
    page.get_by_label("Password").fill("correct horse")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_the_navigation_leads_back_and_forth_and_the_tab_says_where(console: Console) -> None:
    page = console.open("#/start")
    expect(page).to_have_title(re.compile("^Start · "))
    for name in ("Schedule", "Inspector", "Events"):
        page.get_by_role("navigation").get_by_role("link", name=name).click()
        expect(page.get_by_role("navigation").get_by_role("link", name=name)).to_have_attribute("aria-current", "page")
    page.go_back()
    expect(page.get_by_role("navigation").get_by_role("link", name="Inspector")).to_have_attribute(
        "aria-current", "page"
    )
    page.goto(f"{console.server.url}/#/no-such-screen")
    expect(page).to_have_url(re.compile("#/events$"))


def test_the_pane_shows_the_newest_first_and_only_what_has_changed_flashes(console: Console) -> None:
    with console.server.client("bob") as bob:
        for n in range(10):
            insert(bob, f"n{n}", n)
        page = console.open("#/start")
        rows = page.get_by_role("listitem")
        expect(rows).to_have_text([f"n{n}{n}" for n in range(9, 1, -1)])
        assert page.locator(".flash").count() == 0
        insert(bob, "n5", "changed")
        expect(rows).to_have_text(['n5"changed"', "n99", "n88", "n77", "n66", "n44", "n33", "n22"])
        expect(rows.first).to_have_class("flash")
        insert(bob, "n5", None)
        expect(rows).to_have_text(["n99", "n88", "n77", "n66", "n44", "n33", "n22"])


def test_a_slip_in_json_is_no_text(console: Console) -> None:
    page = console.open("#/start")
    page.get_by_label("Data (JSON, or plain text)").fill('{"price": 7')
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not valid JSON")
    with console.server.client("ada") as ada:
        assert ada.get("/snapshot").json() == []


def test_the_newest_is_first_again_after_another_screen(console: Console) -> None:
    page = console.open("#/start")
    with console.server.client("bob") as bob:
        for number, name in enumerate(("a", "b", "c", "a")):
            insert(bob, name, number)
        expect(page.get_by_role("listitem")).to_have_text(["a3", "c2", "b1"])
        page.get_by_role("link", name="Schedule").click()
        page.get_by_role("heading", name="Nothing is scheduled").wait_for()
        page.get_by_role("link", name="First steps").click()
        expect(page.get_by_role("listitem")).to_have_text(["a3", "c2", "b1"])
