"""What must hold of the client for pages behind any proxy, also while Broker is killed and started again."""

from __future__ import annotations

import signal
from contextlib import suppress
from functools import partial

import httpx
from playwright.sync_api import Page

from tests.proxies.lab import Proxy
from tests.support.servers import ServerProcess, wait_for

BOUND_S = 60.0  # a proxy that does not notify the client of an end leaves that to the client's watchdog
# A client of the page for each proxy, which comes through this proxy, too; and what it has seen.
CLIENTS = """async (urls) => {
  window.clients = {};
  window.seen = {};
  for (const [name, url] of Object.entries(urls)) {
    const { createBroker } = await import(`${url}/broker.js`);
    const broker = (clients[name] = createBroker(undefined, { storage: "memory" }));
    await broker.logIn("ada", "correct horse");
    const values = (seen[name] = []);
    broker.event("sale").subscribe((data) => data && values.push(data.percent));
  }
}"""


def check_that_the_client_resumes(
    broker: ServerProcess, ada: httpx.Client, proxies: dict[str, Proxy], page: Page
) -> None:
    def sale(percent: int) -> None:
        ada.post("/insert", json={"event": "sale", "data": {"percent": percent}}).raise_for_status()

    def wait_for_all(*percents: int) -> None:
        expected = {name: [*percents] for name in proxies}
        with suppress(AssertionError):  # the comparison says what is wrong
            wait_for(lambda: page.evaluate("seen") == expected, bound_s=BOUND_S)
        assert page.evaluate("seen") == expected

    for proxy in proxies.values():
        wait_for(partial(_reaches_broker, proxy), bound_s=BOUND_S, what=f"the client behind {proxy.name}")
    sale(1)
    page.evaluate(CLIENTS, {name: proxy.url for name, proxy in proxies.items()})
    wait_for_all(1)
    sale(2)
    wait_for_all(1, 2)
    broker.stop(signal.SIGKILL)
    wait_for(
        lambda: page.evaluate("Object.values(clients).every(each => each.status.get() !== 'live')"), bound_s=BOUND_S,
        what="the interruption",
    )  # fmt: skip
    written = page.evaluate("Object.values(clients).map((each, number) => each.event(`from/${number}`).set(1).event)")
    broker.start()
    sale(3)
    wait_for_all(1, 2, 3)  # resumed: nothing is missing, and nothing comes twice
    wait_for(
        lambda: page.evaluate("Object.values(clients).every(each => !each.outbox.get().length)"), bound_s=BOUND_S,
        what="the writes",
    )  # fmt: skip
    state = {record["event"] for record in ada.get("/snapshot").json()}
    assert state >= set(written)
    page.evaluate("Object.values(clients).forEach(each => each.close())")


def _reaches_broker(proxy: Proxy) -> bool:
    """Not at once: a proxy does not ask a server for a while that another test has stopped."""
    return httpx.get(f"{proxy.url}/broker.js").status_code == 200
