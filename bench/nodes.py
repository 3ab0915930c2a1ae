"""Several nodes on one PostgreSQL, beside one on SQLite; and several processes behind one port."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from bench.bench import ALL_CPUS, Bench, check, median, publisher, summary
from bench.load import Publisher, Subscribers
from bench.servers import Server, broker, broker_token, cpu_s, family
from tests.support.postgres import PostgresServer, a_database, a_server

CLIENTS = 60  # divided among the nodes
BATCH, BATCH_CLIENTS = 500, 6
KINDS = {"SQLite": 0, "PostgreSQL, one node": 1, "PostgreSQL, three nodes": 3}
RATE = 100  # a second
SUBSCRIBERS = 4_000


@contextmanager
def cluster(bench: Bench, nodes: int) -> Iterator[list[Server]]:
    """So many nodes on a PostgreSQL of their own; none: one server on SQLite."""
    with ExitStack() as stack:
        if not nodes:
            yield [stack.enter_context(broker(stack.enter_context(bench.data())))]
            return
        database = ("--database", a_database(stack.enter_context(a_postgres(bench)).url))
        yield [stack.enter_context(broker(stack.enter_context(bench.data()), *database)) for _ in range(nodes)]


@contextmanager
def a_postgres(bench: Bench) -> Iterator[PostgresServer]:
    """With its files on the disk that this run uses."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder, a_server(Path(folder)) as server:
        yield server


def inserts(bench: Bench) -> None:
    """Durable inserts, one by one and in batches, through one node and three, beside SQLite."""
    os.sched_setaffinity(0, ALL_CPUS)
    for key, clients, batch in (("nodes_singles", CLIENTS, 1), ("nodes_batches", BATCH_CLIENTS, BATCH)):
        found: dict[str, list[dict[str, float]]] = {name: [] for name in KINDS}
        with ExitStack() as stack:
            works: dict[str, list[Publisher]] = {}
            for name, nodes in KINDS.items():
                servers = stack.enter_context(cluster(bench, nodes))
                token = broker_token(servers[0])  # holds on every node
                share = clients // len(servers)
                works[name] = [
                    stack.enter_context(
                        publisher(bench, each, clients=share, batch=batch, token=token, prefer="return=minimal")
                    )
                    for each in servers
                ]
            for round in range(bench.times(7, 2) + 1):
                for name, publishers in works.items():
                    running = [each.start_closed(bench.times(4, 1) if round else 1) for each in publishers]
                    done = [each.answer() for each in running]
                    for each in done:
                        check(each)
                    if round:
                        found[name].append(
                            {
                                "per_s": sum(each.ok * batch / each.wall_s for each in done),
                                "p50_ms": max(each.latency_us.p50 for each in done) / 1e3,
                                "p99_ms": max(each.latency_us.p99 for each in done) / 1e3,
                            }
                        )
            _tell(bench, found, "per_s", "/s")
        bench.found[key] = {"rounds": found, "clients": clients, "batch": batch}


def latency(bench: Bench) -> None:
    """From the insert on one node to the receipt at another."""
    os.sched_setaffinity(0, ALL_CPUS)
    seconds = bench.times(5, 1)
    found: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as stack:
        (alone,) = stack.enter_context(cluster(bench, 0))
        first, second = stack.enter_context(cluster(bench, 2))
        works: list[tuple[str, Subscribers, Publisher]] = []
        for name, at, to in (
            ("SQLite, the same process", alone, alone),
            ("PostgreSQL, the same node", first, first),
            ("PostgreSQL, another node", first, second),
        ):
            token = broker_token(at, new=at is not first or to is first)
            subscribers = stack.enter_context(Subscribers(bench.programs, to.port))
            subscribers.open(1, f"/events?event={len(works)}")
            publish = stack.enter_context(publisher(bench, at, token=token, event=str(len(works))))
            works.append((name, subscribers, publish))
        for round in range(bench.times(7, 2) + 1):
            for name, subscribers, publish in works:
                subscribers.mark()
                done = publish.rate(RATE, seconds if round else 1)
                check(done)
                got = subscribers.wait(done.requests, 10)
                assert (got.frames, got.gaps) == (done.requests, 0), f"{name}: {got}"
                if round:
                    row = {"p50_ms": got.latency_us.p50 / 1e3, "p99_ms": got.latency_us.p99 / 1e3}
                    found.setdefault(name, []).append(row)
    _tell(bench, found, "p50_ms", " ms")
    bench.found["nodes_latency"] = {"rounds": found, "per_s": RATE}


