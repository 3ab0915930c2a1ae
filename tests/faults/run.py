"""A run under faults: publishers and subscribers that remember everything, against nodes that are killed and stopped.

Used by ``test_kills.py`` for some seconds, and by ``make soak`` for as long as one likes."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.checker import check
from tests.faults.history import History, Log, Seen, View
from tests.faults.publisher import Publisher
from tests.support.connection import GONE, PATIENCE_S, Connection
from tests.support.postgres import PostgresServer, a_database
from tests.support.servers import ServerProcess

NODES = 3
SETTLE_S = 30.0  # after the last fault all must be there
READY_S = 10.0  # for the snapshot of a server without load


@dataclass
class Run:
    """Nodes on one log, and all that is done to them. The dice are seeded: a run can be done again."""

    folder: Path
    seed: int
    postgres: PostgresServer | None = None  # of its own, for three nodes; none: SQLite, and one node
    subscribers: int = 50  # that resume for as long as the run goes
    newcomers: int = 10  # that begin anew with a snapshot, again and again
    publishers: int = 8
    pause_s: float = 0.02  # of a publisher between two inserts, at most
    inserts: int = 0  # acknowledged, at least, before it ends
    history: History = field(default_factory=History)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._database = a_database(self.postgres.url) if self.postgres else ""
        self.nodes = (
            [ServerProcess(self.folder / f"{n}", database=self._database) for n in range(NODES)]
            if self.postgres
            else [ServerProcess(self.folder)]
        )
        self._log = Log(self.folder / "broker.db", self._database)
        self._stop = False

    async def go(self, trouble: Callable[[Run], Awaitable[None]]) -> list[str]:
        """Everything that was wrong."""
        await self.start(*self.nodes)
        token = await asyncio.to_thread(self.nodes[0].token, "publisher")
        async with proxy(self) as port:
            listening = [
                asyncio.create_task(self._listen(n, port if n % 2 else None, 0.0)) for n in range(self.subscribers)
            ]
            await self._until(self._all_ready, "every subscriber connects")
            listening += [
                asyncio.create_task(self._listen(n, port, 0.02))
                for n in range(self.subscribers, self.subscribers + self.newcomers)
            ]
            publishing = [asyncio.create_task(self._publish(token, n)) for n in range(self.publishers)]
            await trouble(self)
            await self._until(
                lambda: self.counts["inserts acknowledged"] >= self.inserts, f"{self.inserts} inserts are acknowledged"
            )
            self._stop = True
            await asyncio.wait_for(asyncio.gather(*publishing), SETTLE_S)
            await self._until(self._complete, "every subscriber has everything")
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)
        for number, node in enumerate(self.nodes):
            await self._look(number, node)
        await self.stop(signal.SIGTERM, *self.nodes)
        self.faults += [line for node in self.nodes for line in node.log if "Traceback" in line]
        log = self._log.rows()
        self.counts["records in the log"] = len(log)
        self.counts["versions ended by the server"] = endings = sum(row.ends is not None for row in log)
        with_end = sum(row.until_us is not None and row.position is not None for row in log)
        self.counts["versions superseded before their end"] = with_end - endings
        self.counts["frames received"] = sum(len(view.seen) for view in self.history.views)
        return [*self.faults, *check(self.history, log)]

    def _complete(self) -> bool:
        """Nothing is pending, no version has yet to end, and every subscriber has got as many as were published."""
        times_us = [max(insert.due_us or 0, insert.until_us or 0) for insert in self.history.inserts.values()]
        if time.time_ns() // 1_000 < max(times_us, default=0) + 100_000 or not self._all_ready():
            return False
        rest = self._log.rest()
        if rest.pending or rest.to_end:
            return False
        return all(view.left or view.position >= rest.head for view in self.history.views)

    def _all_ready(self) -> bool:
        return all(view.left or view.snapshot_end is not None for view in self.history.views)

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SETTLE_S
        while not condition():
            if time.monotonic() > deadline:
                self.faults.append(f"within {SETTLE_S:.0f} s it did not come true that {what}")
                return
            await asyncio.sleep(0.02)

    # Faults

    async def start(self, *nodes: ServerProcess) -> None:
        await asyncio.gather(*[asyncio.to_thread(node.start) for node in nodes])

    async def stop(self, number: int, *nodes: ServerProcess) -> None:
        await asyncio.gather(*[asyncio.to_thread(node.stop, number) for node in nodes])

    async def kill(self, *nodes: ServerProcess, number: int = signal.SIGKILL) -> None:
        """At the same time; and starts them again."""
        await self.stop(number, *nodes)
        self.counts[signal.Signals(number).name] += len(nodes)
        await self.start(*nodes)

    async def freeze(self, node: ServerProcess, seconds: float) -> None:
        node.process.send_signal(signal.SIGSTOP)
        self.counts["SIGSTOP"] += 1
        await asyncio.sleep(seconds)
        node.process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def without_postgres(self, mode: str) -> AsyncIterator[None]:
        assert self.postgres is not None
        await asyncio.to_thread(self.postgres.stop, mode)
        self.counts[f"PostgreSQL stopped ({mode})"] += 1
        yield
        await asyncio.to_thread(self.postgres.start)

    def another(self, node: ServerProcess | None, dice: random.Random) -> ServerProcess:
        """Where a client goes on that has lost its connection to ``node``."""
        return dice.choice([each for each in self.nodes if each is not node] or self.nodes)

    # Clients

    async def _publish(self, token: str, number: int) -> None:
        dice = random.Random(f"{self.seed}-{number}")
        connection = Connection(lambda node: self.another(node, dice), token)
        publisher = Publisher(connection, dice, self.history, self.counts, self.faults)
        await publisher.work(self.pause_s, lambda: self._stop)

    async def _listen(self, number: int, proxy: int | None, leaves: float) -> None:
        """``proxy``: the port of one to go through. ``leaves``: how probable it is, at each part that comes, that it
        goes away and begins anew."""
        dice = random.Random(f"{self.seed}-listener-{number}")
        patience_s = PATIENCE_S if number % 4 < 2 else None
        node: ServerProcess | None = None
        records = number % 3 == 0
        view = View(records=records)
        self.history.views.append(view)
        last_id = b""
        while True:
            with suppress(*GONE):
                node = self.another(node, dice)
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy or node.port, limit=1 << 22)
                try:
                    resume = b"Last-Event-ID: %b\r\n" % last_id if last_id else b""
                    writer.write(_request(records=records, headers=resume))
                    rest = b""
                    while part := await _part(reader, patience_s):
                        *frames, rest = (rest + part).split(b"\n\n")
                        for frame in frames:
                            last_id = _take(frame, view) or last_id
                        if dice.random() < 0.002:
                            self.counts["pauses of a reader"] += 1
                            await asyncio.sleep(dice.uniform(0, 2))
                        if dice.random() < leaves and not self._stop:
                            view.left = True
                            break
                        if len(self.nodes) > 1 and dice.random() < 0.005:
                            self.counts["moves to another node"] += 1
                            break
                    if view.snapshot_end is None and view.seen:
                        self.counts["snapshots cut"] += 1
                finally:
                    writer.transport.abort()
            if view.left:
                self.counts["snapshots"] += view.snapshot_end is not None
                view, last_id = View(records=records), b""
                self.history.views.append(view)
            await asyncio.sleep(dice.choice([0, dice.uniform(0, 0.3)]))  # 0: before another node has heard the same

    async def _look(self, number: int, node: ServerProcess) -> None:
        """Takes snapshots when nothing is published any more: as JSON, and as a new subscriber of either form."""
        rest = self._log.rest()
        last_id = f"{rest.epoch}-{rest.head}"
        self.history.last[f"the snapshot of node {number}"] = await asyncio.to_thread(_snapshot, node, last_id)
        for records in (False, True):
            view = View(records=records)
            self.history.last[f"a new subscriber of node {number}, records={records}"] = view
            reader, writer = await asyncio.open_connection("127.0.0.1", node.port, limit=1 << 22)
            writer.write(_request(records=records))
            try:
                async with asyncio.timeout(READY_S):
                    while view.snapshot_end is None:
                        _take(await reader.readuntil(b"\n\n"), view)
            except GONE as error:
                self.faults.append(f"a new subscriber of node {number} did not get its snapshot: {error!r}")
            finally:
                writer.transport.abort()


async def _part(reader: asyncio.StreamReader, patience_s: float | None) -> bytes:
    """``asyncio.wait_for`` would lose a cancellation that comes together with data (Python 3.11), and the run would
    then wait for this task for ever."""
    async with asyncio.timeout(patience_s):
        return await reader.read(1 << 16)


def _snapshot(node: ServerProcess, last_id: str) -> View:
    """Returns what ``GET /snapshot`` has, as a new subscriber would see it."""
    with node.client() as client:
        response = client.get("/snapshot", params={"last_event_id": last_id}).raise_for_status()
    view = View(snapshot_end=_position(response.headers["last-event-id"].encode()), records=True)
    view.seen = sorted((_seen(record) for record in response.json()), key=lambda seen: seen.position)
    return view


def _request(*, records: bool, headers: bytes = b"") -> bytes:
    return b"GET /events%b HTTP/1.0\r\nHost: localhost\r\n%b\r\n" % (b"?frames=record" if records else b"", headers)


def _take(frame: bytes, view: View) -> bytes:
    """The id that the reader resumes from; an unfinished frame is none, as in a browser."""
    fields = dict(line.split(b": ", 1) for line in frame.splitlines() if b": " in line and not line.startswith(b":"))
    event = fields.get(b"event")
    match event:
        case None:
            if b"data" in fields:
                view.seen.append(_seen(json.loads(fields[b"data"])))
        case b"$ready":
            if view.snapshot_end is None:
                view.snapshot_end = _position(fields[b"id"])
        case b"$reset":
            view.resets += 1
        case b"$skipped":
            view.skips += 1
        case _:
            data = json.loads(fields[b"data"])
            received_us = time.time_ns() // 1_000
            view.seen.append(Seen(_position(fields[b"id"]), event.decode(), data and data["uuid"], received_us))
    return fields.get(b"id", b"")


def _seen(record: Any) -> Seen:
    """What a record says, that came as a whole."""
    data, until = record["data"], record.get("until")
    return Seen(
        _position(record["id"].encode()), record["event"], data and data["uuid"], time.time_ns() // 1_000,
        record["uuid"], None if until is None else round(until * 1e6),
    )  # fmt: skip


def _position(last_id: bytes) -> int:
    return int(last_id.rpartition(b"-")[2])


@asynccontextmanager
async def proxy(run: Run) -> AsyncIterator[int]:
    """Passes connections on to any node, and cuts each one off after a random number of bytes: within a frame."""
    dice = random.Random(f"{run.seed}-proxy")
    tasks: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        left = int(dice.expovariate(1 / 300_000))
        try:
            with suppress(*GONE, asyncio.CancelledError):  # asyncio would ask a cancelled one for its exception
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", run.another(None, dice).port)
                try:
                    up_writer.write(await reader.readuntil(b"\r\n\r\n"))
                    while part := await up_reader.read(4_096):
                        writer.write(part[:left])
                        left -= len(part)
                        if left <= 0:
                            run.counts["connections cut within a frame"] += 1
                            break
                        await writer.drain()
                    await writer.drain()
                finally:
                    up_writer.transport.abort()
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
