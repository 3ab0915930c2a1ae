"""What open streams cost: idle ones with their heartbeats, and many that connect at once."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.bench import LOAD_CPU, SERVER_CPU, Bench, check, median, publisher, subscribe_path, summary
from bench.errors import BenchError
from bench.fanout import PEERS, peer
from bench.load import Floor, Subscribers
from bench.servers import broker, broker_token

IDLE = 8_000
EVENTS = 10_000
STORM = 1_000
SLICE = 65_536


def idle(bench: Bench) -> None:
    """CPU over a minute in which nothing is published; and, in another run, the longest turn of the loop."""
    os.sched_setaffinity(0, {LOAD_CPU})
    seconds = bench.times(60, 20)
    with ExitStack() as stack:
        server = stack.enter_context(broker(stack.enter_context(bench.data()), cpus={SERVER_CPU}))
        subscribers = stack.enter_context(Subscribers(bench.programs, server.port))
        subscribers.open(IDLE, "/events")
        subscribers.run(2)
        subscribers.mark()
        before = server.cpu_s()
        got = subscribers.run(seconds)
        cpu = (server.cpu_s() - before) / got.wall_s
    with ExitStack() as stack:
        folder = stack.enter_context(bench.data())
        server = stack.enter_context(broker(folder, cpus={SERVER_CPU}, inside="turns"))
        subscribers = stack.enter_context(Subscribers(bench.programs, server.port))
        subscribers.open(IDLE, "/events")
        subscribers.run(2)
        (folder / "data" / "turns-go").touch()
        subscribers.run(bench.times(35, 18))
        longest = float((folder / "data" / "turns").read_text())
    with ExitStack() as stack:
        folder = stack.enter_context(bench.data())
        server = stack.enter_context(broker(folder, cpus={SERVER_CPU}, inside="memory"))
        stack.enter_context(Subscribers(bench.programs, server.port)).open(100, "/events")  # what comes once has come
        held = _memory(folder)
        stack.enter_context(Subscribers(bench.programs, server.port)).open(IDLE, "/events")
        each = {file: (size - held.get(file, 0)) / IDLE for file, size in _memory(folder).items()}
    bench.found["idle"] = {
        "connections": IDLE,
        "cpu": cpu,
        "bytes_per_s": got.bytes / got.wall_s,
        "closed": got.closed,
        "longest_turn_ms": longest,
        "memory": {file: size for file, size in each.items() if size >= 10},
    }
    bench.tell(f"  {bench.found['idle']}")


def _memory(folder: Path) -> dict[str, int]:
    """Bytes that live in the server now, by the file that made them."""
    file = folder / "data" / "memory"
    file.unlink(missing_ok=True)
    deadline = time.monotonic() + 30
    while not file.exists():
        if time.monotonic() > deadline:
            raise BenchError("the server does not tell where its memory is")
        time.sleep(0.05)
    found: dict[str, int] = json.loads(file.read_text())
    return found


def opening(bench: Bench) -> None:
    """Thousands of streams without a snapshot, opened at once."""
    os.sched_setaffinity(0, {LOAD_CPU})
    with ExitStack() as stack:
        servers = [peer(bench, stack, name) for name in ("broker", *(name for name in PEERS if bench.has(name)))]
        works = [(each, stack.enter_context(Subscribers(bench.programs, each.port, order=False))) for each in servers]
        found: dict[str, list[dict[str, float]]] = {each.name: [] for each in servers}
        for round in range(bench.times(5, 1) + 1):
            for server, subscribers in works:
                path = "/events?event=none" if server.name == "broker" else subscribe_path(server.name)
                before = server.cpu_s()
                got = subscribers.storm(IDLE, path)
                # A peer may refuse some of so many connections.
                assert got.connections == IDLE or server.name != "broker", f"{got}"
                us = (server.cpu_s() - before) / got.connections * 1e6
                if round:
                    found[server.name].append({"us": us, "s": got.open_s, "refused": got.refused})
                subscribers.storm(0, path)  # all away before the next
                time.sleep(0.5)
            if round:
                bench.tell(f"  round {round}: " + ", ".join(f"{k} {v[-1]['us']:.0f} µs" for k, v in found.items()))
    bench.found["opening"] = {"connections": IDLE, "rounds": found}


def storm(bench: Bench) -> None:
    """A snapshot of 10,000 events: one client alone, then a thousand that lost their connection at once."""
    os.sched_setaffinity(0, {LOAD_CPU})
    with ExitStack() as stack:
        folder = stack.enter_context(bench.data())
        server = stack.enter_context(broker(folder, cpus={SERVER_CPU}))
        token = broker_token(server)
        fill = stack.enter_context(publisher(bench, server, batch=500, token=token, event="e@E@", events=EVENTS))
        check(fill.burst(EVENTS // 500))
        alone = [_alone(bench, server.port) for _ in range(bench.times(20, 5))]
        snapshot_bytes = int(alone[0][1])
        ready = [each for each, _ in alone]
        ours = stack.enter_context(Subscribers(bench.programs, server.port, ready=True, order=False))
        floor = stack.enter_context(Floor(bench.programs))
        os.sched_setaffinity(floor.pid, {SERVER_CPU})
        floor.bulk(snapshot_bytes, SLICE)
        theirs = stack.enter_context(Subscribers(bench.programs, floor.port, ready=True, order=False))
        resume = stack.enter_context(Subscribers(bench.programs, server.port, ready=True, order=False))
        last = id_behind(server.port, 100)
        works: list[tuple[str, Any, Any, str]] = [
            ("snapshot", server, ours, "/events"),
            ("floor", floor, theirs, "/"),
            ("resume of 100", server, resume, f"/events?last_event_id={last}"),
        ]
        found: dict[str, list[dict[str, float]]] = {name: [] for name, *_ in works}
        for round in range(bench.times(5, 1) + 1):
            for name, process, subscribers, path in works:
                subscribers.mark()
                before = process.cpu_s()
                got = subscribers.storm(STORM, path)
                assert (got.connections, got.refused) == (STORM, 0), f"{got}"
                cost = (process.cpu_s() - before) / STORM * 1e6
                if round:
                    found[name].append(
                        {
                            "us": cost,
                            "ready_p50_ms": got.ready_us.p50 / 1e3,
                            "ready_max_ms": got.ready_us.max / 1e3,
                            "bytes": got.bytes / STORM,
                            "load_busy": got.cpu_s / got.wall_s,
                        }
                    )
                subscribers.storm(0, path)  # all away before the next
                time.sleep(0.5)
            if round:
                bench.tell(f"  round {round}: " + ", ".join(f"{k} {v[-1]['us']:.0f} µs" for k, v in found.items()))
    bench.found["storm"] = {
        "clients": STORM,
        "events": EVENTS,
        "bytes": snapshot_bytes,
        "alone_ms": summary(ready),
        "rounds": found,
    }
    bench.tell(f"  alone: ready after {median(ready):.1f} ms, {snapshot_bytes} bytes")


def _alone(bench: Bench, port: int) -> tuple[float, float]:
    """Milliseconds to ``$ready``, and bytes."""
    with Subscribers(bench.programs, port, ready=True, order=False) as one:
        got = one.open(1, "/events")
        return got.ready_us.p50 / 1e3, got.bytes


def id_behind(port: int, records: int) -> str:
    """The id of the record that is so many behind the newest."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/events?event=none")
    response = connection.getresponse()
    for line in response:
        if line.startswith(b"id: "):
            epoch, _, position = line[4:].decode().strip().partition("-")
            connection.close()
            return f"{epoch}-{int(position) - records}"
    raise AssertionError("no $ready")
