"""Frames and memory of a page with many events: ``make bench ARGS=--client``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bench.bench import DATA, Bench, check, publisher
from bench.browser import Tab
from bench.figures import table
from bench.servers import MANY_NAMES, Server, broker, broker_token, insert_all

BATCH = 1_000
ROWS = 50
CHANGES_PER_S = 500
PAGE = """<!doctype html><meta charset="utf-8"><title>orders</title><ol id="rows"></ol>
<script type="module">
  import { createBroker } from "/broker.js";
  const log = { debug: () => window.received++ };
  const broker = (window.broker = createBroker(undefined, { storage: "memory", log }));
  window.received = window.changed = 0;
  const orders = (window.orders = broker.events("orders/"));
  const rows = Array.from({ length: ROWS }, () => document.all.rows.appendChild(document.createElement("li")));
  const newest = ([key, a], [other, b]) => (a.n < b.n ? 1 : a.n > b.n ? -1 : key < other ? -1 : 1);
  const draw = (list) =>
    rows.forEach((row, index) => (row.textContent = list[index] ? `${list[index][0]}: ${list[index][1].n}` : ""));
  if (WITH_LIST) orders.list({ sort: newest, limit: ROWS }).subscribe(draw);
  orders.changes((keys) => (window.changed += keys.size));
  orders.ready.then(() => (window.first = performance.now()));
  window.watchFrames = () => {
    window.frames = [];
    let last;
    requestAnimationFrame(function frame(time) {
      if (last !== undefined) window.frames.push(time - last);
      last = time;
      requestAnimationFrame(frame);
    });
  };
</script>"""


@contextmanager
def _served(bench: Bench, events: int, with_list: bool) -> Iterator[tuple[Server, str]]:
    """A server with so many events of one prefix and the page, and a token."""
    with ExitStack() as stack:
        folder = stack.enter_context(bench.data())
        site = folder / "site"
        site.mkdir()
        page = PAGE.replace("WITH_LIST", str(with_list).lower()).replace("ROWS", str(ROWS))
        (site / "index.html").write_text(page)
        server = stack.enter_context(broker(folder, "--static", str(site), *MANY_NAMES))
        token = broker_token(server)
        for first in range(0, events, BATCH):
            insert_all(server, token, [record(n, 0) for n in range(first, min(first + BATCH, events))])
        yield server, token


def record(key: int, number: int) -> str:
    # As the publisher writes them.
    data = DATA.replace("@N@", f"{number:016}").replace("@T@", f"{number:016}")
    return f'{{"event":"orders/{key}","data":{data}}}'


def frames(bench: Bench, open_tab: Callable[[], Tab]) -> str:
    """Of a page while events change, and what the page is busy with."""
    events, seconds = bench.times(100_000, 5_000), bench.times(30, 5)
    rows = []
    for with_list in (False, True):
        what = f"changes and a list of the {ROWS} newest" if with_list else "changes alone"
        bench.tell(f"{events:,} events of a prefix, {CHANGES_PER_S} changes a second, {what}")
        with _served(bench, events, with_list) as (server, token):
            tab = open_tab()
            tab.page.goto(f"http://127.0.0.1:{server.port}/")
            tab.wait("window.first")
            first_ms = tab.run("window.first")
            with publisher(bench, server, clients=16, token=token, event="orders/@E@", events=events) as changes:
                changes.rate(CHANGES_PER_S, 2)  # so that what is measured is compiled
                heap, before = tab.heap_mb(), tab.metrics()
                tab.run("watchFrames(); window.changed = 0")
                begun = time.monotonic()
                check(changes.rate(CHANGES_PER_S, seconds))
                wall = time.monotonic() - begun
                frames, shown, after = tab.run("window.frames"), tab.run("window.changed"), tab.metrics()
                tab.start_profile()
                check(changes.rate(CHANGES_PER_S, min(seconds, 10)))
                profile = tab.profile(12)
            busy = (after["TaskDuration"] - before["TaskDuration"]) / wall
            rows.append((what, f"{first_ms:,.0f}", *percentiles(frames), f"{busy:.0%}", f"{shown / wall:,.0f}",
                         f"{heap:.0f}", f"{tab.heap_mb():.0f}"))  # fmt: skip
            for name, part in profile:
                bench.tell(f"  {part:6.1%} {name}")
            tab.page.context.close()
    head = ("", "first state, ms", "frames p50, ms", "p95", "p99", "longest", "page busy", "changes shown a second",
            "heap before, MB", "after")  # fmt: skip
    return f"{events:,} events, {CHANGES_PER_S} changes a second for {seconds} s:\n\n" + "\n".join(table(head, rows))


def percentiles(values: list[float]) -> Iterator[str]:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    for value in (cuts[49], cuts[94], cuts[98], max(values)):
        yield f"{value:.1f}"


def memory(bench: Bench, open_tab: Callable[[], Tab]) -> str:
    """The heap while a million frames are received, of a prefix that stays as large as it is."""
    events, wanted = bench.times(10_000, 1_000), bench.times(1_000_000, 20_000)
    rows = []
    bench.tell(f"{wanted:,} frames of {events:,} events of a prefix")
    with _served(bench, events, with_list=False) as (server, token):
        tab = open_tab()
        tab.page.goto(f"http://127.0.0.1:{server.port}/")
        tab.wait("window.first")
        tab.run("window.received = 0")
        for sent in range(0, wanted, BATCH):
            insert_all(server, token, [record(n % events, n) for n in range(sent, sent + BATCH)])
            # A page that falls behind would be spared frames.
            tab.wait(f"window.received >= {sent + BATCH}")
            if (sent + BATCH) % (wanted // 10) == 0:
                rows.append((f"{sent + BATCH:,}", f"{tab.heap_mb():.2f}", f"{tab.metrics()['Nodes']:.0f}"))
                bench.tell(f"  {rows[-1][0]} frames: {rows[-1][1]} MB")
        tab.page.context.close()
    return f"{events:,} events:\n\n" + "\n".join(table(("frames", "heap, MB", "nodes of the document"), rows))
