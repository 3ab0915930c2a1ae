from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.postgres import the_server
from tests.support.servers import ServerProcess


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server process that all tests share: use event and user names of your own."""
    with ServerProcess(tmp_path_factory.mktemp("server"), "--origin", "http://localhost:3000") as running:
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
