"""What others do to the PostgreSQL that a node is on: its administrator's settings, other users, one that hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from broker.store.postgres.database import LOCK
from tests.support.operators import insert
from tests.support.postgres import HELD_UP_S, PostgresServer, a_database, a_server
from tests.support.servers import ServerProcess, streaming, wait_for

NOISE = [
    "",
    "x",
    "x 1",
    "x 1 1" + "0" * 400,
    "x " + "9" * 5_000 + " 1",
    "x \u0661 \u0661",
    "x 999999999999999999 ",
    "x -1 -1",
]
SETTINGS = {
    "statement_timeout": "700ms",
    "default_transaction_isolation": "serializable",
    "client_encoding": "LATIN1",
    "synchronous_commit": "off",
    "search_path": "pg_temp",
    "timezone": "Asia/Tokyo",
    "datestyle": "SQL, DMY",
    "bytea_output": "escape",
}


def test_what_others_say_on_the_channel_does_no_harm(postgres: str, tmp_path: Path) -> None:
    database = a_database(postgres)
    with (
        ServerProcess(tmp_path / "a", database=database, relay_poll_s=1_000, scheduler_sleep_max_s=1_000) as node,
        ServerProcess(tmp_path / "b", database=database, relay_poll_s=1_000, scheduler_sleep_max_s=1_000) as other,
        node.client("ada") as client,
        streaming(other) as reader,
    ):
        reader.wait("$ready")
        with psycopg.connect(database, autocommit=True) as stranger:
            for noise in NOISE:
                stranger.execute("SELECT pg_notify('broker', %s)", (noise,))
        insert(client, "e", "now")
        insert(client, "e", "later", timestamp=time.time() + 0.3)
        reader.wait("e", 2)
        assert all(is_ready(each) for each in (node, other))


def is_ready(node: ServerProcess) -> bool:
    with node.client() as client:
        return client.get("/readyz").status_code == 200


@pytest.fixture
def odd(postgres: str) -> str:
    """A database for which an administrator has set all kinds of things."""
    database = a_database(postgres)
    with psycopg.connect(database, autocommit=True) as connection:
        for name, value in SETTINGS.items():
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {name} = '{value}'")
    return database


def test_settings_of_the_database_do_no_harm(odd: str, tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path / "a", database=odd) as node,
        ServerProcess(tmp_path / "b", database=odd) as other,
        node.client("ada") as client,
        streaming(other) as reader,
    ):
        insert(client, "日本", "größer 😀")
        (frame,) = [frame for frame in reader.wait("日本") if frame.event == "日本"]
        assert frame.json() == "größer 😀"
        assert client.get("/collections/日本").json()[0]["id"] == frame.id
        with closing(psycopg.connect(odd)) as stopped:
            stopped.execute("SET statement_timeout = 0")
            stopped.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            begun = time.monotonic()
            insert(client, "日本", 2)
            assert time.monotonic() - begun < HELD_UP_S


def test_a_log_that_is_gone_is_not_made_anew_by_a_node_that_runs(postgres: str, tmp_path: Path) -> None:
    """It is being restored, perhaps."""
    database = a_database(postgres)
    with ServerProcess(tmp_path, database=database) as node, node.client("ada") as client:
        insert(client, "e", 1)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("DROP SCHEMA broker CASCADE")
            for _ in range(3):
                assert client.post("/insert", json={"event": "e", "data": 2}).status_code == 503
            assert connection.execute("SELECT to_regnamespace('broker')").fetchone() == (None,)


@contextmanager
def hanging(postgres: PostgresServer) -> Iterator[None]:
    """All of its processes are stopped; the kernel goes on to acknowledge what is sent to them."""
    leader = int((postgres.folder / "postmaster.pid").read_text().split()[0])
    pids = [leader, *map(int, Path(f"/proc/{leader}/task/{leader}/children").read_text().split())]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_while_postgres_hangs_inserts_are_refused_and_then_work_again(tmp_path: Path) -> None:
    with (
        a_server() as postgres,
        ServerProcess(tmp_path, database=a_database(postgres.url), database_answer_s=0.5) as node,
        node.client("ada") as client,
        streaming(node) as reader,
    ):
        insert(client, "e", 1)
        with hanging(postgres):
            assert client.post("/insert", json={"event": "e", "data": 2}).status_code == 503
            assert client.get("/readyz").status_code == 503
        wait_for(lambda: client.post("/insert", json={"event": "e", "data": 3}).status_code == 201)
        wait_for(lambda: reader.records()[-1].json() == 3)
        assert [frame.position for frame in reader.records()] == list(range(1, len(reader.records()) + 1))
        assert not any("Traceback" in line for line in node.log)
