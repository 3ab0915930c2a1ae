"""``--workers``: several processes behind one port, on one log."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest

from broker.server.workers import Orders, pack_orders, unpack_orders
from broker.settings import read_settings
from broker.store.postgres.database import LOCK
from tests.support.operators import broker, stderr_of
from tests.support.postgres import a_database
from tests.support.servers import ServerProcess, streaming, wait_for
from tests.support.workers import WORKERS, workers


@pytest.fixture
def database(postgres: str) -> str:
    return a_database(postgres)


@pytest.fixture
def server(tmp_path: Path, database: str) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, database=database, workers=WORKERS) as running:
        yield running


def answering(server: ServerProcess) -> set[str]:
    """The workers that answered some connections."""
    found = set[str]()
    for _ in range(40):
        text = httpx.get(server.url + "/metrics").text
        found |= set(re.findall(r'worker="(\d)"', text))
    return found


def test_every_worker_has_its_part_of_the_connections_and_all_see_every_record(server: ServerProcess) -> None:
    assert answering(server) == {"1", "2"}
    with server.client("ada") as client, ExitStack() as stack:
        readers = [stack.enter_context(streaming(server)) for _ in range(20)]
        for n in range(50):
            assert client.post("/insert", json={"event": "e", "data": n}).status_code == 201
        seen = [[frame.id for frame in reader.wait("e", 50) if frame.event == "e"] for reader in readers]
    assert all(each == seen[0] for each in seen)


def test_every_worker_serves_the_front_end_and_a_wrong_folder_is_refused(tmp_path: Path, database: str) -> None:
    page = tmp_path / "dist" / "index.html"
    page.parent.mkdir()
    options = ("--database", database, "--workers", str(WORKERS), "--static", str(page.parent))
    assert f"Error: static (argument): {page.parent} has no index.html" in stderr_of(
        broker("serve", "--port", "0", *options), 1
    )
    page.write_text("the page")
    with ServerProcess(tmp_path, *options) as server:
        server.wait_for_log(f"shows the front-end in {page.parent}")
        for _ in range(40):  # each by a connection of its own
            assert httpx.get(f"{server.url}/login", headers={"Sec-Fetch-Mode": "navigate"}).text == "the page"


def test_a_worker_that_dies_is_started_again_and_its_readers_miss_nothing(server: ServerProcess) -> None:
    with server.client("ada") as client, ExitStack() as stack:
        readers = [stack.enter_context(streaming(server)) for _ in range(20)]
        for reader in readers:
            reader.wait("$ready")
        before = workers(server)
        assert len(before) == WORKERS
        os.kill(before[0], signal.SIGKILL)
        lost = wait_for(lambda: [reader for reader in readers if reader.ended])
        wait_for(lambda: insert(client, 1))
        wait_for(lambda: len(set(workers(server)) - set(before)) == 1, what="another worker")
        again = stack.enter_context(streaming(server, last_id=lost[0].last_id))
        assert [frame.json() for frame in again.wait("$ready") if frame.event == "e"] in ([1], [1, 1])
    wait_for(lambda: answering(server) == {"1", "2"})
    assert any("it will be started again" in line for line in server.log)


def insert(client: httpx.Client, data: object) -> bool:
    try:
        return client.post("/insert", json={"event": "e", "data": data}).status_code == 201
    except httpx.TransportError:  # it was at the worker that died
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_stops_all(tmp_path: Path, database: str, number: int) -> None:
    with ServerProcess(tmp_path, database=database, workers=WORKERS) as server, streaming(server) as reader:
        reader.wait("$ready")
        pids = workers(server)
        assert server.stop(number) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        wait_for(lambda: reader.ended == "between chunks")
        assert not any("Traceback" in line for line in server.log)


def test_a_signal_while_they_start_stops_them(tmp_path: Path, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as other, ThreadPoolExecutor() as threads:
        other.execute("SELECT pg_advisory_lock(%s)", (LOCK,))  # nobody comes further than this
        held = threads.submit(other.execute, "SELECT pg_sleep(60)")
        command = [sys.executable, "-m", "broker", "serve", "--port", "0", "--workers", "3", "--database", database]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as server:
            wait_for(lambda: Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text())
            server.terminate()
            assert server.wait(4.5) == 0
        other.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            held.result()


def test_without_their_supervisor_the_workers_stop(tmp_path: Path, database: str) -> None:
    with ServerProcess(tmp_path, database=database, workers=WORKERS) as server:
        pids = workers(server)
        server.stop(signal.SIGKILL)
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        assert any("the supervisor is gone" in line for line in server.log)


def test_a_worker_that_does_not_stop_is_killed(tmp_path: Path, database: str) -> None:
    with ServerProcess(tmp_path, database=database, workers=WORKERS, shutdown_grace_s=0.1) as server:
        pids = workers(server)
        os.kill(pids[0], signal.SIGSTOP)
        assert server.stop() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_worker_has_the_settings_of_its_supervisor_and_knows_where_they_came_from() -> None:
    strange = Path(os.fsdecode(b"\xff"))  # no UTF-8
    given = {"data": strange, "tls_key": strange, "tls_certificate": "x", "origin": "http://a", "signup": "no"}
    settings = read_settings(given, {"BROKER_PORT": "5", "BROKER_HEARTBEAT_S": "2"})
    line = pack_orders(Orders(1, True, settings))
    assert line.endswith(b"}\n")
    orders = unpack_orders(line)
    assert orders.settings == settings
    assert orders.settings.named("port") == "port (BROKER_PORT)"
    assert orders.settings.named("host") == "host (default)"
    assert "sources" not in repr(settings)


def test_a_port_that_is_taken_is_refused(server: ServerProcess, tmp_path: Path, database: str) -> None:
    other = broker("serve", "--database", database, "--workers", 2, "--port", server.port)
    assert "cannot listen on 127.0.0.1 port" in stderr_of(other, 1)


def test_on_sqlite_more_than_one_is_refused_with_the_way_to_postgresql(tmp_path: Path) -> None:
    refused = broker("serve", "--data", tmp_path / "here", "--workers", 2)
    assert f"broker move --from {tmp_path / 'here'} --to postgresql://" in stderr_of(refused, 1)
    assert not (tmp_path / "here").exists()


def test_what_keeps_workers_from_starting_is_told_once(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"postgresql://ada:secret-word@127.0.0.1:{nobody.getsockname()[1]}/broker"
        refused = stderr_of(broker("serve", "--port", 0, "--workers", 2, "--database", url), 1)
    assert refused.count("cannot use PostgreSQL broker at 127.0.0.1") == 1
    assert "secret-word" not in refused


def test_while_postgres_is_away_workers_are_started_again_until_it_is_back(postgres: str, tmp_path: Path) -> None:
    database = a_database(postgres)
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]

    def allow_connections(allowed: bool) -> None:
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {allowed}')

    with ServerProcess(tmp_path, database=database, workers=WORKERS) as server:
        allow_connections(False)
        os.kill(workers(server)[0], signal.SIGKILL)
        wait_for(lambda: any("does not start" in line for line in server.log))
        allow_connections(True)
        wait_for(lambda: answering(server) == {"1", "2"})
