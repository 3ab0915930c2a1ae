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
from tests.support.servers import ServerProcess, wait_for

PAGE = ROOT / "docs" / "proxies.md"
ABSENT_S = 1.0  # what has not happened by then is taken for not happening
NEVER = ("not notified", "waits", "hangs")  # what only the absence of anything else shows

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

    stopped: str  # how a stream ends at SIGTERM: "cut", "clean" or "not notified"
    killed: str  # and at SIGKILL
    down: str  # what a new stream gets while Broker is down: a status, with `retry` if that comes, or "waits"
    full: str  # how the answer of a full server ends
    page_stopped: str  # what a plain EventSource does at SIGTERM: "comes back", "gives up" or "hangs"
    page_killed: str  # and at SIGKILL


def said() -> dict[str, Row]:
    """The rows of the page's table, by the name of the proxy's settings."""
    rows = re.findall(r"^\| ([^|]+) \|" + r" ([^|]+) \|" * len(Row._fields) + "$", PAGE.read_text(), re.MULTILINE)
    return {name: Row(*cells) for name, *cells in rows}


class Restarts:
    """Restarts Broker, waits for what is expected to happen, and returns what did.

    Mutable state: how many events were published."""

    def __init__(self, broker: ServerProcess, ada: httpx.Client, proxies: Iterable[Proxy], page: Page) -> None:
        self._broker = broker
        self._ada = ada
        self._proxies = {proxy.name: proxy for proxy in proxies}
        self._page = page
        self._published = 0

    def rows(self, expected: dict[str, Row]) -> dict[str, Row]:
        self._page.evaluate(SCRIPT)

        def column(field: str) -> dict[str, str]:
            return {name: getattr(expected[name], field) for name in self._proxies}

        down = column("down")
        stopped = self._restart(signal.SIGTERM, column("stopped"), down, column("page_stopped"))
        killed = self._restart(signal.SIGKILL, column("killed"), down, column("page_killed"))
        full = self._full(column("full"))
        return {
            name: Row(
                stopped[0][name], killed[0][name], stopped[1][name], full[name], stopped[2][name], killed[2][name]
            )
            for name in self._proxies
        }

    def _restart(
        self, number: signal.Signals, ends: dict[str, str], down: dict[str, str], pages: dict[str, str]
    ) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        """How streams end, what new ones get meanwhile, and what EventSources do."""
        streams = self._streams()
        for name, stream in streams.items():
            _ready(name, stream)
        self._listen()
        wait_for(lambda: all(has["ready"] for has in self._seen().values()), what="every EventSource")
        self._publish()
        wait_for(lambda: all(has["got"][-1:] == [self._published] for has in self._seen().values()), what="the events")
        self._broker.stop(number)
        try:
            ends = _observed(ends, lambda: {name: _end(stream) for name, stream in streams.items()})
            newcomers = self._streams()
            down = _observed(down, lambda: {name: _answer(stream) for name, stream in newcomers.items()})
            # Broker stays down until each has found nobody, again and again, or for good.
            patient = {name for name in self._proxies if down[name] == "waits" or pages[name] == "hangs"}
            wait_for(
                lambda: all(name in patient or _has_tried(has) for name, has in self._seen().items()), what="tries"
            )
        finally:
            self._broker.start()
        self._publish()
        pages = _observed(pages, lambda: {name: self._did(has) for name, has in self._seen().items()})
        self._page.evaluate("leave()")
        for stream in [*streams.values(), *newcomers.values()]:
            stream.close()
        return ends, down, pages

    def _full(self, ends: dict[str, str]) -> dict[str, str]:
        """How the answer of a server ends that has no room; that EventSources try again, the table need not say."""
        self._broker.stop()
        with ServerProcess(
            self._broker.data, "--origin", str(self._page.evaluate("location.origin")), port=self._broker.port,
            subscribers_max=1, retry_ms=100,
        ) as full:  # fmt: skip
            first = through(next(iter(self._proxies.values())))
            first.wait("$ready")
            streams = self._streams()
            wait_for(lambda: all(stream.retry for stream in streams.values()), what="the whole of each refusal")
            assert {stream.status for stream in streams.values()} == {200}
            assert not any(stream.frames for stream in streams.values())
            ends = _observed(ends, lambda: {name: _end(stream) for name, stream in streams.items()})
            self._listen()
            cut = {name for name, end in ends.items() if end != "not notified"}
            wait_for(lambda: all(self._seen()[name]["failed"] >= 2 for name in cut), what="new tries")
            assert not any(has["state"] == 2 or has["ready"] for has in self._seen().values())
            full.stop()
        self._broker.start()
        self._page.evaluate("leave()")
        for stream in [first, *streams.values()]:
            stream.close()
        return ends

    def _streams(self) -> dict[str, Stream]:
        return {name: through(proxy) for name, proxy in self._proxies.items()}

    def _listen(self) -> None:
        urls = {name: f"{proxy.url}/events" for name, proxy in self._proxies.items()}
        self._page.evaluate("urls => listen(urls)", urls)

    def _seen(self, but: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
        return {name: has for name, has in self._page.evaluate("state()").items() if name not in but}

    def _publish(self) -> None:
        self._published += 1
        body = {"event": "tick", "data": {"n": self._published, "long": LONG}}
        assert self._ada.post("/insert", json=body).status_code == 201

    def _did(self, has: dict[str, Any]) -> str:
        if has["state"] == 2:
            return "gives up"
        if has["got"][-1:] != [self._published]:
            return "hangs"
        assert has["got"][-2:] == [self._published - 1, self._published], "nothing twice, nothing missing"
        return "comes back"


def _has_tried(has: dict[str, Any]) -> bool:
    return bool(has["state"] == 2 or has["failed"] >= 2)


def _ready(name: str, stream: Stream) -> None:
    wait_for(lambda: any(frame.event == "$ready" for frame in stream.frames), what=f"$ready through {name}: {stream}")


def _end(stream: Stream) -> str:
    if not stream.ended:
        return "not notified"
    return "clean" if stream.ended == "cleanly" else "cut"


def _answer(stream: Stream) -> str:
    if stream.retry:
        return f"{stream.status}, `retry`"
    if stream.status:
        return str(stream.status)
    assert not stream.ended, "a proxy answers"
    return "waits"


def _observed(expected: dict[str, str], observe: Callable[[], dict[str, str]]) -> dict[str, str]:
    """What is observed in the end: as soon as all is as expected, or when the time for that is up."""
    least_s = ABSENT_S if any(each in NEVER for each in expected.values()) else 0.0
    started = time.monotonic()
    with suppress(AssertionError):  # the comparison with the table says what is wrong
        wait_for(lambda: time.monotonic() - started >= least_s and observe() == expected)
    return observe()
