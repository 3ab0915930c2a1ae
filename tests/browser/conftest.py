"""What the tests of the console share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.console import Console
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
