"""What clients behind a proxy see when Broker is restarted or full: the table of docs/proxies.md, measured."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import httpx
from playwright.sync_api import Page

from tests.proxies.lab import ROOT, Proxy, Stream, through
from tests.proxies.live import LONG
from tests.servers import ServerProcess, wait_for

PAGE = ROOT / "docs" / "proxies.md"
SEE_S = 2.0  # within which a proxy passes on what happens; and for at least so long Broker is down
BACK_S = 8.0  # within which a client that comes back does so, once Broker serves

# A plain EventSource for each proxy, and what it has seen.
SCRIPT = """() => {
  window.seen = {};
  window.listen = urls => {
    for (const [name, url] of Object.entries(urls)) {
      const source = new EventSource(url), has = seen[name] = {source, opened: 0, failed: 0, ready: 0, got: []};
      source.onopen = () => has.opened++;
      source.onerror = () => has.failed++;
      source.addEventListener("$ready", () => has.ready++);
      source.addEventListener("tick", event => has.got.push(JSON.parse(event.data).n));
    }
  };
  window.state = () => Object.fromEntries(
    Object.entries(seen).map(([name, {source, ...has}]) => [name, {...has, state: source.readyState}]));
  window.leave = () => Object.values(seen).forEach(has => has.source.close());
}"""


class Row(NamedTuple):
    """What the page's table says of one proxy, in its words."""

    stopped: str  # how a stream ends at SIGTERM: "cut", "clean" or "not told"
    killed: str  # and at SIGKILL
    down: str  # what a new stream gets while Broker is down: a status, "no answer" or "waits"
    full: str  # how the answer of a full server ends
    page: str  # what a plain EventSource does: "comes back", "gives up" or "hangs", at SIGTERM and at SIGKILL


def said() -> dict[str, Row]:
    """The rows of the page's table, by the name of the proxy's settings."""
    rows = re.findall(r"^\| ([^|]+) \|" + r" ([^|]+) \|" * len(Row._fields) + "$", PAGE.read_text(), re.MULTILINE)
    return {name: Row(*cells) for name, *cells in rows}


class Restarts:
    """Mutable state: the numbers that were published, and what was seen at each restart."""

    def __init__(self, broker: ServerProcess, ada: httpx.Client, proxies: Iterable[Proxy], page: Page) -> None:
        self._broker = broker
        self._ada = ada
        self._proxies = {proxy.name: proxy for proxy in proxies}
        self._page = page
        self._published = 0

    def rows(self) -> dict[str, Row]:
        self._page.evaluate(SCRIPT)
        stopped, down, page_stopped = self._restart(signal.SIGTERM)
        killed, _, page_killed = self._restart(signal.SIGKILL)
        full = self._full()
        return {
            name: Row(
                stopped[name], killed[name], down[name], full[name],
                page_stopped[name] if page_stopped[name] == page_killed[name]
                else f"{page_stopped[name]}; after `kill -9` {page_killed[name]}",
            )
            for name in self._proxies
        }  # fmt: skip

    def _restart(self, number: signal.Signals) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        """How streams end, what new ones get meanwhile, and what EventSources do."""
        streams = self._streams()
        for name, stream in streams.items():
            _ready(name, stream)
        self._listen()
        self._publish()
        wait_for(lambda: all(has["got"][-1:] == [self._published] for has in self._seen().values()), what="the events")
        self._broker.stop(number)
        try:
            seen = _within(SEE_S, lambda: all(stream.ended for stream in streams.values()))
            ends = {name: _end(stream) for name, stream in streams.items()}
            newcomers = self._streams()
            answered = _within(SEE_S - seen, lambda: all(each.status or each.ended for each in newcomers.values()))
            down = {name: _answer(stream) for name, stream in newcomers.items()}
            # Each has tried again and found nobody, or waits; but for those that have given up.
            _within(SEE_S - seen - answered, lambda: all(map(_settled, self._seen().values())))
        finally:
            self._broker.start()
        self._publish()
        _within(BACK_S, lambda: all(map(self._knows, self._seen().values())))
        pages = {name: self._did(has) for name, has in self._seen().items()}
        self._page.evaluate("leave()")
        for stream in [*streams.values(), *newcomers.values()]:
            stream.close()
        return ends, down, pages

    def _full(self) -> dict[str, str]:
        self._broker.stop()
        with ServerProcess(
            self._broker.data, "--origin", self._origin(), port=self._broker.port, subscribers_max=1, retry_ms=100
        ) as full:
            proxy = next(iter(self._proxies.values()))
            taken = through(proxy)
            _ready(proxy.name, taken)
            streams = self._streams()
            _within(SEE_S, lambda: all(stream.ended for stream in streams.values()))
            for name, stream in streams.items():
                assert stream.status == 200, (name, stream.head)
                assert stream.retry, f"{name}: the whole body of the refusal comes through"
                assert stream.frames == [], name
            self._listen(ready=0)
            wait_for(lambda: all(has["failed"] >= 2 or has["opened"] for has in self._seen().values()), what="tries")
            full.stop()
        self._broker.start()
        ends = {name: _end(stream) for name, stream in streams.items()}
        self._page.evaluate("leave()")
        for stream in [taken, *streams.values()]:
            stream.close()
        return ends

    def _origin(self) -> str:
        return str(self._page.evaluate("location.origin"))

    def _streams(self) -> dict[str, Stream]:
        return {name: through(proxy) for name, proxy in self._proxies.items()}

    def _listen(self, ready: int = 1) -> None:
        self._page.evaluate(
            "urls => listen(urls)", {name: f"{proxy.url}/events" for name, proxy in self._proxies.items()}
        )
        wait_for(lambda: all(has["ready"] >= ready for has in self._seen().values()), what="every EventSource")

    def _seen(self) -> dict[str, dict[str, Any]]:
        return dict(self._page.evaluate("state()"))

    def _publish(self) -> None:
        self._published += 1
        body = {"event": "tick", "data": {"n": self._published, "long": LONG}}
        assert self._ada.post("/insert", json=body).status_code == 201

    def _knows(self, has: dict[str, Any]) -> bool:
        return bool(has["state"] == 2 or has["got"][-1:] == [self._published])

    def _did(self, has: dict[str, Any]) -> str:
        if has["state"] == 2:
            return "gives up"
        if has["got"][-1:] != [self._published]:
            return "hangs"
        assert has["got"][-2:] == [self._published - 1, self._published], "nothing twice, nothing missing"
        return "comes back"


def _ready(name: str, stream: Stream) -> None:
    wait_for(
        lambda: any(frame.event == "$ready" for frame in stream.frames) or stream.ended,
        what=f"$ready through {name}, {stream}",
    )
    assert not stream.ended, (name, stream)


def _settled(has: dict[str, Any]) -> bool:
    return bool(has["state"] == 2 or has["failed"] >= 2)


def _end(stream: Stream) -> str:
    if not stream.ended:
        return "not told"
    return "clean" if stream.ended == "cleanly" else "cut"


def _answer(stream: Stream) -> str:
    if stream.status:
        return str(stream.status)
    return "no answer" if stream.ended else "waits"


def _within(bound_s: float, condition: Callable[[], bool]) -> float:
    """Waits until it is true, and not longer than the bound; how long it waited."""
    started = time.monotonic()
    with suppress(AssertionError):
        wait_for(condition, max(bound_s, 0.0))
    return time.monotonic() - started
