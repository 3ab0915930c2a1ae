"""What docs/proxies.md shows is what was tried, and what it tells pages to do helps."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from playwright.sync_api import Page

from tests.proxies.conftest import DEBIAN
from tests.proxies.lab import DOCS, SCALING, Nginx, Proxy, need
from tests.proxies.restarts import PAGE, SCRIPT
from tests.support.documents import HTTP, blocks
from tests.support.pages import insert
from tests.support.servers import ServerProcess, wait_for

TEXT = PAGE.read_text()
TABS = 8  # more than the six connections that a browser opens to one server over HTTP/1.1


class OverHttp2(Nginx):
    """The settings of the page, with its lines for HTTP/2 in place of the first."""

    def listens(self) -> str:
        (lines,) = (block.text for block in blocks(TEXT, "nginx") if block.text.startswith("listen 443 "))
        certificate = trustme.CA().issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self.folder / "both.pem"))
        for name in ("live.example.pem", "live.example.key"):
            assert f"/etc/ssl/{name}" in lines
            lines = lines.replace(f"/etc/ssl/{name}", str(self.folder / "both.pem"))
        return lines.replace("listen 443", f"listen 127.0.0.1:{self.port}")


def test_the_page_shows_the_files_that_are_tried() -> None:
    scaling = (SCALING.parent / "scaling.md").read_text()
    shown = {block.text for block in blocks(TEXT + scaling, "nginx", "caddy", "haproxy", "http", "js", "yaml")}
    for file in [*DOCS.iterdir(), SCALING / "nginx.conf", SCALING / "Caddyfile.machines"]:
        assert file.read_text() in shown, file.name


def test_over_http_2_a_page_has_more_than_six_streams_and_they_come_back(
    broker: ServerProcess, proxies: dict[str, Proxy], page: Page, tmp_path: Path
) -> None:
    need("nginx")
    page.evaluate(SCRIPT)

    def listen(proxy: Proxy) -> None:
        page.evaluate(
            "urls => listen(urls)", {f"{proxy.scheme} {number}": f"{proxy.url}/events" for number in range(TABS)}
        )

    def count(scheme: str, what: str) -> int:
        return sum(has[what] for name, has in page.evaluate("state()").items() if name.startswith(f"{scheme} "))

    listen(proxies["nginx, as below"])
    with OverHttp2("nginx over HTTP/2", DOCS / "nginx.conf", tmp_path, scheme="https") as proxy:
        proxy.start(f"127.0.0.1:{broker.port}")
        listen(proxy)
        wait_for(lambda: count("https", "ready") == TABS, what="every stream over HTTP/2")
        wait_for(lambda: count("http", "ready") == 6, what="six streams over HTTP/1.1")
        page.evaluate("leave()")

        listen(proxy)
        wait_for(lambda: count("https", "ready") == TABS, what="every stream over HTTP/2")
        broker.stop(signal.SIGKILL)
        wait_for(lambda: all(has["failed"] >= 2 for name, has in page.evaluate("state()").items() if "https" in name))
        broker.start()
        wait_for(lambda: count("https", "ready") == 2 * TABS, what="every stream again")
        page.evaluate("leave()")


def _waits(page: Page, condition: Callable[[], bool]) -> None:
    """The driver hands out what the page prints while it is asked something."""

    def asked() -> bool:
        page.evaluate("0")
        return condition()

    wait_for(asked)


@pytest.mark.parametrize("name", ["nginx, `proxy_pass` alone", "Caddy, `reverse_proxy` alone"])
def test_a_page_that_opens_a_new_stream_survives_what_ends_an_eventsource(
    name: str, broker: ServerProcess, proxies: dict[str, Proxy], page: Page
) -> None:
    need(DEBIAN[name][0].program)
    # The page that watches for heartbeats, with the line that is for proxies.
    (script,) = (block.text for block in blocks(HTTP, "js") if "?.close()" in block.text)
    (line,) = (block.text for block in blocks(TEXT, "js") if "CLOSED" in block.text)
    api, opens = 'const api = "http://127.0.0.1:8080";', "  source = new EventSource(`${api}/events?${query}`);\n"
    assert api in script
    assert opens in script
    script = script.replace(api, f'const api = "{proxies[name].url}";').replace(opens, f"{opens}{line}")
    seen: list[str] = []
    page.on("console", lambda message: seen.append(message.text))
    with broker.client("ada") as ada:
        insert(ada, "user", "before")
        page.add_script_tag(content=script)
        _waits(page, lambda: "before" in seen)
        broker.stop(signal.SIGKILL)
        _waits(page, lambda: bool(page.evaluate("source.readyState == EventSource.CLOSED")))
        broker.start()
        insert(ada, "user", "after")
        _waits(page, lambda: "after" in seen)
    assert [text for text in seen if text in ("before", "after")] == ["before", "after"], "nothing twice"
