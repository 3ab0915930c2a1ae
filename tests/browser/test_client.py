"""The client of `/broker.js` in a real browser: one import, and the few lines that a page has."""

from __future__ import annotations

import http.server
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.support.servers import BOUND_S, ServerProcess

PAGE = """<!doctype html><meta charset="utf-8"><title>sale</title>
<p id="sale"></p><p id="count"></p><button id="more">more</button><button id="tea">tea</button>
<script type="module">
  import { createBroker } from "%(url)s/broker.js";
  const broker = (window.broker = createBroker());
  const sale = broker.event("sale"), orders = broker.events("orders/");
  window.seen = [];
  sale.subscribe((data) => window.seen.push(data?.percent ?? 0));
  sale.subscribe((data) => (document.all.sale.textContent = data ? `${data.percent} %% off` : ""));
  orders.subscribe((all) => (document.all.count.textContent = all.size));
  document.all.more.onclick = () => sale.update((data) => ({ percent: (data?.percent ?? 0) + 1 }));
  document.all.tea.onclick = () => orders.add({ item: "tea" });
  broker.status.subscribe((status) => (document.body.dataset.status = status));
</script>"""


@pytest.fixture(name="site")
def make_site(tmp_path: Path) -> Iterator[Any]:
    """A server, and a page of another origin that imports the client from it."""
    bodies: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in bodies else 404)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(bodies.get(self.path, b""))

        def log_message(self, format: str, *args: object) -> None:
            pass

    pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=pages.serve_forever)
    thread.start()
    origin = f"http://127.0.0.1:{pages.server_port}"
    with ServerProcess(tmp_path, "--origin", origin, retry_ms=200) as server:
        bodies["/"] = (PAGE % {"url": server.url}).encode()
        yield server, origin
    pages.shutdown()
    thread.join()
    pages.server_close()


def waits(page: Page, expression: str) -> None:
    page.wait_for_function(expression, timeout=1_000 * BOUND_S, polling=20)


def test_a_write_is_shown_at_once_and_survives_a_killed_server(browser: Browser, site: Any) -> None:
    server, origin = site
    context = browser.new_context()  # with a storage of its own, and so one user for both pages
    first, second = context.new_page(), context.new_page()
    errors: list[str] = []
    for page in (first, second):
        page.on("pageerror", lambda error: errors.append(str(error)))
    first.goto(origin)
    waits(first, "document.body.dataset.status === 'live'")
    first.evaluate("broker.signUp('ada', 'correct horse')")
    second.goto(origin)
    waits(second, "broker.user.get()?.username === 'ada' && document.body.dataset.status === 'live'")

    shown = "(document.all.more.click(), document.all.sale.textContent)"
    assert first.evaluate(shown) == "1 % off"  # in the same turn, without waiting for the server
    waits(second, "document.all.sale.textContent === '1 % off'")

    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    assert [first.evaluate(shown) for _ in range(3)] == ["2 % off", "3 % off", "4 % off"]
    first.evaluate("document.all.tea.click()")
    assert first.evaluate("broker.outbox.get().length") == 4
    assert first.text_content("#count") == "1"
    waits(first, "document.body.dataset.status === 'reconnecting'")
    server.start()
    waits(second, "document.all.sale.textContent === '4 % off' && document.all.count.textContent === '1'")
    waits(first, "broker.outbox.get().length === 0 && document.body.dataset.status === 'live'")
    waits(first, "broker.event('sale').state.get().pending === 0")

    with server.client("ada") as ada:
        versions = [each["data"]["percent"] for each in ada.get("/collections/sale").json()]
    assert versions == [1, 2, 3, 4]  # each once, in their order
    for page in (first, second):
        seen = page.evaluate("seen")
        assert seen == sorted(seen), "a value has flipped back"
    assert errors == []
    context.close()


def test_a_page_that_the_server_itself_serves_needs_no_address(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "index.html").write_text(PAGE % {"url": ""})
    with ServerProcess(tmp_path / "data", "--static", str(folder)) as server, server.client("ada") as ada:
        page = browser.new_page()
        page.goto(server.url)
        waits(page, "document.body.dataset.status === 'live'")
        assert ada.post("/insert", json={"event": "sale", "data": {"percent": 7}}).status_code == 201
        waits(page, "document.all.sale.textContent === '7 % off'")
        page.close()


def address_of_this_machine() -> str:
    """One that is not of the loopback interface; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def test_a_page_on_plain_http_of_another_machine_works(browser: Browser, tmp_path: Path) -> None:
    """T19: there, browsers have no crypto.randomUUID and no locks."""
    address = address_of_this_machine()
    if address.startswith("127."):
        pytest.skip("NOT TESTED ON PLAIN HTTP: this machine has no address but the loopback interface's")
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "index.html").write_text(PAGE % {"url": ""})
    with ServerProcess(tmp_path / "data", "--host", "0.0.0.0", "--open", "--static", str(folder)) as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://{address}:{server.port}")
        assert page.evaluate("[isSecureContext, typeof crypto.randomUUID]") == [False, "undefined"]
        page.evaluate("broker.signUp('ada', 'correct horse')")
        waits(page, "broker.user.get()?.username === 'ada'")
        page.evaluate("document.all.tea.click()")
        waits(page, "document.all.count.textContent === '1' && broker.outbox.get().length === 0")
        context.close()


HOSTILE: list[Any] = [
    '<img src=x onerror="window.hacked = 1">', "__proto__", "constructor", "\u2028", "😀" * 50,
    {"__proto__": {"admin": True}, "constructor": 1, "toString": None}, "line\n\nid: x\ndata: y", [[[]]], 0, False, "",
]  # fmt: skip
PATCH = """broker.events('hostile/').patch('constructor', JSON.parse('{"__proto__":{"y":1}}')).then(() => ({}).y)"""


def test_hostile_names_and_values_are_only_data(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "index.html").write_text(PAGE % {"url": ""})
    with ServerProcess(tmp_path / "data", "--static", str(folder)) as server, server.client("ada") as ada:
        page = browser.new_page()
        page.goto(server.url)
        page.evaluate("broker.signUp('eve', 'correct horse').then(() => broker.events('hostile/').ready)")
        names = [*HOSTILE[:5], "$", " ", "%2f..", "a?b#c&d"]
        for number, name in enumerate(names):
            data = HOSTILE[number % len(HOSTILE)]
            assert ada.post("/insert", json={"event": f"hostile/{name}", "data": data}).status_code == 201, name
        waits(page, f"broker.events('hostile/').get().size === {len(names)}")
        shown = page.evaluate("JSON.stringify([...broker.events('hostile/').get()])")
        expected = [[name, HOSTILE[number % len(HOSTILE)]] for number, name in enumerate(names)]
        assert json.loads(shown) == expected
        assert page.evaluate("[window.hacked, {}.admin, Object.prototype.admin]") == [None, None, None]
        assert page.evaluate(PATCH) is None
        page.close()
