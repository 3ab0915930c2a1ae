"""``broker move``: the log of a real server goes to PostgreSQL and back, also when that is interrupted."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from broker.errors import SettingsError
from broker.operations.content import COPIED
from broker.operations.move import Moved, move_log
from broker.store.postgres.database import LOCK, Database, open_log
from broker.store.tables import Counters
from tests.support.documents import ROOT, blocks
from tests.support.operators import broker, insert, insert_state, stderr_of, tamper
from tests.support.postgres import a_database
from tests.support.samples import insert_all
from tests.support.servers import BOUND_S, ServerProcess, streaming, wait_for


@pytest.fixture
def database(postgres: str) -> str:
    return a_database(postgres)


def rows(folder: Path, table: str, columns: str = "*") -> list[Any]:
    log = sqlite3.connect(f"file:{folder}/broker.db?mode=ro", uri=True)
    try:
        return log.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()
    finally:
        log.close()


def copied(source: object, target: object) -> Moved:
    return move_log(str(source), str(target), lambda done, total: None)


def refused(source: object, target: object) -> str:
    with pytest.raises(SettingsError) as refusal:
        copied(source, target)
    return str(refusal.value)


def typed(source: object, target: object) -> str:
    return stderr_of(broker("move", "--from", source, "--to", target))


def test_a_log_is_the_same_to_the_byte_after_the_way_to_postgresql_and_back(
    copy: Path, postgres: str, tmp_path: Path
) -> None:
    """And on from one database to another, and from one folder to another."""
    with ServerProcess(copy) as server, server.client("bea") as client:
        insert_all(client, "\\\\N\\\\t/ü😀")
        insert_state(client)
        server.stop()
    tamper(copy, "INSERT INTO epochs VALUES ('0000aaaa', 0), ('0000bbbb', 3)")
    first, second = a_database(postgres), a_database(postgres)
    assert "32 records and 2 users, in the same epoch\n" in typed(copy, first)
    copied(first, second)
    assert "the files belong to" in typed(second, tmp_path / "folder")
    assert copied(tmp_path / "folder", tmp_path / "back") == (str(tmp_path / "back"), 32, 2, False)
    for table in (*COPIED, "epochs"):
        assert rows(tmp_path / "back", table) == rows(copy, table), table
    counters = ", ".join(Counters._fields)
    assert rows(tmp_path / "back", "state", counters) == rows(copy, "state", counters)
    assert (tmp_path / "back/token-secret").read_text() == (copy / "token-secret").read_text()
    assert "no faults" in stderr_of(broker("verify", "--data", tmp_path / "back"))
    assert rows(tmp_path / "back", "state", "moved, arrived") == [(None, 0)]
    assert {file.name for file in (tmp_path / "back").iterdir()} == {"broker.db", "broker.lock", "token-secret"}


def test_pages_resume_on_postgresql_with_their_id_and_token_and_what_is_pending_goes_out(
    database: str, tmp_path: Path
) -> None:
    with ServerProcess(tmp_path) as server, server.client("ada") as client, streaming(server) as reader:
        token = client.headers["Authorization"]
        insert(client, "e", "before")
        insert(client, "e", "later", timestamp=time.time() + 3)
        reader.wait("e")
        server.stop()
    copied(tmp_path, database)
    with (
        ServerProcess(tmp_path / "node", database=database) as node,
        httpx.Client(base_url=node.url, headers={"Authorization": token}) as client,
        streaming(node, last_id=reader.last_id) as resumed,
    ):
        resumed.wait("e")
        insert(client, "e", "after")
        resumed.wait("e", 2)
        assert [frame.json() for frame in resumed.records()] == ["later", "after"]
        assert [frame.position for frame in resumed.records()] == [2, 3]
        assert "$reset" not in {frame.event for frame in resumed.frames}
        assert resumed.last_id.partition("-")[0] == reader.last_id.partition("-")[0]
    assert not (tmp_path / "node").exists()


def test_a_folder_that_was_moved_is_not_served_but_can_be_looked_at_backed_up_and_restored(
    copy: Path, database: str, tmp_path: Path
) -> None:
    copied(copy, f"{database} password=sEcReT")
    address = Database(database).address
    assert rows(copy, "state", "moved") == [(address,)]
    assert "sEcReT" not in address
    assert f"has moved to {address}: start with --database {address}; to take it" in stderr_of(
        broker("serve", "--port", 0, "--data", copy), 1
    )
    assert "was there already, complete" in typed(copy, database)
    assert "has moved to" in refused(copy, tmp_path / "other")
    assert "no faults" in stderr_of(broker("verify", "--data", copy))
    assert broker("export", "--data", copy).stdout.count(b"\n") == 14
    assert "Back that one up" in stderr_of(broker("backup", tmp_path / "backup.db", "--data", copy), 1)
    stderr_of(broker("backup", tmp_path / "backup.db", "--data", copy, "--moved"))
    stderr_of(broker("restore", tmp_path / "backup.db", "--data", tmp_path / "restored"))
    with ServerProcess(tmp_path / "restored") as server:
        server.stop()
    assert len(rows(tmp_path / "restored", "epochs")) == 2  # the other one may have gone on


def test_nodes_that_run_while_their_log_is_moved_lose_nothing_and_refuse_from_then_on(
    database: str, tmp_path: Path
) -> None:
    acknowledged: list[int] = []
    refusals: list[httpx.Response] = []
    node = ServerProcess(tmp_path / "node", database=database)
    with node, node.client("ada") as client, streaming(node) as reader:
        stop = threading.Event()

        def inserts() -> None:
            while not stop.is_set():
                answer = client.post("/insert", json={"event": "e", "data": len(acknowledged)})
                if answer.status_code == 201:
                    acknowledged.append(answer.json()["data"])
                else:
                    refusals.append(answer)

        thread = threading.Thread(target=inserts)
        thread.start()
        try:
            wait_for(lambda: len(acknowledged) > 20)
            before = len(acknowledged)
            assert "1 user, in the same epoch" in typed(database, tmp_path / "folder")
            wait_for(lambda: refusals)
        finally:
            stop.set()
            thread.join()
        assert len(acknowledged) >= before
        assert {answer.status_code for answer in refusals} == {503}
        assert "has moved to another store" in refusals[-1].json()["detail"]
        assert client.get("/readyz").status_code == 503
        reader.wait("e", len(acknowledged))
        assert sum("stop this server, and start with" in line for line in node.log) == 1
        assert not any("Traceback" in line for line in node.log)
    assert f"start with --data {tmp_path}/folder; " in stderr_of(
        broker("serve", "--port", "0", "--set", f"database={database}"), 1
    )
    with (
        ServerProcess(tmp_path / "folder") as server,
        server.client("ada") as client,
        streaming(server, last_id=reader.last_id) as resumed,
    ):
        insert(client, "e", "more")
        resumed.wait("e")
        assert [frame.json() for frame in (*reader.records(), *resumed.records())] == [*acknowledged, "more"]
        assert "$reset" not in {frame.event for frame in resumed.frames}


def interrupted(
    source: object, target: object, database: str, table: str, *, commits: bool = False, kills: bool = True
) -> str:
    """A copy is let go on to its first row of ``table``, or for ``state`` until PostgreSQL is at the commit. There it
    gets ``kill -9``; and what PostgreSQL does comes true or not. Returns what it said."""
    trigger = "CONSTRAINT TRIGGER hold AFTER" if table == "state" else "TRIGGER hold BEFORE"
    deferred = "INITIALLY DEFERRED" if table == "state" else ""
    waiting = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            f"""CREATE FUNCTION broker.hold() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END';
                CREATE {trigger} INSERT OR UPDATE ON broker.{table} {deferred}
                FOR EACH ROW EXECUTE FUNCTION broker.hold();
                SELECT pg_advisory_lock(1)"""  # of this session: the copy waits for it
        )
        command = [sys.executable, "-m", "broker", "move", "--from", str(source), "--to", str(target)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        (backend,) = wait_for(lambda: connection.execute(waiting).fetchone(), what="the row, or the commit")
        if kills:
            process.kill()
            process.wait()
        if not commits:
            connection.execute("SELECT pg_terminate_backend(%s)", (backend,))
        connection.execute("SELECT pg_advisory_unlock(1)")
        alive = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
        wait_for(lambda: not connection.execute(alive, (backend,)).fetchone(), what="the end of its connection")
    return process.communicate(timeout=BOUND_S)[1].decode()


@pytest.mark.parametrize(("table", "commits"), [("records", False), ("state", False), ("state", True)])
def test_a_copy_to_postgresql_that_is_killed_is_finished_by_the_next(
    copy: Path, database: str, table: str, commits: bool
) -> None:
    """Once it is marked as moved the source refuses, whether the target has all or nothing."""
    connection, _ = open_log(Database(database))
    connection.close()
    interrupted(copy, database, database, table, commits=commits)
    if table == "records":
        assert rows(copy, "state", "moved, arrived") == [(None, 0)]
    else:
        assert "is on its way to postgresql://" in stderr_of(broker("serve", "--port", 0, "--data", copy), 1)
    assert copied(copy, database) == (Database(database).address, 12, 1, commits)
    assert copied(copy, database).before
    assert "has moved to postgresql://" in stderr_of(broker("serve", "--port", 0, "--data", copy), 1)


@pytest.mark.parametrize("commits", [False, True])
def test_a_copy_from_postgresql_that_is_killed_at_its_mark_is_finished_by_the_next(
    copy: Path, database: str, tmp_path: Path, commits: bool
) -> None:
    copied(copy, database)
    interrupted(database, tmp_path / "back", database, "state", commits=commits)
    assert not (tmp_path / "back/broker.db").exists()
    if commits:
        assert "is on its way to /" in stderr_of(broker("serve", "--port", 0, "--set", f"database={database}"), 1)
    assert not copied(database, tmp_path / "back").before
    assert "no faults" in stderr_of(broker("verify", "--data", tmp_path / "back"))
    assert not list((tmp_path / "back").glob("*.part*"))


@pytest.mark.parametrize("table", ["records", "state"])
def test_when_postgresql_goes_away_the_copy_says_so_and_the_next_one_finishes(
    copy: Path, database: str, table: str
) -> None:
    with ServerProcess(copy) as server, server.client("ada") as client:
        for _ in range(5):  # more than the connection takes: the copy is in the middle of it
            insert(client, "large", "x" * 900_000)
        server.stop()
    connection, _ = open_log(Database(database))
    connection.close()
    complaint = interrupted(copy, database, database, table, kills=False)
    assert complaint.startswith("Error: cannot use PostgreSQL broker_")
    assert "Traceback" not in complaint
    assert ("run the same `broker move` command again" in complaint) == (table == "state")
    assert copied(copy, database).records == 17


def test_a_commit_that_postgresql_refuses_leaves_the_folder_as_it_was(copy: Path, database: str) -> None:
    connection, _ = open_log(Database(database))
    connection.execute(
        """CREATE FUNCTION broker.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no space left''; END';
           CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON broker.state INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION broker.refuse()"""
    )
    assert "no space left" in refused(copy, database)
    assert rows(copy, "state", "moved, arrived") == [(None, 0)]
    connection.execute("DROP FUNCTION broker.refuse CASCADE")
    connection.close()
    assert not copied(copy, database).before


def test_a_folder_that_has_no_room_leaves_postgresql_as_it_was(copy: Path, database: str, tmp_path: Path) -> None:
    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    with ServerProcess(copy) as server, server.client("ada") as client:
        insert(client, "large", "x" * 500_000)
        server.stop()
    copied(copy, database)
    arguments = ("move", "--from", database, "--to", tmp_path / "back")
    assert "cannot write" in stderr_of(broker(*arguments, before=bound), 1)
    assert {file.name for file in (tmp_path / "back").iterdir()} == {"broker.lock"}
    assert not copied(database, tmp_path / "back").before


def test_a_log_that_was_there_and_is_lost_goes_on_in_a_new_epoch_only(
    copy: Path, database: str, tmp_path: Path
) -> None:
    """It may have gone on there: positions would be given once more, for other records."""
    copied(copy, database)
    copied(database, tmp_path / "lost")
    (tmp_path / "lost/broker.db").unlink()
    assert "is not there any more: put a backup" in refused(database, tmp_path / "lost")
    (statements,) = (block.text for block in blocks((ROOT / "docs/operations.md").read_text(), "sql"))
    with psycopg.connect(database) as connection:
        connection.execute(statements.encode())
    copied(database, tmp_path / "found")
    assert sorted(ended for _, ended in rows(tmp_path / "found", "epochs") if ended) == [8]
    assert len(rows(tmp_path / "found", "epochs")) == 2


def test_only_the_same_log_counts_as_one_that_has_arrived(copy: Path, log: Path) -> None:
    tamper(copy, f"UPDATE state SET moved = '{log}'")
    tamper(copy, "UPDATE epochs SET epoch = '0000cccc'")
    assert "is not empty" in refused(copy, log)


def test_what_cannot_be_moved_is_refused_with_what_to_do(copy: Path, log: Path, database: str, tmp_path: Path) -> None:
    assert "broker.db is not there" in refused(tmp_path / "none", database)
    assert not (tmp_path / "none").exists()
    assert "has no log of Broker" in refused(database, tmp_path / "none")
    assert "the same" in refused(copy, copy / "." / ".." / copy.name)
    assert "give postgresql://" in refused(copy, "mysql://ada@127.0.0.1/live")
    assert "cannot use PostgreSQL live at 127.0.0.1: " in refused(copy, "postgresql://ada@127.0.0.1:1/live")
    with ServerProcess(copy):
        assert "another Broker works on" in refused(copy, database)
    with ServerProcess(tmp_path / "empty"):
        pass
    assert "is empty: nothing is to be moved" in refused(tmp_path / "empty", database)
    assert "is not empty; give another" in refused(copy, log)
    (tmp_path / "stale").mkdir()
    (tmp_path / "stale/broker.db-wal").write_bytes(b"what another log's end may be")
    assert "broker.db-wal is there, of another log" in refused(copy, tmp_path / "stale")
    copied(copy, database)
    assert "is not empty; give another" in refused(log, database)
    tamper(copy, "PRAGMA user_version = 99")
    assert "newer Broker" in refused(copy, tmp_path / "new")
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE broker.schema_version SET version = 99")
    assert "newer Broker" in refused(database, tmp_path / "new")


def test_a_copy_waits_only_so_long_for_the_lock(copy: Path, database: str) -> None:
    def hold() -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):
            other.execute("SELECT pg_sleep(60)")  # at work: one that only sat there would be taken for a stopped node

    with psycopg.connect(database) as other, ThreadPoolExecutor() as threads:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        held = threads.submit(hold)
        try:
            assert "another program holds its lock" in refused(copy, database)
        finally:
            other.cancel_safe()
        held.result()
    assert rows(copy, "state", "moved") == [(None,)]


@pytest.mark.parametrize(
    "url",
    [
        "ada:sEcReT@127.0.0.1:1/live",
        "ada:sEc/ReT@127.0.0.1/live",
        "ada:12/sEcReT@127.0.0.1/live",
        "ada:/sEcReT@127.0.0.1/live",
        "ada:x@sEcReT@127.0.0.1/live",
        "ada:sEcReT@[",
    ],
)
def test_a_password_is_never_printed(copy: Path, url: str) -> None:
    complaint = refused(copy, f"postgresql://{url}")
    assert "sEc" not in complaint
    assert "ReT" not in complaint


def test_without_the_driver_it_says_how_to_get_it(copy: Path, database: str, tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ImportError")
    done = subprocess.run(
        [sys.executable, "-m", "broker", "move", "--from", str(copy), "--to", database],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True, check=False,
    )  # fmt: skip
    assert "-m pip install 'psycopg[binary]>=" in stderr_of(done, 1)
