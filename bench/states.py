"""What a request for the state at another time takes: in the middle of a long log, in the future with many pending
records, and on an empty log."""

from __future__ import annotations

import http.client
import os
import time
from contextlib import ExitStack

from bench.bench import ALL_CPUS, Bench, check, median, publisher, summary
from bench.errors import BenchError
from bench.servers import Server, broker, broker_token, insert_all

RECORDS, EVENTS, PENDING = 1_000_000, 1_000, 10_000
FAR_S = 9_000_000_000  # epoch seconds
WAIT_S = 120.0


def times(bench: Bench) -> None:
    """Requests to a server with a long log, in turns with one whose log is empty."""
    os.sched_setaffinity(0, ALL_CPUS)
    records = RECORDS // (20 if bench.quick else 1)
    with ExitStack() as stack:
        server, empty = (stack.enter_context(broker(stack.enter_context(bench.data()))) for _ in range(2))
        token, empty_token = broker_token(server), broker_token(empty)
        fill = stack.enter_context(publisher(bench, server, batch=500, token=token, event="e@E@", events=EVENTS))
        check(fill.burst(records // 1_000))
        middle_s = time.time()
        check(fill.burst(records // 1_000))
        filled_s = time.monotonic()
        for first in range(0, PENDING, 500):
            due = [f'{{"event":"e{n % EVENTS}","data":1,"timestamp":{FAR_S + n}}}' for n in range(first, first + 500)]
            insert_all(server, token, due)
        while _get_ms(server, f"/snapshot?at={middle_s}", token) is None:
            if time.monotonic() > filled_s + WAIT_S:
                raise BenchError(f"the state is still refused {WAIT_S:g} s after the last insert")
            time.sleep(0.1)
        bench.tell(f"  {records} records: served {time.monotonic() - filled_s:.1f} s after the last insert")
        requests = {
            "now, all events": "",
            "in the past, all events": f"at={middle_s}",
            "in the past, one event": f"at={middle_s}&event=e7",
            "in the future, all events": f"at={FAR_S + PENDING // 2}",
            "in the future, one event": f"at={FAR_S + PENDING // 2}&event=e7",
        }
        found: dict[str, list[float]] = {}
        for round in range(bench.times(20, 3)):
            for name, query in requests.items():
                at = query.replace(f"{middle_s}", f"{middle_s - round / 1e3}")  # each time another state
                for log, which, its_token in (("long", server, token), ("empty", empty, empty_token)):
                    took_ms = _get_ms(which, f"/snapshot?{at}", its_token)
                    found.setdefault(f"{name}: {log} log", []).append(took_ms or 0.0)
    for name, took in found.items():
        bench.tell(f"  {name}: {median(took):.2f} ms ({min(took):.2f} to {max(took):.2f})")
    bench.found["states"] = {"records": records, "ms": {name: summary(took) for name, took in found.items()}}


def _get_ms(server: Server, path: str, token: str) -> float | None:
    """How long the whole response takes, or None if it is a 503."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
    connection.connect()
    began_s = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    answer.read()
    took_s = time.perf_counter() - began_s
    connection.close()
    if answer.status == 503:
        return None
    if answer.status != 200:
        raise BenchError(f"{path}: {answer.status}")
    return took_s * 1e3
