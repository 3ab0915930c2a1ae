"""The fixtures that tests of several folders use."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import sysconfig
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

pytest.register_assert_rewrite("tests.support")

from broker.store.base import Store
from tests.support.operators import LATER, insert
from tests.support.pages import PageHandler
from tests.support.postgres import the_server
from tests.support.servers import ServerProcess
from tests.support.slowest import SLOWEST
from tests.support.store import Workbench

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TESTS = Path(__file__).parent


def pytest_configure() -> None:
    # A script starts what it puts into the background with SIGINT ignored. The processes of the tests would inherit
    # that, and not end by Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Node.js comes with the packages of the tests (see the Makefile); the one of the machine is the fallback.
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several processes none is left alone at the end with a file that takes long."""
    if hasattr(config, "workerinput"):  # this is one of several
        place = {TESTS / file: number for number, file in enumerate(SLOWEST)}
        items.sort(key=lambda item: place.get(item.path, len(place)))


# Coverage costs a process a third of its time. The processes of these tests run what other tests cover, too.
_WITHOUT_COVERAGE = {"browser", "clients", "docs", "faults", "js", "nodes", "proxies"}
# The environment variable in which a process that is started finds the configuration of coverage.
_COVERAGE = "COVERAGE_PROCESS_CONFIG"
_configuration = os.environ.get(_COVERAGE)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if item.path.relative_to(TESTS).parts[0] in _WITHOUT_COVERAGE:
            patch.delenv(_COVERAGE, raising=False)
        return (yield)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server process that all tests share: use event and user names of your own."""
    running = ServerProcess(tmp_path_factory.mktemp("server"), "--origin", "http://localhost:3000")
    with pytest.MonkeyPatch.context() as patch:
        if _configuration is not None:  # whichever test is the first to need it
            patch.setenv(_COVERAGE, _configuration)
        running.start()
    with running:
        yield running


@pytest.fixture(scope="session")
def ada(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client with a token."""
    with server.client("ada") as client:
        yield client


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server to make databases on."""
    with the_server() as url:
        yield url


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Where a test that is a coroutine runs: on asyncio, as Broker does."""
    return "asyncio"


@pytest.fixture
async def store(workbench: Workbench) -> AsyncIterator[Store]:
    """Open on the workbench of the test's file; a test that wants other settings, or opens it twice, does so itself."""
    async with workbench.opened() as opened:
        yield opened


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Where the page comes from: another port, so another origin than the server's."""
    pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), PageHandler)
    thread = threading.Thread(target=pages.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{pages.server_port}"
    pages.shutdown()
    thread.join()
    pages.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # loaded by the tests that need it alone

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None and not os.environ.get("CI"):
        pytest.skip("NO BROWSER WAS TESTED: install Chromium (Debian: apt install chromium)")
    assert program is not None, "CI is set, and there is no Chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture(name="log", scope="module")
def make_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log that has records in every state; its server has stopped."""
    folder = tmp_path_factory.mktemp("log")
    with ServerProcess(folder) as server, server.client("ada") as client:
        for n in range(5):
            insert(client, "a", {"n": n})
        body = b'{"event":"a","data":{"number":1.50,"text":"\\u00fc"}}'
        client.post("/insert", content=body, headers={"Content-Type": "application/json"})
        insert(client, "b", "waits", timestamp=LATER)
        insert(client, "b", "goes out")
        insert(client, "only waits", "x" * 100, timestamp=LATER)
        insert(client, "c", "log only", published=True)
        client.post("/cancel/" + insert(client, "d", "cancelled", timestamp=LATER)["uuid"])
        half = b'{"event":"\xc3\xbc/e","data":"half a pair \\ud83d"}'
        assert client.post("/insert", content=half, headers={"Content-Type": "application/json"}).status_code == 201
        server.stop()
    return folder


@pytest.fixture(name="copy")
def make_copy(log: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(log, tmp_path / "copy"))
