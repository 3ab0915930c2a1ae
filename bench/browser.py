"""A real Chromium, and what its DevTools protocol reports of a page."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page, sync_playwright

from bench.errors import BenchError

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
WAIT_MS = 120_000


class Tab:
    """A page with a session of the DevTools protocol."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._cdp = page.context.new_cdp_session(page)
        self._cdp.send("Performance.enable")
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def run(self, script: str) -> Any:
        value = self.page.evaluate(script)
        if self.errors:
            raise BenchError(f"an error in the page: {self.errors[0]}")
        return value

    def wait(self, condition: str) -> None:
        self.page.wait_for_function(condition, timeout=WAIT_MS, polling=20)

    def heap_mb(self) -> float:
        """What lives on the heap of JavaScript, after a collection of garbage."""
        self._cdp.send("HeapProfiler.collectGarbage")
        return self.metrics()["JSHeapUsedSize"] / 1e6

    def metrics(self) -> dict[str, float]:
        return {each["name"]: each["value"] for each in self._cdp.send("Performance.getMetrics")["metrics"]}

    def throttle(self, bits_per_s: float, latency_ms: float) -> None:
        """Beside its bandwidth, the network gets a cold cache."""
        self._cdp.send("Network.enable")
        self._cdp.send("Network.clearBrowserCache")
        speed = {"downloadThroughput": bits_per_s / 8, "uploadThroughput": bits_per_s / 8}
        self._cdp.send("Network.emulateNetworkConditions", {"offline": False, "latency": latency_ms, **speed})

    def start_profile(self) -> None:
        self._cdp.send("Profiler.enable")
        self._cdp.send("Profiler.start")

    def profile(self, most: int) -> list[tuple[str, float]]:
        """The functions that took most time themselves since the start, with their parts of the time."""
        profile = self._cdp.send("Profiler.stop")["profile"]
        names = {node["id"]: _name(node["callFrame"]) for node in profile["nodes"]}
        spent: Counter[str] = Counter()
        for node, delta in zip(profile["samples"], profile["timeDeltas"], strict=True):
            spent[names[node]] += delta
        whole = sum(spent.values())
        spent.pop("(idle)", None)
        return [(name, part / whole) for name, part in spent.most_common(most)]


def _name(frame: dict[str, Any]) -> str:
    file = frame["url"].rpartition("/")[2]
    where = f" ({file}:{frame['lineNumber'] + 1})" if file else ""
    return (frame["functionName"] or "a function without a name") + where


@contextmanager
def chromium() -> Iterator[tuple[Callable[[], Tab], str]]:
    """A function that opens a tab, each with a storage and a cache of its own; and the version."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise BenchError("there is no Chromium: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(OPTIONS))
        try:
            yield lambda: Tab(browser.new_context().new_page()), browser.version
        finally:
            browser.close()
