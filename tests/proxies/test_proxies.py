"""Streams through the proxies that Debian has: live, across restarts, and with the addresses of their visitors."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page

from tests.proxies.client import check_that_the_client_resumes
from tests.proxies.conftest import DEBIAN
from tests.proxies.lab import Proxy, free_port, need, through
from tests.proxies.live import check_it_is_live
from tests.proxies.restarts import Restarts, said
from tests.support.servers import ServerProcess, wait_for


@pytest.mark.parametrize("name", DEBIAN)
def test_events_and_heartbeats_come_through_at_once(name: str, ada: httpx.Client, proxies: dict[str, Proxy]) -> None:
    need(DEBIAN[name][0].program)
    check_it_is_live(ada, proxies[name])


def test_a_restart_is_what_the_page_says(
    broker: ServerProcess, ada: httpx.Client, proxies: dict[str, Proxy], page: Page
) -> None:
    if not proxies:
        pytest.skip("NO PROXY WAS TESTED: install nginx, Caddy or HAProxy (Debian: apt install nginx caddy haproxy)")
    # By itself HAProxy waits for three seconds: what a page sees is chance.
    tried = {name: proxy for name, proxy in proxies.items() if name != "HAProxy, `server` alone"}
    expected = {name: row for name, row in said().items() if name in tried}
    assert expected.keys() == tried.keys()
    assert Restarts(broker, ada, tried.values(), page).rows(expected) == expected


def test_the_client_for_pages_resumes_behind_each_of_them_after_a_kill(
    broker: ServerProcess, ada: httpx.Client, proxies: dict[str, Proxy], page: Page
) -> None:
    if not proxies:
        pytest.skip("NO PROXY WAS TESTED: install nginx, Caddy or HAProxy (Debian: apt install nginx caddy haproxy)")
    check_that_the_client_resumes(broker, ada, proxies, page)


@pytest.mark.parametrize(
    ("name", "patience", "less", "status"),
    [
        ("Caddy, as below", "lb_try_duration 15s", "lb_try_duration 1s", 502),
        ("HAProxy, as below", "retries 15", "retries 1", 503),
        ("nginx, as below", "proxy_connect_timeout 2s", "proxy_connect_timeout 1s", 502),
    ],
)
def test_an_eventsource_that_waited_in_vain_is_asked_to_come_back(
    name: str, patience: str, less: str, status: int, tmp_path: Path
) -> None:
    kind, config = DEBIAN[name]
    need(kind.program)
    assert patience in config.read_text()
    impatient = tmp_path / config.name
    impatient.write_text(config.read_text().replace(patience, less))
    with kind(name, impatient, tmp_path / "proxy") as proxy:
        proxy.start(f"127.0.0.1:{free_port()}")  # where nobody listens
        eventsource, other = through(proxy), through(proxy, cache="max-age=0")
        wait_for(lambda: eventsource.retry and other.status, what="both answers")
        assert (eventsource.status, other.status) == (200, status), "a library that reads with fetch tries again"
        eventsource.close()
        other.close()


def test_the_next_page_of_a_log_is_found_behind_a_stripped_prefix(ada: httpx.Client, proxies: dict[str, Proxy]) -> None:
    need("nginx")
    url = f"{proxies['nginx, `location /live/`'].url}/collections/paged?limit=1"
    for number in range(3):
        assert ada.post("/insert", json={"event": "paged", "data": number}).status_code == 201
    found = []
    while url:
        answer = ada.get(url)
        assert answer.status_code == 200, url
        found += [record["data"] for record in answer.json()]
        link = re.fullmatch(r'<([^>]*)>; rel="next"', answer.headers.get("Link", ""))
        url = str(httpx.URL(url).join(link[1])) if link else ""
    assert found == [0, 1, 2]
