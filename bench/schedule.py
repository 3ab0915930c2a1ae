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
from bench.load import Received, Subscribers
from bench.servers import Server, broker, broker_token, insert_all

PENDING = 100_000
DUE_PER_S = 1_000
LIVE_SUBSCRIBERS, LIVE_PER_S = 100, 100
PHASES = (("nothing due", 0), ("one each millisecond", 1_000), ("a thousand at one instant", 0))
_DUE = re.compile(rb'data: \{"due_us":(\d+)\}')


class Reader(threading.Thread):
    """One subscriber, in Python: when each scheduled record came, by the clock that its due time is of."""

    def __init__(self, port: int, event: str) -> None:
        super().__init__(daemon=True)
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(f"GET /events?event={event} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
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
    rows = []
    seconds = bench.times(20, 5)
    with ExitStack() as stack:
        server = stack.enter_context(broker(stack.enter_context(bench.data())))
        token = broker_token(server)
        far_us = (time.time_ns() // 1_000) + 3_600_000_000
        _schedule(server, token, [far_us + n for n in range(PENDING)], "far")
        os.sched_setaffinity(0, {LOAD_CPU})
        subscribers = stack.enter_context(Subscribers(bench.programs, server.port, order=False))
        subscribers.open(LIVE_SUBSCRIBERS, "/events?event=live")
        live = stack.enter_context(publisher(bench, server, clients=8, token=token, event="live"))
        check(live.rate(LIVE_PER_S, 1))

        def traffic() -> Received:
            subscribers.mark()
            done = live.rate(LIVE_PER_S, seconds)
            check(done)
            got = subscribers.wait(done.ok, 30)
            assert got.frames_min == got.frames_max == done.ok, f"{got}"
            return got

        for number, (name, spacing_us) in enumerate(PHASES):
            row: dict[str, Any] = {"what": name}
            event = f"due{number}"
            reader = Reader(server.port, event)
            reader.start()
            if name != "nothing due":
                start_us = time.time_ns() // 1_000 + 4_000_000
                due = [
                    start_us + second * 1_000_000 + n * spacing_us
                    for second in range(seconds - 1)
                    for n in range(DUE_PER_S)
                ]
                _schedule(server, token, due, event)
                time.sleep(max(0.0, start_us / 1e6 - time.time()))
            before = server.cpu_s()
            got = traffic()
            row |= {"live_p50_ms": got.latency_us.p50 / 1e3, "live_p99_ms": got.latency_us.p99 / 1e3}
            row["server_cpu"] = (server.cpu_s() - before) / got.wall_s
            if name != "nothing due":
                _wait(reader.late_us, len(due))
                late = sorted(reader.late_us)
                row |= {"due": len(due), "published": len(late), "early": sum(us < 0 for us in late)}
                row |= {
                    f"late_{q}_ms": late[min(len(late) - 1, int(len(late) * q / 1000))] / 1e3 for q in (500, 990, 999)
                }
                row["late_max_ms"] = late[-1] / 1e3
            reader.close()
            rows.append(row)
            bench.tell(f"  {row}")
    bench.found["schedule"] = {"pending": PENDING, "per_s": DUE_PER_S, "rows": rows}


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
