"""The ways to a PostgreSQL: over the network with a password, through a pooling proxy, over TLS; and its full disk."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trustme
from psycopg import conninfo

from tests.support.disk import a_small_disk, check_full, may_mount, room_taken
from tests.support.operators import broker, stderr_of
from tests.support.postgres import a_server
from tests.support.servers import ServerProcess, streaming, wait_for

PASSWORD = "p@ss/word"
HBA = "local all all trust\nhost all all all scram-sha-256\n"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def networked() -> Iterator[int]:
    """The port of a server that wants a password; the user ``app`` has a database, and no other rights."""
    with a_server() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
            connection.execute("CREATE DATABASE app OWNER app")
        (server.folder / "pg_hba.conf").write_text(HBA)
        port = free_port()
        server.control("restart", "-o", f"-h 127.0.0.1 -p {port} -k {conninfo.conninfo_to_dict(server.url)['host']}")
        yield port


def url(port: int, **more: object) -> str:
    given: dict[str, Any] = {"host": "127.0.0.1", "port": port, "user": "app", "password": PASSWORD, "dbname": "app"}
    return conninfo.make_conninfo(**{**given, **more})


def check_serves(server: ServerProcess, other: ServerProcess) -> None:
    """Inserted on one node, seen on the other."""
    with server.client("ada") as client, streaming(other) as reader:
        reader.wait("$ready")
        event = f"e{server.port}"
        for n in range(20):  # often enough that statements would be prepared
            assert client.post("/insert", json={"event": event, "data": n}).status_code == 201
        reader.wait(event, 20)
        assert client.get(f"/collections/{event}").json()[-1]["data"] == 19
    assert not any("Traceback" in line or PASSWORD in line for line in server.log)


def test_over_the_network_with_a_password_as_a_user_without_other_rights(networked: int, tmp_path: Path) -> None:
    database = f"postgresql://app:p%40ss%2Fword@127.0.0.1:{networked}/app"
    with ServerProcess(tmp_path, database=database) as server:
        check_serves(server, server)
        assert any("data in PostgreSQL app at 127.0.0.1" in line for line in server.log)
        assert not any("timeline" in line or "NOTIFY" in line for line in server.log)


def test_a_wrong_password_is_told_without_it(networked: int) -> None:
    said = stderr_of(broker("serve", "--port", 0, "--database", url(networked, password="secret-word")), 1)
    assert 'password authentication failed for user "app"' in said
    assert "secret-word" not in said


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can reach."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def pooling_proxy(folder: Path, port: int, mode: str) -> Iterator[str]:
    """A pgbouncer that speaks TLS only; the address through it."""
    if shutil.which("pgbouncer") is None:
        assert "CI" not in os.environ, "pgbouncer is not installed"
        pytest.skip("pgbouncer is not installed")
    authority, listens = trustme.CA(), free_port()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "pair.pem"))
    (folder / "users").write_text(f'"app" "{PASSWORD}"\n')
    (folder / "ini").write_text(
        f"""[databases]
* = host=127.0.0.1 port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listens}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = {mode}
client_tls_sslmode = require
client_tls_cert_file = {folder}/pair.pem
client_tls_key_file = {folder}/pair.pem
"""
    )
    user = ("-u", "nobody") if os.geteuid() == 0 else ()  # as root it does not run
    process = subprocess.Popen(["pgbouncer", "-q", *user, folder / "ini"])
    try:
        through = url(listens, sslmode="verify-full", sslrootcert=folder / "authority.pem")
        wait_for(lambda: answers(through))
        yield through
    finally:
        process.terminate()
        process.wait(10)


def answers(database: str) -> bool:
    try:
        psycopg.connect(database).close()
    except psycopg.OperationalError:
        return False
    return True


def test_over_tls_through_a_proxy_that_pools_sessions(networked: int, tmp_path: Path, folder: Path) -> None:
    with (
        pooling_proxy(folder, networked, "session") as database,
        ServerProcess(tmp_path, database=database) as server,
    ):
        check_serves(server, server)
        assert not any("NOTIFY" in line for line in server.log)


def test_through_a_proxy_that_pools_transactions_it_warns_and_polls(
    networked: int, tmp_path: Path, folder: Path
) -> None:
    with (
        pooling_proxy(folder, networked, "transaction") as database,
        ServerProcess(tmp_path, database=database, relay_poll_s=0.2) as server,
        ServerProcess(tmp_path, database=database, relay_poll_s=0.2) as other,
    ):
        check_serves(server, other)
        assert any("NOTIFY does not arrive" in line for line in server.log)


@may_mount
def test_its_full_disk_refuses_with_507_and_goes_on_when_there_is_room(tmp_path: Path, folder: Path) -> None:
    with a_server() as postgres, a_small_disk(folder / "disk", megabytes=24) as disk:
        tables = disk / "tables"
        tables.mkdir()
        if postgres.user is not None:
            shutil.chown(disk, postgres.user)
            shutil.chown(tables, postgres.user)
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{tables}'")
            connection.execute("CREATE DATABASE small TABLESPACE small")
        database = conninfo.make_conninfo(postgres.url, dbname="small")
        check_full(ServerProcess(tmp_path / "data", database=database), lambda: room_taken(disk, 400_000))
        postgres.stop()
