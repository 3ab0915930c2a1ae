"""What is PostgreSQL's alone: many stores on one log, and what happens when the server goes away."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import conninfo

from broker.operations.move import move_log
from broker.operations.verify import verify
from broker.store.base import Store
from broker.store.postgres.session import StoreClock
from tests.support.postgres import a_database, a_server
from tests.support.servers import ServerProcess, StreamReader, streaming, wait_for
from tests.support.store import Workbench, positions

pytestmark = pytest.mark.anyio


@pytest.fixture
def workbench(postgres: str, tmp_path: Path) -> Workbench:
    return Workbench(tmp_path, a_database(postgres))


async def test_two_stores_on_one_log_give_no_position_twice(store: Store, workbench: Workbench) -> None:
    async with workbench.opened() as other:
        await asyncio.gather(*[each.append([workbench.new()]) for each in (store, other) for _ in range(100)])
        assert await positions(store) == await positions(other) == list(range(1, 201))


async def test_two_stores_end_each_version_once(store: Store, workbench: Workbench, tmp_path: Path) -> None:
    """Both wake up at the same time, for versions that end and for versions that supersede some of them."""
    ends: dict[str, Any] = {"until": f"{workbench.now_us + 10}e-6", "until_us": workbench.now_us + 10}
    async with workbench.opened() as other:
        await store.append([workbench.new(event=f"e{n}", **ends) for n in range(100)])
        await store.append([workbench.new(event=f"e{n}", data="2", later_us=10) for n in range(50)])
        workbench.now_us += 10
        await asyncio.gather(*[each.publish_due() for each in (store, other) for _ in range(10)])
        records = (await store.read(100, 1_000, 1_000, 10**6))[1]
        assert [(record.event, record.data, record.ends is None) for record in records[:50]] == [
            (f"e{n}", b"2", True) for n in range(50)
        ]
        assert sorted((record.event, record.data) for record in records[50:]) == [
            (f"e{n}", b"null") for n in range(50, 100)
        ]
        assert len({record.ends for record in records[50:]}) == 50
    move_log(workbench.database, str(tmp_path / "moved"), lambda done, total: None)
    assert not list(verify(tmp_path / "moved" / "broker.db", lambda _: None))


async def test_nothing_reads_the_whole_log(workbench: Workbench) -> None:
    """PostgreSQL's planner would, with statistics that lag behind a log that grows."""

    def rows_read() -> dict[str, int]:
        with psycopg.connect(workbench.database) as connection:
            return dict(connection.execute("SELECT relname, seq_tup_read FROM pg_stat_user_tables").fetchall())

    async with workbench.opened() as store:
        for n in range(20):
            await store.append([workbench.new(event=f"e{n}", later_us=0 if n % 2 else 10**9) for _ in range(1_000)])
    before = rows_read()
    workbench.now_us += 1
    async with workbench.opened() as store:
        workbench.now_us += 10**9
        for position in range(9_990, 10_000):
            assert len((await store.read(position, position + 5, 100, 10**6))[1]) in range(1, 6)
            page = await store.log_end("e3", None, 10, False)
            assert len(await store.log("e3", None, page.last or 0, 10**6, False)) == 10
            new = workbench.new(event="e3", uuid_given=True)
            await store.append([new])
            assert not (await store.append([new]))[0][1]
        await store.snapshot()
    after = rows_read()
    assert after["records"] == before["records"]
    assert after["publications"] == before["publications"]


def test_every_insert_wakes_the_other_node_however_they_fall(postgres: str, tmp_path: Path) -> None:
    """One of them comes just when the other node has read the one before, and is about to wait."""
    database = a_database(postgres)
    with (
        ServerProcess(tmp_path / "a", database=database, relay_poll_s=1_000) as node,
        ServerProcess(tmp_path / "b", database=database, relay_poll_s=1_000) as other,
        node.client("ada") as client,
        streaming(other) as reader,
    ):
        reader.wait("$ready")
        for n in range(300):
            for _ in range(3):
                assert client.post("/insert", json={"event": "e", "data": n}).status_code == 201
            reader.wait("e", 3 * (n + 1))


def test_while_postgres_is_away_streams_stay_open_and_then_miss_nothing(tmp_path: Path) -> None:
    with (
        a_server() as postgres,
        ServerProcess(tmp_path, database=a_database(postgres.url)) as node,
        node.client("ada") as client,
        streaming(node) as reader,
    ):
        for n in range(3):
            assert client.post("/insert", json={"event": "e", "data": n}).status_code == 201
        reader.wait("e", 3)
        postgres.stop()
        answer = client.post("/insert", json={"event": "e", "data": 3})
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/readyz").status_code == 503
        with streaming(node, last_id=reader.last_id) as newcomer:
            postgres.start()
            wait_for(lambda: client.post("/insert", json={"event": "e", "data": 4}).status_code == 201)
            newcomer.wait("e", 1)
        wait_for(lambda: reader.records() and reader.records()[-1].json() == 4)
        assert [frame.position for frame in reader.records()] == list(range(1, len(reader.records()) + 1))
        assert client.get("/readyz").status_code == 200
        assert not reader.ended
        assert any("it works again" in line for line in node.log)
        assert not any("Traceback" in line for line in node.log)


def test_after_a_restart_that_nobody_noticed_the_first_insert_goes_through(tmp_path: Path) -> None:
    with (
        a_server() as postgres,
        ServerProcess(tmp_path, database=a_database(postgres.url)) as node,
        node.client("ada") as client,
    ):
        insert(client, 1)
        postgres.stop("fast")
        postgres.start()
        insert(client, 2)


