"""The console's inspector: frames as they come, the proof that none is missing, and the test event."""

from __future__ import annotations

import re
import signal
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.console import Console
from tests.support.pages import insert
from tests.support.rules import apply_rules, give_roles

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>\u202e'


def frames(page: Page) -> Locator:
    return page.get_by_role("list", name="Frames").get_by_role("listitem")


def frame(page: Page, text: str) -> Locator:
    return frames(page).filter(has_text=text)


def figure(page: Page, name: str) -> Locator:
    return page.get_by_role("definition").and_(page.locator(f"dt:text-is('{name}') + dd"))


def shows(page: Page, claim: str) -> None:
    expect(page.get_by_role("strong")).to_have_text(claim)


def live(console: Console, route: str = "#/inspector", **options: Any) -> Page:
    page = console.open(route, **options)
    expect(figure(page, "Connection")).to_have_text("live")
    return page


def insert_many(client: httpx.Client, event: str, count: int) -> None:
    body = [{"event": event, "data": n} for n in range(count)]
    assert client.post("/insert", json=body, headers={"Prefer": "return=minimal"}).status_code == 201


def test_frames_come_as_they_are_on_the_wire(console: Console) -> None:
    with console.server.client("ada") as ada:
        insert(ada, "before", 1)
        page = live(console)
        expect(page).to_have_title(re.compile("^Inspector · "))
        expect(frames(page).first).to_contain_text(re.compile("connecting, from .*-1 on"))
        expect(frame(page, "retry: ")).to_have_count(1)
        expect(frame(page, "$ready")).to_contain_text('"heartbeat":15')
        insert(ada, "sale", {"percent": 20})
        expect(frame(page, '{"percent":20}')).to_contain_text(re.compile("-2.*sale"))
        shows(page, "1 received, 0 missing")
        expect(figure(page, "Position")).to_have_text(re.compile("-2$"))
        expect(frame(page, "before")).to_have_count(0)
        page.get_by_label("begin with the state").check()
        page.get_by_role("button", name="Apply").press("Enter")
        expect(frame(page, "before")).to_have_count(1)
        expect(page).to_have_url(re.compile("begin=state"))
        shows(page, "2 received, 0 missing")
        expect(page.get_by_text("so ids have gaps until $ready")).to_be_visible()
        expect(frame(page, "retry: ").get_by_role("button")).to_have_attribute("title", re.compile("How many millisec"))
        expect(page.get_by_text("EventSource, and Broker's client in a page of your own")).to_be_visible()


def test_nothing_is_missing_after_the_server_was_killed(console: Console) -> None:
    with console.server.client("ada") as ada:
        page = live(console)
        insert_many(ada, "a", 500)
        shows(page, "500 received, 0 missing")
        console.server.stop(signal.SIGKILL)
        expect(frame(page, "the connection was lost")).to_have_count(1)
        console.server.start()
        insert_many(ada, "b", 500)
        shows(page, "1,000 received, 0 missing")
        expect(figure(page, "Reconnections")).to_have_text("1")
        expect(figure(page, "Position")).to_have_text(re.compile("-1000$"))
        expect(page.get_by_role("main")).not_to_contain_text("came twice")


def test_a_disconnected_stream_resumes_where_it_was(console: Console) -> None:
    with console.server.client("ada") as ada:
        page = live(console)
        insert(ada, "a", 1)
        shows(page, "1 received, 0 missing")
        page.get_by_role("button", name="Disconnect").press("Enter")
        expect(figure(page, "Connection")).to_have_text("disconnected")
        insert(ada, "a", "meanwhile")
        page.get_by_role("button", name="Reconnect").press("Enter")
        expect(frame(page, "meanwhile")).to_have_count(1)
        expect(frames(page).filter(has_text=re.compile("connecting, from .*-1 on"))).to_have_count(1)
        shows(page, "2 received, 0 missing")


def test_positions_of_brokers_own_records_are_accounted_for(console: Console) -> None:
    with console.server.client("ada") as ada:
        page = live(console)
        insert(ada, "a", 1)
        give_roles(console.server, "ada", "admin")
        insert(ada, "a", 2)
        shows(page, "2 received, 0 missing")
        expect(page.get_by_text("1 position is Broker's own, and not shown ($passed).")).to_be_visible()
        expect(figure(page, "Position")).to_have_text(re.compile("-3$"))


