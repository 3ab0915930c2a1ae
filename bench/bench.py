"""What every measurement shares: folders, programs, rounds that alternate, and what was found."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.load import Floor, Published, Publisher, Subscribers
from bench.servers import Server, broker_token

# Fan-out is measured with the server on one core and the generator on the other, whatever the machine has.
ALL_CPUS = os.sched_getaffinity(0)
SERVER_CPU, LOAD_CPU = min(ALL_CPUS), max(ALL_CPUS)
DATA_BYTES = 200
_HEAD = '{"n":"@N@","t":"@T@","pad":"'
DATA = _HEAD + "x" * (DATA_BYTES - len(_HEAD) - 2 - 13) + '"}'  # the numbers are 13 characters longer than their marks


@dataclass
class Bench:
    """One run. ``found`` is all that the page is made of."""

    quick: bool
    folder: Path
    programs: Path
    versions: dict[str, str | None]
    found: dict[str, Any] = field(default_factory=dict)

    def times(self, full: int, quick: int = 1) -> int:
        return quick if self.quick else full

    def tell(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def has(self, peer: str) -> bool:
        return self.versions[peer] is not None

    @contextmanager
    def data(self) -> Iterator[Path]:
        """A folder for one server's files, on the disk that this run uses."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            yield Path(folder)


@dataclass
class Target:
    """A server with its subscribers and its publisher, ready for rounds."""

    name: str
    cpu_s: Callable[[], float]
    subscribers: Subscribers
    publish: Callable[[int], None]  # so many events, one request each, at once
    memory_kb: float | None = None  # KiB of resident memory for each connection
    publish_batch: Callable[[int], None] | None = None


def publish_path(name: str) -> str:
    return {"broker": "/insert", "nchan": "/pub/bench"}.get(name, "/publish")


def subscribe_path(name: str) -> str:
    return {"nchan": "/sub/bench"}.get(name, "/events")


def publisher(
    bench: Bench,
    server: Server,
    *,
    clients: int = 1,
    batch: int = 1,
    token: str = "",
    event: str = "bench",
    events: int = 1,
    prefer: str = "return=representation",
) -> Publisher:
    ours = server.name == "broker"
    return Publisher(
        bench.programs,
        server.port,
        path=publish_path(server.name),
        body=f'{{"event":"{event}","data":{DATA}}}' if ours else DATA,
        clients=clients,
        batch=batch,
        events=events,
        headers={"Authorization": f"Bearer {token}", "Prefer": prefer} if ours else None,
    )


def target(bench: Bench, stack: ExitStack, server: Server, count: int, clients: int, batch: int = 0) -> Target:
    """``count`` subscribers on a server, and a publisher of so many connections."""
    subscribers = stack.enter_context(Subscribers(bench.programs, server.port, order=clients == 1))
    before_kb = server.rss_kb()
    opened = subscribers.open(count, subscribe_path(server.name))
    memory_kb = (server.rss_kb() - before_kb) / count
    # Not before: a password hash takes 19 MiB once, in which some of the connections would have room.
    token = broker_token(server) if server.name == "broker" else ""
    assert opened.connections == count, f"{server.name}: {opened.connections} of {count} subscribers"
    single = stack.enter_context(publisher(bench, server, clients=clients, token=token))
    many = stack.enter_context(publisher(bench, server, batch=batch, token=token)) if batch else None
    return Target(
        server.name,
        server.cpu_s,
        subscribers,
        publish=lambda n: check(single.burst(n)),
        publish_batch=None if many is None else lambda n: check(many.burst(n // batch)),
        memory_kb=memory_kb,
    )


def floor_target(bench: Bench, stack: ExitStack, count: int) -> Target:
    floor = stack.enter_context(Floor(bench.programs))
    os.sched_setaffinity(floor.pid, {SERVER_CPU})
    subscribers = stack.enter_context(Subscribers(bench.programs, floor.port))
    subscribers.open(count, "/")

    def publish(count: int) -> None:
        floor.send(count, 0, DATA_BYTES)

    return Target("floor", floor.cpu_s, subscribers, publish)


def check(published: Published) -> None:
    assert published.failed == 0, f"{published.failed} requests failed: {published.statuses} {published.sample}"


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def summary(values: Sequence[float]) -> Mapping[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}
