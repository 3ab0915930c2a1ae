"""The package that the server offers: npm installs it, Vite builds a page with it, and Broker serves the page."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, TimeoutError, expect

from broker import __version__
from tests.proxies.lab import DOCS, Proxy, with_upstream
from tests.support.documents import ROOT, blocks
from tests.support.servers import BOUND_S, ServerProcess, wait_for

VITE = Path(__file__).parent / "vite"
PAGE = """<!doctype html><meta charset="utf-8"><title>sale</title><p role="status"></p>
<script type="module" src="./page.js"></script>"""
SCRIPT = """import { createBroker } from "zerocode-broker";
createBroker().event("sale").subscribe((data) => {
  document.querySelector("p").textContent = data ? `${data.percent} % off` : "no sale";
});
"""

# The client is in a module of its own, and the page takes a new one without being loaded anew, as React's does.
(CLIENT,) = (
    block.text
    for block in blocks((ROOT / "docs" / "front-end.md").read_text(), "js")
    if "import.meta.hot" in block.text
)
HOT = """import { broker, edition } from "./client.js";
window.broker = broker;
const seen = (window.seen ??= []);
broker.event("sale").subscribe((data) => {
  if (data) seen.push(data.percent);
  document.querySelector("p").textContent = data ? `${data.percent} % off` : "no sale";
});
document.body.dataset.edition = edition;
import.meta.hot.accept();
"""
LIVE = "document.body.dataset.edition === '%d' && broker.status.get() === 'live'"


class Vite(Proxy):
    """Vite's development server for a project, with the proxy that docs/proxies.md shows."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def fitted(self, upstream: str) -> str:
        return with_upstream(self.config, upstream)

    def command(self, config: str) -> list[str]:
        file = self.write("vite.config.mjs", config)
        program = VITE / "node_modules" / "vite" / "bin" / "vite.js"
        options = ["--config", str(file), "--host", "127.0.0.1", "--port", str(self.port), "--strictPort"]
        return ["node", str(program), *options]


@pytest.fixture(name="project")
def make_project(tmp_path: Path) -> Path:
    """A project with the package of a server, and Vite from the tests."""
    npm, vite = shutil.which("npm"), VITE / "node_modules" / "vite"
    if not (npm and vite.exists()) and not os.environ.get("CI"):
        pytest.skip("THE PACKAGE WAS NOT INSTALLED: install Node.js and npm, and type: make test")
    folder = tmp_path / "my-app"
    folder.mkdir()
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    with ServerProcess(tmp_path / "first") as server:
        quiet = ["--no-audit", "--no-fund", "--cache", str(tmp_path / "cache")]
        subprocess.run(
            [str(npm), "install", *quiet, f"{server.url}/broker.tgz"], cwd=folder, check=True, capture_output=True
        )
    return folder


def built(folder: Path) -> Path:
    program = VITE / "node_modules" / "vite" / "bin" / "vite.js"
    result = subprocess.run(["node", str(program), "build"], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder / "dist"


def test_npm_installs_it_and_a_page_that_vite_builds_is_live(project: Path, browser: Browser, tmp_path: Path) -> None:
    installed = json.loads((project / "node_modules" / "zerocode-broker" / "package.json").read_text())
    assert installed["version"] == __version__
    (project / "index.html").write_text(PAGE)
    (project / "page.js").write_text(SCRIPT)
    with (
        ServerProcess(tmp_path / "data", "--static", str(built(project))) as server,
        server.client("ada") as ada,
        browser.new_page() as page,
    ):
        page.goto(server.url)
        expect(page.get_by_role("status")).to_have_text("no sale")
        ada.post("/insert", json={"event": "sale", "data": {"percent": 20}}).raise_for_status()
        expect(page.get_by_role("status")).to_have_text("20 % off")


def streams(server: ServerProcess) -> int:
    with server.client() as client:
        (count,) = re.findall(r"^broker_subscribers (\d+)", client.get("/metrics").text, re.MULTILINE)
    return int(count)


def test_behind_the_proxy_of_vite_the_client_survives_a_killed_server_and_edits_leave_no_stream(
    project: Path, browser: Browser, tmp_path: Path
) -> None:
    """T41, and the proxies' 502 of T20."""
    direct = 'import.meta.env.DEV ? "http://127.0.0.1:8080" : undefined'
    assert direct in CLIENT
    client = CLIENT.replace(direct, '"/live"')

    def edit(number: int) -> None:
        (project / "client.js").write_text(f"{client}export const edition = {number};\n")

    (project / "index.html").write_text(PAGE)
    (project / "page.js").write_text(HOT)
    edit(0)
    with (
        ServerProcess(tmp_path / "data", retry_ms=100) as server,
        server.client("ada") as ada,
        Vite("Vite", DOCS / "vite.config.js", project) as vite,
        browser.new_page() as page,
    ):

        def sale(percent: int) -> None:
            ada.post("/insert", json={"event": "sale", "data": {"percent": percent}}).raise_for_status()

        sale(1)
        vite.start(f"127.0.0.1:{server.port}")
        wait_for(partial(_answers, vite.url), what="Vite, which starts anew when it has found out what to prepare")
        page.goto(vite.url)
        expect(page.get_by_role("status")).to_have_text("1 % off", timeout=1_000 * BOUND_S)
        sale(2)
        expect(page.get_by_role("status")).to_have_text("2 % off")

        server.stop(signal.SIGKILL)
        with page.expect_response(lambda response: response.status == 502, timeout=1_000 * BOUND_S):
            pass
        server.start()
        sale(3)
        expect(page.get_by_role("status")).to_have_text("3 % off", timeout=1_000 * BOUND_S)
        assert page.evaluate("seen") == [1, 2, 3]  # resumed: nothing twice, and nothing is missing

        def edited(number: int) -> bool:
            """Vite may miss an edit that comes right after another one."""
            edit(number)
            with contextlib.suppress(TimeoutError):
                page.wait_for_function(LIVE % number, timeout=2_000)
                return True
            return False

        for number in range(1, 11):
            wait_for(lambda: edited(number), what=f"edit {number}")  # noqa: B023 (it is called here)
        wait_for(lambda: streams(server) == 1, what="one stream")
        sale(4)
        expect(page.get_by_role("status")).to_have_text("4 % off")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