def test_thousands_of_frames_leave_the_list_bounded_and_the_page_usable(console: Console) -> None:
    with console.server.client("ada") as ada:
        page = live(console)
        for _ in range(50):
            insert_many(ada, "many", 100)
        insert(ada, "last", 1)
        shows(page, "5,001 received, 0 missing")
        expect(frame(page, "last")).to_be_in_viewport()
        assert frames(page).count() == 2_000
        page.get_by_role("searchbox", name="Filter the frames").fill("LAST")
        expect(frames(page)).to_have_count(1)
        page.get_by_role("searchbox", name="Filter the frames").fill("")
        expect(frames(page)).to_have_count(2_000)


def test_who_looks_at_an_older_frame_is_not_disturbed(console: Console) -> None:
    console.server.stop()
    console.server.options += ["--set", "heartbeat_s=60"]  # a heartbeat is a row, too
    console.server.start()
    with console.server.client("ada") as ada:
        page = live(console)
        insert_many(ada, "a", 100)
        expect(frames(page)).to_have_count(103)
        page.get_by_role("list", name="Frames").evaluate("list => list.parentElement.scrollTop = 0")
        resume = page.get_by_role("button", name="Resume")
        expect(resume).to_be_visible()
        insert_many(ada, "b", 50)
        expect(resume).to_have_text("Resume (50 new)")
        expect(page.get_by_text("Paused, 50 new")).to_be_in_viewport()
        expect(page.get_by_role("status").filter(has_text="Paused.")).to_have_count(1)
        shows(page, "150 received, 0 missing")
        assert frames(page).count() == 103
        assert page.get_by_role("list", name="Frames").evaluate("list => list.parentElement.scrollTop") == 0
        resume.press("Enter")
        expect(frames(page)).to_have_count(153)
        expect(page.get_by_text("Paused, 50 new")).to_be_hidden()
        expect(frames(page).last).to_be_in_viewport()
        page.get_by_role("heading", name="Inspector").click()
        page.keyboard.press("p")
        expect(resume).to_be_visible()
        insert(ada, "c", 1)
        expect(resume).to_have_text("Resume (1 new)")
        page.keyboard.press("p")
        expect(frames(page).last).to_contain_text("c")


def test_a_frame_is_expanded_and_copied_by_keyboard(console: Console) -> None:
    with console.server.client("ada") as ada:
        page = live(console)
        body = '{"event":"sale","data":{"id":12345678901234567890,"price":1.0}}'
        assert ada.post("/insert", content=body, headers={"Content-Type": "application/json"}).status_code == 201
        insert(ada, "other", 1)
        shows(page, "2 received, 0 missing")
        page.get_by_role("button", name="Copy all frames").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("End")
        page.keyboard.press("ArrowUp")
        row = frame(page, "sale").get_by_role("button").first
        expect(row).to_be_focused()
        page.keyboard.press("Enter")
        expect(row).to_have_attribute("aria-expanded", "true")
        expect(frame(page, "sale").locator("pre")).to_have_text(
            '{\n  "id": 12345678901234567890,\n  "price": 1.0\n}', use_inner_text=True
        )
        frame(page, "sale").get_by_role("button", name="Copy this frame").press("Enter")
        expect(frame(page, "sale").get_by_role("button", name="Copy this frame")).to_have_text("Copied")
        sale = page.evaluate("navigator.clipboard.readText()")
        assert re.fullmatch(r'id: \w+-1\nevent: sale\ndata: \{"id":12345678901234567890,"price":1.0\}\n\n', sale)
        row.press("Enter")
        expect(frame(page, "sale").locator("pre")).to_have_count(0)
        page.get_by_role("searchbox", name="Filter the frames").fill("other")
        page.get_by_role("button", name="Copy all frames").press("Enter")
        expect(page.get_by_role("button", name="Copy all frames")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()").endswith("-2\nevent: other\ndata: 1\n\n")


def test_a_test_event_comes_back_with_its_time(console: Console) -> None:
    page = live(console)
    page.keyboard.press("t")
    expect(page.get_by_role("status").filter(has_text=re.compile(r"It came back in [\d.]+ ms"))).to_be_visible()
    expect(frame(page, "test/console")).to_contain_text(re.compile(r'-1.*test/console.*"test":1.*[\d.]+ ms'))
    page.get_by_label("Name of the test event").fill("mine")
    page.keyboard.press("Enter")
    expect(frame(page, "mine")).to_contain_text(re.compile(r'"test":2.*[\d.]+ ms'))
    page.get_by_role("combobox", name="Frames").select_option("whole records")
    page.get_by_role("button", name="Apply").click()
    expect(figure(page, "Connection")).to_have_text("live")
    page.get_by_role("button", name="Send a test event").click()
    expect(frame(page, "mine")).to_contain_text(re.compile(r'"user":"ada".*"test":3.*[\d.]+ ms'))


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_jumps_when_a_test_event_is_answered(console: Console, width: int) -> None:
    page = live(console, viewport={"width": width, "height": 740})
    place = page.locator(".inspector-figures")
    before = place.bounding_box()
    page.get_by_role("button", name="Send a test event").click()
    expect(page.get_by_role("status").filter(has_text="It came back in")).to_be_visible()
    assert place.bounding_box() == before


def test_on_a_phone_the_controls_are_folded(console: Console) -> None:
    page = live(console, viewport={"width": 390, "height": 740})
    pause = page.get_by_role("button", name="Pause")
    expect(pause).to_be_hidden()
    page.get_by_text("What is shown, pause, and disconnect").click()
    expect(pause).to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 740})
    expect(pause).to_be_visible()
    expect(page.get_by_text("What is shown, pause, and disconnect")).to_be_hidden()


