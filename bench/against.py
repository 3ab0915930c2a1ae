"""Two versions of Broker in turn on one machine: ``make bench ARGS="--against FOLDER"``, FOLDER being another checkout.

Both servers run at the same time, and ``pairs.py`` says how they are compared."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.bench import ALL_CPUS, LOAD_CPU, SERVER_CPU, Bench, check, publisher, target
from bench.load import Subscribers
from bench.pairs import Pairs, Round
from bench.servers import Server, broker, broker_token
from bench.streams import id_behind

COUNT = 1_000  # subscribers
EVENTS = 10_000  # in the snapshot of the storm
WAIT_S = 120.0

Setup = Callable[[Path], None]  # prepares a server that runs, whose files are in this folder


def compare(bench: Bench, other: Path) -> str:
    """A table: each figure of this version and of the other one, and their ratio."""
    pairs = Pairs("this", "other")
    for title, setting in (("fan-out", fan_out), ("inserts", inserts), ("streams", _streams)):
        bench.tell(f"{title}: this version and {other}, in turn")
        with setting(bench) as this, setting(bench, other / "src") as that:
            pairs.measure(bench, this, that, bench.times(15, 3))
    return pairs.table()


@contextmanager
def _server(
    bench: Bench, source: Path | None, setup: Setup | None = None, *, cpus: set[int] | None = None
) -> Iterator[Server]:
    with bench.data() as folder, broker(folder, cpus=cpus, source=source) as server:
        if setup is not None:
            setup(folder)
        yield server


@contextmanager
def fan_out(bench: Bench, source: Path | None = None, setup: Setup | None = None) -> Iterator[Round]:
    os.sched_setaffinity(0, {LOAD_CPU})
    with ExitStack() as stack:
        server = stack.enter_context(_server(bench, source, setup, cpus={SERVER_CPU}))
        each = target(bench, stack, server, COUNT, clients=1)
        many = stack.enter_context(publisher(bench, server, clients=100, token=broker_token(server, new=False)))
        burst = stack.enter_context(publisher(bench, server, batch=100, token=broker_token(server, new=False)))

        def cost(publish: Callable[[], None], times: int, frames: int) -> float:
            each.subscribers.mark()
            before = server.cpu_s()
            for n in range(times):
                publish()
                each.subscribers.wait((n + 1) * frames, WAIT_S)
            return (server.cpu_s() - before) / (times * frames * COUNT) * 1e6

        def run() -> dict[str, float]:
            each.subscribers.mark()
            for n in range(5):
                check(many.burst(100))
                each.subscribers.wait((n + 1) * 100, WAIT_S)
            latency = each.subscribers.report().latency_us
            return {
                "100 events of 100 clients, p50 in ms": latency.p50 / 1e3,
                "100 events of 100 clients, p99 in ms": latency.p99 / 1e3,
                "one event, µs a delivery": cost(lambda: each.publish(1), 30, 1),
                "a burst of 100, µs a delivery": cost(lambda: check(burst.burst(1)), 20, 100),
                "KiB a stream": each.memory_kb or 0.0,
            }

        yield run


@contextmanager
def inserts(bench: Bench, source: Path | None = None, setup: Setup | None = None) -> Iterator[Round]:
    os.sched_setaffinity(0, ALL_CPUS)
    with ExitStack() as stack:
        server = stack.enter_context(_server(bench, source, setup))
        token = broker_token(server)
        works = [
            (
                f"single inserts of {clients}",
                stack.enter_context(publisher(bench, server, clients=clients, token=token)),
                1,
            )
            for clients in (1, 64)
        ]
        for records in (64, 1_000):
            batch = stack.enter_context(publisher(bench, server, clients=4, batch=records, token=token))
            works.append((f"batches of {records:,}", batch, records))

        def run() -> dict[str, float]:
            found: dict[str, float] = {}
            for name, publish, records in works:
                before = server.cpu_s()
                done = publish.closed(2)
                check(done)
                found[f"{name}, µs of CPU a record"] = (server.cpu_s() - before) / (done.ok * records) * 1e6
                found[f"{name}, µs a record"] = done.wall_s / (done.ok * records) * 1e6
                if records == 1:
                    found[f"{name}, p50 in ms"] = done.latency_us.p50 / 1e3
                    found[f"{name}, p99 in ms"] = done.latency_us.p99 / 1e3
            _finish(server)
            return found

        yield run


def _finish(server: Server) -> None:
    """Waits until the server has finished what it does after its inserts, which would slow down the other server."""
    end_s = time.monotonic() + WAIT_S
    before = -1.0
    while server.cpu_s() - before > 0.01 and time.monotonic() < end_s:
        before = server.cpu_s()
        time.sleep(0.3)


@contextmanager
def _streams(bench: Bench, source: Path | None = None) -> Iterator[Round]:
    os.sched_setaffinity(0, {LOAD_CPU})
    with ExitStack() as stack:
        server = stack.enter_context(_server(bench, source, cpus={SERVER_CPU}))
        token = broker_token(server)
        fill = stack.enter_context(publisher(bench, server, batch=500, token=token, event="e@E@", events=EVENTS))
        check(fill.burst(EVENTS // 500))
        subscribers = stack.enter_context(Subscribers(bench.programs, server.port, ready=True, order=False))

        last = id_behind(server.port, 100)

        def cost(name: str, path: str, count: int = COUNT) -> dict[str, float]:
            subscribers.mark()
            before = server.cpu_s()
            got = subscribers.storm(count, path)
            assert (got.connections, got.refused) == (count, 0), f"{got}"
            cpu_us = (server.cpu_s() - before) / count * 1e6
            subscribers.storm(0, path)  # all away before the next
            time.sleep(0.3)
            return {f"{name}, µs of CPU": cpu_us, f"{name}, ms to the last": got.ready_us.max / 1e3}

        def run() -> dict[str, float]:
            return {
                **cost("8,000 streams without a snapshot", "/events?event=none", 8_000),
                **cost("1,000 streams with 10,000 events", "/events"),
                **cost("1,000 streams resume 100 records", f"/events?last_event_id={last}"),
            }

        yield run
