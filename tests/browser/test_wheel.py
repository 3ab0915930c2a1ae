"""The wheel, installed as its users install it, serves client and console to a browser that reaches nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ProxySettings, expect

from broker.settings import Settings
from broker.web.client import Client
from broker.web.console import Console as Served
from tests.support.console import Console
from tests.support.servers import BOUND_S, ServerProcess
from tests.support.sources import copy_sources

PAGE = """<!doctype html><meta charset="utf-8"><title>sale</title><p id="sale"></p>
<script type="module">
  import { createBroker } from "/broker.js";
  const broker = (window.broker = createBroker());
  broker.event("sale").subscribe((data) => (document.all.sale.textContent = data ? `${data.percent} % off` : ""));
</script>"""
# A proxy at which nothing listens gets all requests that leave the loopback interface.
NO_NETWORK: ProxySettings = {"server": "http://127.0.0.1:9", "bypass": "127.0.0.1"}
ELSEWHERE = "fetch('http://192.0.2.1/', {mode: 'no-cors'}).then(() => 'reached', () => 'closed')"


def run(*command: object, cwd: Path) -> None:
    done = subprocess.run([str(each) for each in command], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(name="python", scope="module")
def make_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of an environment in which nothing but a wheel is installed. The wheel is built from the source distribution, as
    those do who package Broker for a system. The dependencies are those of the tests, so nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheel")
    repository = copy_sources(folder / "repository")
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", folder, cwd=repository)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    sources = folder / archive.name.removesuffix(".tar.gz")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=sources)
    (wheel,) = folder.glob("*.whl")

    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    install = ("install", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, *install, wheel, cwd=folder)
    (packages,) = folder.glob("venv/lib/python*/site-packages")
    # The editable installation of the checkout is not among these: files with paths are read in this one folder alone.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = [str(python), "-c", "import broker; print(broker.__file__)"]
    assert subprocess.check_output(where, text=True, cwd=folder).startswith(str(packages))
    return str(python)


def test_the_installed_wheel_serves_a_page_that_needs_nothing_else(
    python: str, browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text(PAGE)
    server = ServerProcess(tmp_path / "data", "--static", str(tmp_path / "site"))
    server.python = python
    with server:
        context = browser.new_context(proxy=NO_NETWORK)
        page = context.new_page()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(server.url)
        page.evaluate("broker.signUp('ada', 'correct horse')")
        page.evaluate("broker.event('sale').set({ percent: 7 })")
        page.wait_for_function("broker.event('sale').state.get().status === 'live'", timeout=1_000 * BOUND_S)
        page.wait_for_function("broker.event('sale').state.get().pending === 0", timeout=1_000 * BOUND_S)
        assert page.text_content("#sale") == "7 % off"
        assert [url for url in requests if not url.startswith(f"{server.url}/")] == []
        # All modules are those of the source.
        assert f"{server.url}/broker/{Client().version}/broker.js" in requests
        assert page.evaluate(ELSEWHERE) == "closed"
        context.close()


def test_the_installed_wheel_shows_the_console_without_a_network(python: str, browser: Browser, tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    server.python = python
    with server:
        console = Console(browser, server)
        page = console.open(username=None, proxy=NO_NETWORK)
        responses: list[tuple[int, str]] = []
        page.on("response", lambda response: responses.append((response.status, response.url)))
        page.reload()
        page.get_by_label("User name").fill("ada")
        page.get_by_label("Password").fill("correct horse")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Insert").click()
        expect(page.get_by_role("listitem")).to_contain_text("greeting")
        for screen in ("events", "event", "schedule", "inspector"):
            page.goto(f"{server.url}/#/{screen}")
            expect(page.locator(f"main[data-screen={screen}]")).to_be_visible()
        assert {status for status, _ in responses} <= {200, 201}
        assert [url for _, url in responses if not url.startswith((f"{server.url}/", "data:"))] == []
        # All modules are those of the source.
        versions = {re.findall(r"/\$console/(\w+)/", url)[0] for _, url in responses if "/$console/" in url}
        assert versions == {Served(Settings(), Client().version).version}
        console.close()
