"""The package that the server offers: npm installs it, Vite builds a page with it, and Broker serves the page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from broker import __version__
from tests.support.servers import ServerProcess

VITE = Path(__file__).parent / "vite"
PAGE = """<!doctype html><meta charset="utf-8"><title>sale</title><p role="status"></p>
<script type="module" src="./page.js"></script>"""
SCRIPT = """import { createBroker } from "zerocode-broker";
createBroker().event("sale").subscribe((data) => {
  document.querySelector("p").textContent = data ? `${data.percent} % off` : "no sale";
});
"""


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
