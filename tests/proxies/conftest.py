"""Broker, and each proxy that Debian has in front of it; a page of a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests import test_browser
from tests.proxies.lab import CONFIGS, DOCS, Caddy, HAProxy, Nginx, Proxy
from tests.servers import ServerProcess

browser = test_browser.browser
origin = test_browser.origin

# The first of each is what docs/proxies.md recommends; the others people have.
DEBIAN: dict[str, Callable[[str, pytest.TempPathFactory], Proxy]] = {
    "nginx, as below": lambda name, tmp: Nginx(name, DOCS / "nginx.conf", tmp.mktemp("nginx")),
    "nginx, `proxy_pass` alone": lambda name, tmp: Nginx(name, CONFIGS / "nginx-bare.conf", tmp.mktemp("nginx")),
    "nginx, `gzip_types *`": lambda name, tmp: Nginx(name, CONFIGS / "nginx-gzip.conf", tmp.mktemp("nginx")),
    "nginx, `proxy_http_version 1.1`": lambda name, tmp: Nginx(name, CONFIGS / "nginx-1.1.conf", tmp.mktemp("nginx")),
    "nginx, `location /live/`": lambda name, tmp: Nginx(
        name, CONFIGS / "nginx-prefix.conf", tmp.mktemp("nginx"), prefix="/live"
    ),
    "Caddy, as below": lambda name, tmp: Caddy(name, DOCS / "Caddyfile", tmp.mktemp("caddy")),
    "Caddy, `reverse_proxy` alone": lambda name, tmp: Caddy(name, CONFIGS / "Caddyfile-bare", tmp.mktemp("caddy")),
    "HAProxy, as below": lambda name, tmp: HAProxy(name, DOCS / "haproxy.cfg", tmp.mktemp("haproxy")),
    "HAProxy, `server` alone": lambda name, tmp: HAProxy(name, CONFIGS / "haproxy-bare.cfg", tmp.mktemp("haproxy")),
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, origin: str) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("data"), "--origin", origin, retry_ms=100, heartbeat_s=0.2) as running:
        yield running


@pytest.fixture(scope="module")
def ada(broker: ServerProcess) -> Iterator[httpx.Client]:
    with broker.client("ada") as client:
        yield client


@pytest.fixture(scope="module")
def proxies(broker: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Proxy]]:
    with ExitStack() as stack:
        made = {name: stack.enter_context(make(name, tmp_path_factory)) for name, make in DEBIAN.items()}
        for proxy in made.values():
            proxy.start(f"127.0.0.1:{broker.port}")
        yield made


@pytest.fixture
def page(browser: Browser, origin: str) -> Iterator[Page]:
    page = browser.new_page(ignore_https_errors=True)
    page.goto(origin)
    yield page
    page.close()
