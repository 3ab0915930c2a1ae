"""Chromium's own EventSource, in a page of the server's."""

from __future__ import annotations

import json
import os
import sys
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, sync_playwright

from tests.clients.python.program import SAVED_ID, URL, deliver
from tests.clients.toolchains import browser

SCRIPT = """([url, names]) => {
  const source = new EventSource(url);
  for (const name of ["message", ...names])
    source.addEventListener(name, e =>
      console.log(JSON.stringify({event: e.type, data: e.data, event_id: e.lastEventId})));
  source.onerror = () => console.error("error, readyState " + source.readyState);
}"""


def show(message: ConsoleMessage) -> None:
    if message.type == "log":
        deliver(**json.loads(message.text))
    else:
        print(message.text, file=sys.stderr, flush=True)


def main() -> None:
    address = URL if not SAVED_ID else f"{URL}{'&' if '?' in URL else '?'}last_event_id={SAVED_ID}"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=browser(),
            args=[
                "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync",
            ],
        )  # fmt: skip
        page = running.new_page()
        page.on("console", show)
        page.goto("http://{1}/healthz".format(*urlsplit(URL)))
        page.evaluate(SCRIPT, [address, json.loads(os.environ.get("EVENTS", "[]"))])
        page.wait_for_event("close", timeout=0)


main()
