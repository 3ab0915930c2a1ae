"""The fixture that the contract's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.postgres import a_database
from tests.support.store import Workbench


@pytest.fixture(params=["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)])
def workbench(request: pytest.FixtureRequest, tmp_path: Path) -> Workbench:
    """On both databases; a file that needs another one has a fixture of this name itself."""
    if request.param == "SQLite":
        return Workbench(tmp_path)
    return Workbench(tmp_path, a_database(request.getfixturevalue("postgres")))
