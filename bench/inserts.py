"""What an insert costs: durable and authenticated; Broker, PocketBase, and Broker without a store."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.bench import ALL_CPUS, DATA, Bench, check, median, publisher, summary
from bench.load import Published, Publisher
from bench.servers import Server, broker, broker_token, pocketbase, pocketbase_token

CLIENTS = 64
BATCHES = ((100, 8), (500, 4), (1_000, 4))  # records in a request, clients


def singles(bench: Bench) -> None:
    """64 clients, each as fast as it is answered."""
    _singles(bench, CLIENTS, "singles")


def one_client(bench: Bench) -> None:
    """One client, as fast as it is answered: what an insert costs that shares its commit with no other."""
    _singles(bench, 1, "single")


def _singles(bench: Bench, clients: int, part: str) -> None:
    os.sched_setaffinity(0, ALL_CPUS)
    seconds = bench.times(5, 2)
    found: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as stack:
        works: list[tuple[str, Server, Publisher]] = []
        for name, inside in (("broker", ""), ("broker without a store", "storeless")):
            server = stack.enter_context(broker(stack.enter_context(bench.data()), inside=inside))
            token = broker_token(server)
            works.append((name, server, stack.enter_context(publisher(bench, server, clients=clients, token=token))))
        if bench.has("pocketbase"):
            server = stack.enter_context(pocketbase(stack.enter_context(bench.data())))
            works.append(("pocketbase", server, stack.enter_context(_pocketbase(bench, server, clients))))
        for round in range(bench.times(7, 2) + 1):
            for name, server, publish in works:
                before = server.cpu_s()
                done = publish.closed(seconds if round else 1)
                check(done)
                if round:
                    found.setdefault(name, []).append(
                        {
                            "per_s": done.ok / done.wall_s,
                            "us": (server.cpu_s() - before) / done.ok * 1e6,
                            "p50_ms": done.latency_us.p50 / 1e3,
                            "p99_ms": done.latency_us.p99 / 1e3,
                            "load_busy": done.cpu_s / done.wall_s,
                        }
                    )
            if round:
                bench.tell(f"  round {round}: " + ", ".join(f"{k} {v[-1]['per_s']:.0f}/s" for k, v in found.items()))
    bench.found[part] = {"rounds": found, "clients": clients}


def _pocketbase(bench: Bench, server: Server, clients: int) -> Publisher:
    return Publisher(
        bench.programs,
        server.port,
        path="/api/collections/events/records",
        body=f'{{"event":"bench","data":{DATA}}}',
        clients=clients,
        headers={"Authorization": f"Bearer {pocketbase_token(server)}"},
    )


def batches(bench: Bench) -> None:
    """Many records in a request."""
    os.sched_setaffinity(0, ALL_CPUS)
    rows: list[dict[str, Any]] = []
    seconds = bench.times(4, 1)
    with ExitStack() as stack:
        server = stack.enter_context(broker(stack.enter_context(bench.data())))
        token = broker_token(server)
        for size, clients in BATCHES:
            for answer in ("representation", "minimal"):
                publish = stack.enter_context(
                    publisher(bench, server, clients=clients, batch=size, token=token, prefer=f"return={answer}")
                )
                check(publish.closed(0.5))
                rates, costs = [], []
                for _ in range(bench.times(5, 1)):
                    before = server.cpu_s()
                    done = publish.closed(seconds)
                    check(done)
                    rates.append(done.ok * size / done.wall_s)
                    costs.append((server.cpu_s() - before) / (done.ok * size) * 1e6)
                rows.append(
                    {"batch": size, "clients": clients, "answer": answer, "per_s": summary(rates), "us": summary(costs)}
                )
                bench.tell(f"  {clients} clients, {size} a request, {answer}: {median(rates):.0f}/s")
    bench.found["batches"] = rows


def growth(bench: Bench) -> None:
    """What an insert costs with more and more records in the log, in turns with one that was empty just before; and how
    long a start takes."""
    os.sched_setaffinity(0, ALL_CPUS)
    rows: list[dict[str, Any]] = []
    starts: list[dict[str, Any]] = []
    sizes = [0, 100_000, 250_000, 500_000, 750_000, 1_000_000]
    with bench.data() as folder:
        for records in sizes[: 2 if bench.quick else None]:
            with broker(folder) as server, ExitStack() as stack:
                new = stack.enter_context(broker(stack.enter_context(bench.data())))
                token = broker_token(server, new=not starts)
                held = rows[-1]["held"] if rows else 0
                fill = stack.enter_context(publisher(bench, server, batch=500, token=token))
                fill.burst(max(1, (records - held) // 500))
                held = max(held, records)
                publish = stack.enter_context(publisher(bench, server, clients=CLIENTS, token=token))
                publish_new = stack.enter_context(publisher(bench, new, clients=CLIENTS, token=broker_token(new)))
                rates, costs, ratios = [], [], []
                for round in range(bench.times(7, 1) + 1):
                    done, us = _cost(server, publish)
                    _, us_new = _cost(new, publish_new)
                    held += done.ok
                    if round:
                        rates.append(done.ok / done.wall_s)
                        costs.append(us)
                        ratios.append(us / us_new)
                rows.append({"held": held, "us": summary(costs), "ratio": summary(ratios), "per_s": summary(rates)})
                bench.tell(f"  {held} records: {median(costs):.0f} µs an insert, {median(ratios):.2f} × an empty log's")
            seconds = [_start_s(folder) for _ in range(bench.times(5, 1))]
            starts.append({"records": held, "s": summary(seconds)})
            bench.tell(f"  starts with {held} records in {median(seconds):.2f} s")
    bench.found["growth_records"] = {"inserts": rows, "starts": starts}


def _cost(server: Server, publish: Publisher) -> tuple[Published, float]:
    """And the server's microseconds for each insert."""
    before = server.cpu_s()
    done = publish.closed(1)
    check(done)
    return done, (server.cpu_s() - before) / done.ok * 1e6


def _start_s(folder: Path) -> float:
    """From the command to the first answer."""
    before = time.monotonic()
    with broker(folder):
        return time.monotonic() - before
