"""Nodes on one PostgreSQL: what one schedules another publishes, and a client may go on at any of them."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from uuid import uuid4

import httpx
import psycopg
import pytest

from broker.store.postgres.database import LOCK, MOVE_LOCK
from tests.support.operators import insert
from tests.support.postgres import HELD_UP_S, a_database
from tests.support.servers import BOUND_S, ServerProcess, streaming, wait_for

HOLDERS = """SELECT wait_event = 'ClientRead' AND state_change < clock_timestamp() - interval '50 ms'
    FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted"""
STATES = {(): "free", (True,): "held"}


class Node(ServerProcess):
    """With a client that has a token."""

    ada: httpx.Client


@pytest.fixture(scope="module")
def database(postgres: str) -> str:
    return a_database(postgres)


@pytest.fixture(scope="module")
def nodes(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """Two, which every test leaves as it found them: running."""
    folder = tmp_path_factory.mktemp("nodes")
    with (
        Node(folder / "here", database=database) as here,
        Node(folder / "there", database=database) as there,
        here.client("ada") as here.ada,
        there.client("ada") as there.ada,
    ):
        yield here, there


@contextmanager
def stopped(node: Node) -> Iterator[None]:
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.send_signal(signal.SIGCONT)


@contextmanager
def stopped_with_the_lock(node: Node, database: str, acknowledged: list[str]) -> Iterator[None]:
    """Stops a node under load, again and again, until it is so that PostgreSQL waits for the rest of a transaction."""
    with psycopg.connect(database, autocommit=True) as watcher:
        for _ in range(500):
            before = len(acknowledged)
            wait_for(lambda: len(acknowledged) > before, what="that it goes on")  # noqa: B023 (called at once)
            with stopped(node):
                # Of a holder that PostgreSQL still has something to do for, it is not yet known.
                if wait_for(lambda: STATES.get(tuple(waits for (waits,) in watcher.execute(HOLDERS)))) == "held":
                    yield
                    return
    raise AssertionError("it never held the lock")


def test_what_is_due_within_one_second_two_nodes_publish_once_and_in_order(nodes: tuple[Node, Node]) -> None:
    dice = random.Random(1)
    begin = time.time() + 2
    with streaming(nodes[0], "/events?event=due") as here, streaming(nodes[1], "/events?event=due") as there:
        for number, node in enumerate(nodes):
            dues = [round(begin + dice.random(), 6) for _ in range(500)]
            records = [{"event": "due", "data": f"{number}-{n}", "timestamp": due} for n, due in enumerate(dues)]
            assert node.ada.post("/insert", json=records).status_code == 201
        assert time.time() < begin, "some were due before all were there: this machine is too slow for the test"
        log = nodes[0].ada.get("/collections/due").json()
        for reader in (here, there):
            reader.wait("due", 1_000)
        insert(nodes[1].ada, "due", "one more, and so there were no others before")
        for reader in (here, there):
            reader.wait("due", 1_001)
    assert here.records() == there.records()
    by_due = sorted(log, key=lambda record: record["timestamp"])  # of equals the first inserted remains the first
    assert [frame.json() for frame in here.records()[:-1]] == [record["data"] for record in by_due]
    for reader in (here, there):
        pairs = zip(reader.records()[:-1], by_due, strict=True)
        late_s = [frame.received_us / 1e6 - record["timestamp"] for frame, record in pairs]
        print(f"{min(late_s) * 1e3:.1f} to {max(late_s) * 1e3:.1f} ms after the due time")
        assert min(late_s) >= 0


def test_what_a_node_scheduled_another_publishes_if_it_is_the_only_one_alive(nodes: tuple[Node, Node]) -> None:
    here, there = nodes
    with streaming(there, "/events?event=heir") as reader:
        reader.wait("$ready")
        due = time.time() + 1
        insert(here.ada, "heir", 1, timestamp=due)
        here.stop(signal.SIGKILL)
        assert time.time() < due, "it was due before its node was dead: this machine is too slow for the test"
        (frame,) = [frame for frame in reader.wait("heir") if frame.event == "heir"]
        here.start()
    assert 0 <= frame.received_us / 1e6 - due < 1
    (record,) = there.ada.get("/collections/heir").json()
    assert record["id"] == frame.id


def test_a_client_goes_on_at_a_node_that_lags_behind_its_id(nodes: tuple[Node, Node]) -> None:
    """The node is stopped while another takes inserts, and finds the client's request when it goes on: it must wait
    until it has come to the id, in place of taking it for one that it does not know."""
    here, there = nodes
    for event in ("lag-1", "lag-2", "lag-3"):
        with ExitStack() as moved:
            with streaming(here) as first, stopped(there):
                for n in range(200):
                    insert(here.ada, event, n)
                last_id = first.wait(event, 200)[-1].id
                insert(here.ada, event, 200)
                second = moved.enter_context(streaming(there, last_id=last_id))
            second.wait("$ready")
            insert(there.ada, event, 201)
            second.wait(event, 2)
        assert [frame.json() for frame in second.records()] == [200, 201]
        assert {frame.event for frame in second.frames} == {event, "$ready"}


def test_a_node_that_is_stopped_within_a_write_holds_the_others_up_for_some_seconds_only(
    nodes: tuple[Node, Node], database: str
) -> None:
    here, there = nodes
    acknowledged: list[str] = []
    enough = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=here.url, timeout=BOUND_S, headers=here.ada.headers) as client:
            while not enough.is_set():
                uuid = str(uuid4())
                record = {"event": "stop", "data": 1, "uuid": uuid}
                while client.post("/insert", json=record).status_code not in (200, 201):
                    pass
                acknowledged.append(uuid)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with stopped_with_the_lock(here, database, acknowledged):
            begun = time.monotonic()
            insert(there.ada, "stop", 2)
            held_up_s = time.monotonic() - begun
    finally:
        enough.set()
        for thread in threads:
            thread.join(BOUND_S)
    assert 1 < held_up_s < HELD_UP_S
    log = there.ada.get("/collections/stop").json()
    assert sorted(record["uuid"] for record in log if record["data"] == 1) == sorted(acknowledged)


def test_a_command_that_takes_its_time_with_the_lock_is_left_alone(nodes: tuple[Node, Node], database: str) -> None:
    with psycopg.connect(database, autocommit=True) as copy, ThreadPoolExecutor() as pool:
        copy.execute("SELECT pg_advisory_lock(%s)", (MOVE_LOCK,))
        with copy.transaction():
            copy.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            waits = pool.submit(insert, nodes[0].ada, "copy", 1)
            time.sleep(3.3)  # a stopped node would have been ended
            assert not waits.done()
        assert waits.result()["published"]


def test_a_change_of_what_is_pending_is_announced_on_every_node(nodes: tuple[Node, Node]) -> None:
    """Also a change that leaves the next due time as it is."""
    here, there = nodes
    first = insert(here.ada, "announced", 1, timestamp=8_000_000_000)
    headers = f"Authorization: {there.ada.headers['Authorization']}\r\n"
    with streaming(there, "/events?event=none&pending=yes", headers=headers) as stream:
        stream.wait("$ready")
        later = insert(here.ada, "announced", 2, timestamp=9_000_000_000)
        stream.wait("$pending", 1)
        here.ada.post(f"/cancel/{later['uuid']}")
        stream.wait("$pending", 2)
        insert(here.ada, "announced", 3, timestamp=time.time() + 2.5)
        stream.wait("$pending", 3)
        wait_for(lambda: len(there.ada.get("/pending?event=announced").json()) == 1)
        stream.wait("$pending", 4)
        assert there.ada.get("/pending?event=announced").json() == [first]


def test_a_node_waits_until_it_has_read_the_id_of_another_one(nodes: tuple[Node, Node]) -> None:
    """So whoever inserts at one node reads his own write at any other."""
    here, there = nodes
    for n in range(20):
        record = insert(here.ada, "read own", n)
        state = there.ada.get(f"/snapshot?event=read+own&last_event_id={record['id']}").json()
        assert [each["data"] for each in state] == [n]