def test_a_test_event_that_is_refused_or_filtered_is_said(console: Console) -> None:
    page = live(console, "#/inspector?event=orders/*")
    page.get_by_role("button", name="Send a test event").click()
    expect(page.get_by_text("It is stored, but has not come on this stream.")).to_be_visible()
    page.get_by_label("Name of the test event").fill("$rules")
    page.keyboard.press("Enter")
    expect(page.get_by_text("It was refused: ")).to_be_visible()


def test_a_filtered_stream_promises_no_count(console: Console) -> None:
    with console.server.client("ada") as ada:
        page = live(console)
        page.get_by_label("Events").fill("orders/*")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(r"event=orders"))
        expect(page.get_by_text("This stream shows only a part, so ids do not count.")).to_be_visible()
        expect(figure(page, "Connection")).to_have_text("live")
        insert(ada, "other", 1)
        insert(ada, "orders/7", 1)
        shows(page, "1 received")
        expect(frame(page, "other")).to_have_count(0)
        page.reload()
        expect(page.get_by_label("Events")).to_have_value("orders/*")
        expect(figure(page, "Connection")).to_have_text("live")
        page.get_by_label("Events").fill("bad**")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert").filter(has_text="The stream is refused: ")).to_be_visible()


def test_what_the_rules_hide_is_said(console: Console) -> None:
    with console.server.client("ada") as ada, console.server.client("bob"):
        apply_rules(
            console.server,
            '[[event]]\nname = "secret/*"\nread = "nobody"\ninsert = "user"\n'
            '[[event]]\nname = "board/*"\nread = "user"\ninsert = "user"\n',
        )
        page = live(console, username="bob")
        insert(ada, "secret/1", "secret")
        insert(ada, "board/1", "public")
        expect(frame(page, "board/1")).to_have_count(1)
        expect(page.get_by_text("The rules hide a part of this stream from you, so ids do not count.")).to_be_visible()
        expect(frame(page, "secret")).to_have_count(0)
        shows(page, "1 received")


def test_heartbeats_are_shown(console: Console) -> None:
    console.server.stop()
    console.server.options += ["--set", "heartbeat_s=1"]
    console.server.start()
    page = live(console)
    expect(frame(page, "a heartbeat").first).to_be_visible()


def test_names_and_data_are_text(console: Console) -> None:
    with console.server.client("ada") as ada:
        page = live(console, viewport={"width": 360, "height": 740})
        insert(ada, HOSTILE, {"text": HOSTILE})
        insert(ada, "long", "x" * 1_000_000)
        insert(ada, "many", dict.fromkeys(map(str, range(10_000)), 0))
        insert(ada, "last", 1)
        expect(frame(page, "last")).to_have_count(1)
        expect(frame(page, "onerror")).to_have_count(1)
        for name in ("onerror", "long", "many"):
            frame(page, name).get_by_role("button").first.click()
            expect(frame(page, name).locator("pre")).to_be_visible()
        assert page.locator("main img, main script").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