def workers(bench: Bench) -> None:
    """Fan-out by one process and by two behind one port: one event at a time, so that each costs a system call."""
    os.sched_setaffinity(0, ALL_CPUS)
    found: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as stack:
        database = ("--database", a_database(stack.enter_context(a_postgres(bench)).url))
        works: list[tuple[str, Server, Subscribers, Publisher]] = []
        for count in (1, 2):
            folder = stack.enter_context(bench.data())
            server = stack.enter_context(broker(folder, *database, "--workers", str(count)))
            event = f"workers{count}"
            subscribers = stack.enter_context(Subscribers(bench.programs, server.port))
            subscribers.open(SUBSCRIBERS, f"/events?event={event}")
            token = broker_token(server, new=not works)
            publish = stack.enter_context(publisher(bench, server, token=token, event=event))
            works.append((str(count), server, subscribers, publish))
        events = bench.times(20, 5)
        for round in range(bench.times(7, 2) + 1):
            for name, server, subscribers, publish in works:
                subscribers.mark()
                before = server.cpu_s()
                for n in range(events):
                    check(publish.burst(1))
                    subscribers.wait(n + 1, 60)
                cpu_s = server.cpu_s() - before
                got = subscribers.report()
                assert got.frames_min == got.frames_max == events, f"{name}: {got}"
                deliveries = events * SUBSCRIBERS
                if round:
                    row = {"per_s": deliveries / got.wall_s, "us": cpu_s / deliveries * 1e6}
                    found.setdefault(name, []).append(row | {"load_busy": got.cpu_s / got.wall_s})
    _tell(bench, found, "per_s", "/s")
    bench.found["nodes_workers"] = {"rounds": found, "subscribers": SUBSCRIBERS}


def followers(bench: Bench) -> None:
    """What PostgreSQL has to do for nodes that only follow: single inserts at one node, and more and more others."""
    os.sched_setaffinity(0, ALL_CPUS)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        postgres = stack.enter_context(a_postgres(bench))
        leader = int((postgres.folder / "postmaster.pid").read_text().split()[0])
        database = ("--database", a_database(postgres.url))
        nodes: list[Server] = []
        for count in (1, 2, 4, 8)[: 2 if bench.quick else None]:
            while len(nodes) < count:
                nodes.append(stack.enter_context(broker(stack.enter_context(bench.data()), *database)))
            token = broker_token(nodes[0], new=not rows)
            publish = stack.enter_context(publisher(bench, nodes[0], token=token))
            check(publish.rate(RATE, 1))
            postgres_us, node_us = [], []
            for _ in range(bench.times(5, 1)):
                before, before_nodes = cpu_s(family(leader)), sum(each.cpu_s() for each in nodes[1:])
                done = publish.rate(RATE, bench.times(4, 1))
                check(done)
                postgres_us.append((cpu_s(family(leader)) - before) / done.ok * 1e6)
                node_us.append(
                    (sum(each.cpu_s() for each in nodes[1:]) - before_nodes) / done.ok * 1e6 / max(1, count - 1)
                )
            with psycopg.connect(postgres.url) as connection:
                asked = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'broker'")
                connections = asked.fetchone()
            assert connections is not None
            rows.append(
                {
                    "nodes": count,
                    "postgres_us": summary(postgres_us),
                    "node_us": summary(node_us),
                    "connections": connections[0] / count,
                    "memory_mb": median([each.rss_kb() / 1024 for each in nodes]),
                }
            )
            bench.tell(f"  {count} nodes: {median(postgres_us):.0f} µs of PostgreSQL for each insert")
    bench.found["nodes_followers"] = {"rows": rows, "per_s": RATE}


def _tell(bench: Bench, found: dict[str, Any], key: str, unit: str) -> None:
    bench.tell(
        "  " + ", ".join(f"{name} {median([row[key] for row in rows]):,.1f}{unit}" for name, rows in found.items())
    )
