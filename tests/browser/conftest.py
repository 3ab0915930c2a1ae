"""What the tests of the console share, and those of forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.console import Console
from tests.support.forms import HTML, Windows
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


@pytest.fixture(name="forms")
def open_forms(browser: Browser, tmp_path: Path) -> Iterator[Windows]:
    """Windows with a form, of a server that has no rules."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text(HTML)
    with ServerProcess(tmp_path / "data", "--static", str(tmp_path / "site"), retry_ms=200) as server:
        windows = Windows(browser, server)
        yield windows
        windows.close()
