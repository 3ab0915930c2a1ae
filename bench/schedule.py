"""How late scheduled records are: many pending, a thousand falling due each second, live traffic beside them."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from contextlib import ExitStack
from typing import Any

from bench.bench import LOAD_CPU, Bench, check, publisher
from bench.load import Publisher, Subscribers
from bench.servers import MANY_NAMES, Server, broker, broker_token, insert_all

PENDING = 100_000
DUE_PER_S = 1_000
LIVE_SUBSCRIBERS, LIVE_PER_S = 100, 100
PHASES = (("nothing", None), ("one each millisecond", 1_000), ("a thousand at one instant", 0))
_DUE = re.compile(rb'data: \{"due_us":(\d+)\}')


class Reader(threading.Thread):
    """One subscriber, in Python: when each scheduled record came, by the clock that its due time is of."""

    def __init__(self, port: int, event: str) -> None:
        super().__init__(daemon=True)
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(f"GET /events?event={event} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.late_us: list[int] = []

    def run(self) -> None:
        rest = b""
        while data := self._socket.recv(1 << 20):
            now_us = time.time_ns() // 1_000
            *lines, rest = (rest + data).split(b"\n")
            self.late_us += [now_us - int(match[1]) for match in map(_DUE.match, lines) if match]

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self.join()
        self._socket.close()


def lateness(bench: Bench) -> None:
    """In rounds, as a shared disk stalls now and then: live traffic with nothing due, then with records due."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name, _ in PHASES}
    with ExitStack() as stack:
        server = stack.enter_context(broker(stack.enter_context(bench.data()), *MANY_NAMES))
        token = broker_token(server)
        far_us = (time.time_ns() // 1_000) + 3_600_000_000
        _schedule(server, token, [far_us + n for n in range(PENDING)], "far")
        os.sched_setaffinity(0, {LOAD_CPU})
        subscribers = stack.enter_context(Subscribers(bench.programs, server.port, order=False))
        subscribers.open(LIVE_SUBSCRIBERS, "/events?event=live")
        live = stack.enter_context(publisher(bench, server, clients=8, token=token, event="live"))
        check(live.rate(LIVE_PER_S, 1))
        for round in range(bench.times(7, 1)):
            for name, spacing_us in PHASES:
                row = _round(bench, server, token, subscribers, live, spacing_us, f"due{round}{spacing_us}")
                found[name].append(row)
                bench.tell(f"  round {round + 1}, {name}: {row}")
    bench.found["schedule"] = {"pending": PENDING, "per_s": DUE_PER_S, "rounds": found}


def _round(
    bench: Bench,
    server: Server,
    token: str,
    subscribers: Subscribers,
    live: Publisher,
    spacing_us: int | None,
    event: str,
) -> dict[str, Any]:
    seconds = bench.times(8, 4)
    reader = Reader(server.port, event)
    reader.start()
    due: list[int] = []
    if spacing_us is not None:
        start_us = time.time_ns() // 1_000 + 2_000_000
        due = [
            start_us + second * 1_000_000 + n * spacing_us for second in range(seconds - 1) for n in range(DUE_PER_S)
        ]
        _schedule(server, token, due, event)
        time.sleep(max(0.0, start_us / 1e6 - time.time()))
    before = server.cpu_s()
    subscribers.mark()
    done = live.rate(LIVE_PER_S, seconds)
    check(done)
    got = subscribers.wait(done.ok, 30)
    assert got.frames_min == got.frames_max == done.ok, f"{got}"
    row: dict[str, Any] = {"live_p50_ms": got.latency_us.p50 / 1e3, "live_p99_ms": got.latency_us.p99 / 1e3}
    row["server_cpu"] = (server.cpu_s() - before) / got.wall_s
    _wait(reader.late_us, len(due))
    reader.close()
    if due:
        late = sorted(reader.late_us)
        row |= {"due": len(due), "published": len(late), "early": sum(us < 0 for us in late)}
        for percent in (50, 99, 99.9, 100):
            row[f"late_p{percent:g}_ms"] = late[min(len(late) - 1, int(len(late) * percent / 100))] / 1e3
    return row


def _schedule(server: Server, token: str, due_us: list[int], event: str) -> None:
    for start in range(0, len(due_us), 1_000):
        insert_all(
            server,
            token,
            [
                f'{{"event":"{event}","timestamp":{us // 1_000_000}.{us % 1_000_000:06d},"data":{{"due_us":{us}}}}}'
                for us in due_us[start : start + 1_000]
            ],
        )


def _wait(late: list[int], count: int) -> None:
    deadline = time.monotonic() + 30
    while len(late) < count and time.monotonic() < deadline:
        time.sleep(0.01)