def test_an_epoch_that_another_node_began_is_taken_over(postgres: str, tmp_path: Path) -> None:
    database = a_database(postgres)
    with ServerProcess(tmp_path / "a", database=database) as node, node.client("ada") as client:
        insert(client, 1)
        ask(database, "UPDATE broker.epochs SET cluster = 'another'")
        with ServerProcess(tmp_path / "b", database=database), streaming(node) as reader:
            accepted = insert_if_possible(client, 2)
            assert accepted is not None
            wait_for(lambda: reader.ended)
        with streaming(node, last_id=reader.last_id) as again:
            assert [frame.id for frame in again.wait("$ready") if frame.event == "e"][-1:] == [accepted["id"]]


def test_a_clock_that_is_set_is_believed_and_an_answer_that_took_long_is_not() -> None:
    clock = StoreClock(None)

    def ahead_s(by_s: float) -> int:
        """Whole seconds that it is ahead of this machine's, after the database said so many."""
        assert clock.received(time.time_ns() // 1_000 + round(by_s * 1e6)) > 0
        return round(clock.now_us() / 1e6 - time.time())

    assert ahead_s(60) == 60
    assert ahead_s(59.5) == 60, "half a second on its way"
    assert ahead_s(3_600) == 3_600
    assert ahead_s(0) == 0


def ask(database: str, query: str) -> Any:
    """The only value of its answer, if it has one."""
    with psycopg.connect(database, autocommit=True) as connection:
        answer = connection.execute(query)
        return answer.fetchone()[0] if answer.description else None  # type: ignore[index] # there is a row


def insert(client: httpx.Client, *data: object) -> None:
    for each in data:
        assert client.post("/insert", json={"event": "e", "data": each}).status_code == 201


def insert_if_possible(client: httpx.Client, data: object) -> dict[str, Any] | None:
    answer = client.post("/insert", json={"event": "e", "data": data})
    return answer.json() if answer.status_code == 201 else None


def check_the_tail_is_lost(
    node: ServerProcess, client: httpx.Client, epoch: str, witness: StreamReader | None = None
) -> None:
    """Of five records the newest two; the next one is in a new epoch. ``witness`` was open in the old one.

    The insert may be answered before the relay has noticed the new epoch. A stream that opens in between still has the
    old epoch, and is closed when the relay notices. So this waits until the streams of the old epoch are closed."""
    accepted = wait_for(lambda: insert_if_possible(client, "new"))
    assert accepted["id"].partition("-")[0] != epoch
    if witness is not None:
        wait_for(lambda: witness.ended)
    with streaming(node, last_id=f"{epoch}-5") as lost:
        assert "$reset" in [frame.event for frame in lost.wait("$ready")]
        assert [frame.json() for frame in lost.records()] == ["new"]
    with streaming(node, last_id=f"{epoch}-2") as older:
        assert "$reset" not in [frame.event for frame in older.wait("$ready")]
        assert [frame.json() for frame in older.records()] == [3, "new"]
        assert older.records()[-1].id == accepted["id"]
        assert older.records()[-1].position == 4


@pytest.mark.parametrize("idle", [True, False], ids=["while nobody inserts", "while somebody inserts"])
def test_after_a_fail_over_that_lost_the_tail_an_id_of_it_is_reset_and_an_older_one_resumes(
    tmp_path: Path, idle: bool
) -> None:
    with a_server() as primary, a_server(primary=primary) as replica:
        hosts = [str(conninfo.conninfo_to_dict(each.url)["host"]) for each in (primary, replica)]
        database = conninfo.make_conninfo(a_database(primary.url), host=",".join(hosts))
        copy = conninfo.make_conninfo(database, host=hosts[1])
        with (
            ServerProcess(tmp_path, database=database, user_age_max_s=0.1) as node,
            node.client("ada") as client,
            streaming(node) as witness,
        ):
            insert(client, 1, 2, 3)
            epoch = witness.wait("e", 3)[-1].id.partition("-")[0]
            wait_for(lambda: ask(copy, "SELECT head FROM broker.state") == 3)
            ask(replica.url, "ALTER SYSTEM SET primary_conninfo = ''")
            ask(replica.url, "SELECT pg_reload_conf()")
            wait_for(lambda: ask(replica.url, "SELECT count(*) FROM pg_stat_wal_receiver") == 0)
            insert(client, 4, 5)
            witness.wait("e", 5)
            primary.stop()
            ask(replica.url, "SELECT pg_promote()")
            if idle:
                wait_for(lambda: witness.ended, what="that who has heard of the lost tail must come back")
                wait_for(lambda: client.get("/readyz").status_code == 200)
            check_the_tail_is_lost(node, client, epoch, witness)


def test_after_a_dump_was_restored_an_id_of_the_lost_tail_is_reset_and_an_older_one_resumes(tmp_path: Path) -> None:
    """On the same server, of which the timeline stays."""
    with a_server() as postgres:
        database, dump = a_database(postgres.url), str(postgres.folder / "dump")
        with ServerProcess(tmp_path, database=database) as node, node.client("ada") as client:
            insert(client, 1, 2, 3)
            postgres.run("pg_dump", "--schema=broker", "--format=custom", f"--file={dump}", database)
            insert(client, 4, 5)
            with streaming(node) as reader:
                epoch = reader.wait("$ready")[-1].id.partition("-")[0]
        ask(database, "DROP SCHEMA broker CASCADE")
        postgres.run("pg_restore", f"--dbname={database}", dump)
        with ServerProcess(tmp_path, database=database) as node, node.client("ada") as client:
            check_the_tail_is_lost(node, client, epoch)
