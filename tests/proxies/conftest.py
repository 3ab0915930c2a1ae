"""Broker, and each proxy that Debian has in front of it; a page of a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests.proxies.lab import CONFIGS, DOCS, SCALING, Caddy, HAProxy, Nginx, Proxy, installed
from tests.support.servers import ServerProcess

# Those "as below" are what docs/proxies.md recommends; the others people have.
DEBIAN: dict[str, tuple[type[Proxy], Path]] = {
    "nginx, as below": (Nginx, DOCS / "nginx.conf"),
    'nginx, `proxy_http_version 1.1` and `Connection ""`': (Nginx, CONFIGS / "nginx-1.1.conf"),
    "nginx, `proxy_pass` alone": (Nginx, CONFIGS / "nginx-bare.conf"),
    "nginx, `gzip_types *`": (Nginx, CONFIGS / "nginx-gzip.conf"),
    "nginx, `location /live/`": (Nginx, CONFIGS / "nginx-prefix.conf"),
    "nginx, [two nodes](scaling.md#behind-a-load-balancer)": (Nginx, SCALING / "nginx.conf"),
    "Caddy, as below": (Caddy, DOCS / "Caddyfile"),
    "Caddy, `reverse_proxy` alone": (Caddy, CONFIGS / "Caddyfile-bare"),
    "Caddy, [two nodes](scaling.md#behind-a-load-balancer)": (Caddy, SCALING / "Caddyfile.machines"),
    "HAProxy, as below": (HAProxy, DOCS / "haproxy.cfg"),
    "HAProxy, `server` alone": (HAProxy, CONFIGS / "haproxy-bare.cfg"),
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, origin: str) -> Iterator[ServerProcess]:
    with ServerProcess(
        tmp_path_factory.mktemp("data"), "--open", "--origin", origin, retry_ms=100, heartbeat_s=0.2
    ) as running:
        yield running


@pytest.fixture(scope="module")
def ada(broker: ServerProcess) -> Iterator[httpx.Client]:
    with broker.client("ada") as client:
        yield client


@pytest.fixture(scope="module")
def proxies(broker: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Proxy]]:
    """Those that are installed."""
    with ExitStack() as stack:
        made = [
            stack.enter_context(kind(name, config, tmp_path_factory.mktemp(kind.program)))
            for name, (kind, config) in DEBIAN.items()
            if installed(kind.program)
        ]
        yield {proxy.name: proxy.start(f"127.0.0.1:{broker.port}") for proxy in made}


@pytest.fixture
def page(browser: Browser, origin: str) -> Iterator[Page]:
    page = browser.new_page(ignore_https_errors=True)
    page.goto(origin)
    yield page
    page.close()
