"""What the tests of the console share, and those of forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.console import Console
from tests.support.forms import HTML
from tests.support.servers import ServerProcess


@pytest.fixture(name="console")
def open_console(browser: Browser, tmp_path: Path) -> Iterator[Console]:
    """The console of a server that has no rules. A page may have no fault."""
    with ServerProcess(tmp_path / "data", retry_ms=200) as server:
        console = Console(browser, server)
        try:
            yield console
        finally:
            console.close()


@pytest.fixture(scope="module")
def form_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server without rules, whose page is a form."""
    site = tmp_path_factory.mktemp("site")
    (site / "index.html").write_text(HTML)
    with ServerProcess(tmp_path_factory.mktemp("data"), "--static", str(site), retry_ms=200) as server:
        yield server
