"""What a delivery costs: one event at a time, bursts, a steady stream, many filters; Broker, peers and the floor."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from bench.bench import LOAD_CPU, SERVER_CPU, Bench, Target, check, floor_target, median, publisher, summary, target
from bench.load import Subscribers
from bench.servers import Server, broker, broker_token, nchan, starlette

PEERS = ("nchan", "starlette", "sse-starlette")
WAIT_S = 120.0


def peer(bench: Bench, stack: ExitStack, name: str) -> Server:
    folder = stack.enter_context(bench.data())
    cpus = {SERVER_CPU}
    if name == "broker":
        return stack.enter_context(broker(folder, cpus=cpus))
    if name == "nchan":
        return stack.enter_context(nchan(folder, cpus=cpus))
    return stack.enter_context(starlette(folder, "starlette" if name == "starlette" else "sse-starlette", cpus=cpus))


def _all(bench: Bench, stack: ExitStack, count: int, clients: int, batch: int = 0) -> list[Target]:
    """All servers at once, so that rounds can alternate: idle, they cost nothing."""
    os.sched_setaffinity(0, {LOAD_CPU})
    targets = [floor_target(bench, stack, count)] if clients == 1 else []
    for name in ("broker", *(peer for peer in PEERS if bench.has(peer))):
        server = peer(bench, stack, name)
        targets.append(target(bench, stack, server, count, clients, batch if name == "broker" else 0))
    return targets


def one_at_a_time(bench: Bench, count: int, events: int, rounds: int) -> None:
    """An event is published when every subscriber has the one before. Rounds are short: the speed drifts."""
    with ExitStack() as stack:
        targets = _all(bench, stack, count, clients=1)
        found: dict[str, list[dict[str, float]]] = {each.name: [] for each in targets}
        for round in range(bench.times(rounds, 2) + 1):
            for each in targets:
                each.subscribers.mark()
                before = each.cpu_s()
                for n in range(events):
                    each.publish(1)
                    each.subscribers.wait(n + 1, WAIT_S)
                cpu_s = each.cpu_s() - before
                got = each.subscribers.report()
                assert (got.frames_min, got.frames_max, got.gaps, got.closed) == (events, events, 0, 0), (
                    f"{each.name}: {got}"
                )
                if round:  # the first warms up
                    found[each.name].append(
                        {
                            "us": cpu_s / (events * count) * 1e6,
                            "p50_us": got.latency_us.p50,
                            "p99_us": got.latency_us.p99,
                            "load_busy": got.cpu_s / got.wall_s,
                        }
                    )
            if round:
                bench.tell(
                    f"  round {round}: " + ", ".join(f"{k} {rows[-1]['us']:.2f} µs" for k, rows in found.items())
                )
    memory = {each.name: each.memory_kb for each in targets if each.memory_kb is not None}
    bench.found[f"one_at_a_time_{count}"] = {"rounds": found, "memory_kb": memory, "events": events}


def bursts(bench: Bench) -> None:
    """A hundred events at once, one request each on a hundred connections; Broker also takes them in one request."""
    count, size = 1_000, 100
    repeat = {"broker": 10, "broker, one batch": 10, "nchan": 2, "starlette": 2}
    with ExitStack() as stack:
        targets = _all(bench, stack, count, clients=100, batch=size)
        works = [(each.name, each, each.publish) for each in targets]
        works += [("broker, one batch", each, each.publish_batch) for each in targets if each.publish_batch]
        found: dict[str, list[dict[str, float]]] = {name: [] for name, _, _ in works}
        for round in range(bench.times(7, 2) + 1):
            for name, each, publish in works:
                times = repeat.get(name, 1)
                each.subscribers.mark()
                before = each.cpu_s()
                for n in range(times):
                    publish(size)
                    each.subscribers.wait((n + 1) * size, WAIT_S)
                cpu_s = each.cpu_s() - before
                got = each.subscribers.report()
                assert got.frames_min == got.frames_max == times * size, f"{name}: {got}"
                deliveries = times * size * count
                if round:
                    found[name].append(
                        {
                            "per_cpu_s": deliveries / cpu_s,
                            "per_s": deliveries / got.wall_s,
                            "load_busy": got.cpu_s / got.wall_s,
                        }
                    )
            if round:
                rates = {name: rows[-1]["per_cpu_s"] / 1e6 for name, rows in found.items()}
                bench.tell(f"  round {round}: " + ", ".join(f"{k} {rate:.3f} M/s" for k, rate in rates.items()))
    bench.found["bursts"] = found


def steady(bench: Bench) -> None:
    """500 inserts a second for a minute, each its own request."""
    rows: list[dict[str, Any]] = []
    seconds = bench.times(60, 5)
    for count in (1_000, 2_000, 4_000):
        with ExitStack() as stack:
            server = peer(bench, stack, "broker")
            token = broker_token(server)
            subscribers = stack.enter_context(Subscribers(bench.programs, server.port, order=False))
            subscribers.open(count, "/events")
            publish = stack.enter_context(publisher(bench, server, clients=64, token=token))
            check(publish.rate(500, 1))
            subscribers.run(1)
            subscribers.mark()
            before = server.cpu_s()
            running = publish.start_rate(500, seconds)
            done = running.answer()
            got = subscribers.wait(done.requests, 30)
            row = {
                "subscribers": count,
                "published": done.ok,
                "failed": done.failed,
                "received_min": got.frames_min,
                "received_max": got.frames_max,
                "closed": got.closed,
                "p50_ms": got.latency_us.p50 / 1e3,
                "p99_ms": got.latency_us.p99 / 1e3,
                "max_ms": got.latency_us.max / 1e3,
                "answer_p99_ms": done.latency_us.p99 / 1e3,
                "server_cpu": (server.cpu_s() - before) / got.wall_s,
                "load_cpu": got.cpu_s / got.wall_s,
                "publish_cpu": done.cpu_s / done.wall_s,
                "us": (server.cpu_s() - before) / max(1, got.frames) * 1e6,
            }
            bench.tell(f"  {row}")
            rows.append(row)
    bench.found["steady"] = {"seconds": seconds, "rows": rows}


def filters(bench: Bench) -> None:
    """Every subscriber has a filter of its own, and the event is one's."""
    rows = []
    events = bench.times(200, 20)
    for count in (1, 100, 1_000, 10_000):
        with ExitStack() as stack:
            server = peer(bench, stack, "broker")
            token = broker_token(server)
            subscribers = stack.enter_context(Subscribers(bench.programs, server.port, order=False))
            subscribers.open(count, "/events?event=f%d")
            publish = stack.enter_context(publisher(bench, server, token=token, event="f0"))
            check(publish.burst(20))
            costs = []
            for _ in range(bench.times(7, 2)):
                subscribers.mark()
                before = server.cpu_s()
                for _ in range(events):
                    check(publish.burst(1))
                costs.append((server.cpu_s() - before) / events * 1e6)
                got = subscribers.run(0.2)
                assert (got.frames, got.frames_max) == (events, events), f"{got}"
            rows.append({"filters": count, "us": summary(costs)})
            bench.tell(f"  {count} filters: {median(costs):.0f} µs an event")
    bench.found["filters"] = rows


def growth(bench: Bench) -> None:
    """CPU for each delivery, over the number of subscribers; Broker and the floor in turn."""
    rows = []
    for count in (100, 300, 1_000, 3_000, 10_000):
        with ExitStack() as stack:
            os.sched_setaffinity(0, {LOAD_CPU})
            targets = [floor_target(bench, stack, count)]
            targets.append(target(bench, stack, peer(bench, stack, "broker"), count, clients=1))
            costs: dict[str, list[float]] = {"floor": [], "broker": []}
            events = max(5, 20_000 // count)
            for round in range(bench.times(7, 1) + 1):
                for each in targets:
                    before = each.cpu_s()
                    each.subscribers.mark()
                    for n in range(events):
                        each.publish(1)
                        each.subscribers.wait(n + 1, WAIT_S)
                    if round:
                        costs[each.name].append((each.cpu_s() - before) / (events * count) * 1e6)
            rows.append({"subscribers": count, **{name: summary(values) for name, values in costs.items()}})
            bench.tell(f"  {count} subscribers: " + ", ".join(f"{name} {median(c):.2f}" for name, c in costs.items()))
    bench.found["growth_subscribers"] = rows
