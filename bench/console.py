"""The console's table of events in a browser: ``make bench ARGS=--console`` writes ``docs/console-performance.md`` from
one run. The sentences are in ``console.md``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from bench.bench import Bench, check, publisher
from bench.browser import Tab
from bench.client import measure_parts
from bench.errors import BenchError
from bench.figures import table
from bench.frames import BATCH, CHANGES_PER_S, percentiles, record
from bench.load import Publisher
from bench.servers import MANY_NAMES, PASSWORD, USER, Server, broker, broker_token, insert_all

TEMPLATE = Path(__file__).parent / "console.md"
SEARCHES = ("9999", "123", "orders/1500", "no such name", "")
SCROLLED_ROWS = 2_000
SLOW_BITS_PER_S, SLOW_LATENCY_MS = 1_600_000, 150

# What runs in the page.
WATCH_FRAMES = """window.frames = [];
let last;
requestAnimationFrame(function frame(time) {
  if (last !== undefined) window.frames.push(time - last);
  last = time;
  if (window.frames) requestAnimationFrame(frame);
});"""
SEARCH = """(text) => new Promise((done) => {
  const input = document.querySelector(".events [type=search]");
  const rows = () => [...document.querySelectorAll(".events-body .events-row:not([hidden]) .events-name")];
  const isEmpty = () => !document.querySelector(".events-empty").hidden;
  const isThere = () => text === "no such name" ? isEmpty()
    : !isEmpty() && rows().length > 0 && rows().every((each) => each.textContent.includes(text));
  const begun = performance.now();
  input.value = text;
  input.dispatchEvent(new Event("input"));
  requestAnimationFrame(function look() {
    const asked = new URLSearchParams(location.hash.split("?")[1]).get("search") ?? "";
    if (asked === text && isThere()) done(performance.now() - begun);
    else requestAnimationFrame(look);
  });
})"""
SCROLL = """(rows) => new Promise((done) => {
  const grid = document.querySelector(".events-grid");
  const frames = [];
  let last;
  requestAnimationFrame(function frame(time) {
    if (last !== undefined) frames.push(time - last);
    last = time;
    grid.scrollTop += 5 * 36;
    if (grid.scrollTop < rows * 36 && frames.length < 5000) requestAnimationFrame(frame);
    else done([frames, grid.scrollTop / 36]);
  });
})"""


@contextmanager
def _opened(bench: Bench, open_tab: Callable[[], Tab], route: str) -> Iterator[tuple[Tab, Publisher]]:
    """The console with 100,000 events at a route, and what changes them."""
    events = bench.times(100_000, 20_000)
    with ExitStack() as stack:
        server = stack.enter_context(broker(stack.enter_context(bench.data()), *MANY_NAMES))
        token = broker_token(server)
        for first in range(0, events, BATCH):
            insert_all(server, token, [record(n, 0) for n in range(first, min(first + BATCH, events))])
        tab = open_tab()
        _sign_in(tab, server, route)
        changes = publisher(bench, server, clients=16, token=token, event="orders/@E@", events=events)
        yield tab, stack.enter_context(changes)
        tab.page.context.close()


def _sign_in(tab: Tab, server: Server, route: str) -> None:
    url = f"http://127.0.0.1:{server.port}/"
    tab.page.goto(f"{url}#/sign-in")
    tab.page.get_by_label("User name").fill(USER)
    tab.page.get_by_label("Password").fill(PASSWORD)
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("button", name="Sign out").wait_for()
    tab.page.goto(f"{url}{route}")
    tab.page.locator(".events-status[data-state=live]").wait_for()


def opening(bench: Bench, open_tab: Callable[[], Tab]) -> str:
    """Of the table, with an empty cache, on a slow line."""
    field, row, requests = [], [], []
    with _opened(bench, open_tab, "#/events") as (tab, _):
        url = tab.page.url
        tab.throttle(SLOW_BITS_PER_S, SLOW_LATENCY_MS)
        for _ in range(bench.times(9, 3)):
            tab.page.goto("about:blank")
            tab.throttle(SLOW_BITS_PER_S, SLOW_LATENCY_MS)  # and empties the cache
            begun = time.monotonic()
            tab.page.goto(url)
            tab.wait("() => document.querySelector('.events [type=search]')")
            field.append(1_000 * (time.monotonic() - begun))
            tab.wait("() => document.querySelector('.events-body .events-name')")
            row.append(1_000 * (time.monotonic() - begun))
            requests.append(1 + tab.page.evaluate("performance.getEntriesByType('resource').length"))
    head = ("until there is", "median, ms", "longest")
    lines = table(head, [(what, f"{median(took):.0f}", f"{max(took):.0f}") for what, took in
                         (("the search", field), ("the first row", row))])  # fmt: skip
    return "\n".join(lines) + f"\n\nUntil then, {max(requests)} files were asked for."


def frames(bench: Bench, open_tab: Callable[[], Tab]) -> str:
    """Of the table while events change."""
    seconds = bench.times(30, 5)
    rows = []
    views = {
        "newest first": ("#/events", False),
        "newest first, the pointer over the table": ("#/events", True),
        "by name": ("#/events?order=name", False),
    }
    for what, (route, pointed) in views.items():
        bench.tell(what)
        with _opened(bench, open_tab, route) as (tab, changes):
            if pointed:
                tab.page.locator(".events-grid").hover()
            changes.rate(CHANGES_PER_S, 2)  # so that what is measured is compiled
            before = tab.metrics()
            tab.run(WATCH_FRAMES)
            begun = time.monotonic()
            check(changes.rate(CHANGES_PER_S, seconds))
            wall = time.monotonic() - begun
            found, after = tab.run("window.frames"), tab.metrics()
            tab.start_profile()
            check(changes.rate(CHANGES_PER_S, min(seconds, 10)))
            for name, part in tab.profile(12):
                bench.tell(f"  {part:6.1%} {name}")
            busy = (after["TaskDuration"] - before["TaskDuration"]) / wall
            rows.append((what, *percentiles(found), f"{busy:.0%}"))
    head = ("", "frames p50, ms", "p95", "p99", "longest", "page busy")
    return f"{CHANGES_PER_S} changes a second for {seconds} s:\n\n" + "\n".join(table(head, rows))


def search(bench: Bench, open_tab: Callable[[], Tab]) -> str:
    """From the last key until the rows are there."""
    rows = []
    rounds = bench.times(9, 3)
    with _opened(bench, open_tab, "#/events") as (tab, changes):
        changing = changes.start_rate(CHANGES_PER_S, 3 * rounds * len(SEARCHES), bound=600)
        for text in SEARCHES:
            took = []
            for _ in range(rounds):
                tab.page.evaluate(SEARCH, "" if text else SEARCHES[0])
                took.append(tab.page.evaluate(SEARCH, text))
            rows.append((f"`{text}`" if text else "all again", f"{sorted(took)[rounds // 2]:.0f}", f"{max(took):.0f}"))
        tab.page.context.close()
        changing.answer()
    return "\n".join(table(("search", "median, ms", "longest"), rows))


def scrolling(bench: Bench, open_tab: Callable[[], Tab]) -> str:
    """Down through many rows, which are read meanwhile, while events change."""
    rows = []
    for what, route in (("newest first", "#/events"), ("by name", "#/events?order=name")):
        with _opened(bench, open_tab, route) as (tab, changes):
            changing = changes.start_rate(CHANGES_PER_S, 20)
            tab.start_profile()
            found, reached = tab.page.evaluate(SCROLL, SCROLLED_ROWS)
            for name, part in tab.profile(12):
                bench.tell(f"  {part:6.1%} {name}")
            changing.answer()
            if reached < SCROLLED_ROWS - 100:
                raise BenchError(f"the table ended at row {reached}")
            rows.append((what, *percentiles(found), f"{sum(found) / 1_000:.1f}"))
    head = ("", "frames p50, ms", "p95", "p99", "longest", "whole way, s")
    return f"{SCROLLED_ROWS:,} rows, 5 rows a frame:\n\n" + "\n".join(table(head, rows))


def memory(bench: Bench, open_tab: Callable[[], Tab]) -> str:
    """The heap while events change."""
    minutes, length = bench.times(10, 2), bench.times(60, 10)
    rows = []
    with _opened(bench, open_tab, "#/events") as (tab, changes):
        for minute in range(minutes + 1):
            rows.append((str(minute * length), f"{tab.heap_mb():.2f}", f"{tab.metrics()['Nodes']:.0f}"))
            bench.tell(f"  {rows[-1][0]} s: {rows[-1][1]} MB, {rows[-1][2]} nodes")
            if minute < minutes:
                check(changes.rate(CHANGES_PER_S, length))
    head = ("seconds", "heap, MB", "nodes of the document")
    return f"Newest first, {CHANGES_PER_S} changes a second:\n\n" + "\n".join(table(head, rows))


PARTS: dict[str, Callable[[Bench, Callable[[], Tab]], str]] = {
    "opening": opening,
    "frames": frames,
    "search": search,
    "scrolling": scrolling,
    "memory": memory,
}


def measure(bench: Bench, names: list[str], machine: dict[str, str]) -> str:
    """The page; with names of parts, the tables of these parts alone."""
    return measure_parts(bench, PARTS, TEMPLATE, names, machine)
